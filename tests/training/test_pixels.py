from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddad.training.device import Compute
from ddad.training.pixels import ImagePool


def numbered(*lengths: int) -> list[np.ndarray]:
    """Arrays of images; the pixels of each image are its number within all of them."""
    numbers = iter(np.split(np.arange(sum(lengths), dtype=np.float32), np.cumsum(lengths)[:-1]))
    return [np.broadcast_to(part[:, None, None, None], (len(part), 1, 2, 2)).copy() for part in numbers]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(lambda lengths: sum(lengths) > 0), st.data())
@settings(deadline=None, max_examples=60)
def test_several_arrays_are_addressed_as_one_in_the_order_asked_for(lengths: list[int], data: st.DataObject) -> None:
    pool = ImagePool(numbered(*lengths))
    assert len(pool) == sum(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(pool) - 1), max_size=10))
    batch = pool.batch(np.array(chosen, np.int64))
    assert batch.shape == (len(chosen), 1, 2, 2)
    assert batch.dtype == torch.float32
    assert batch[:, 0, 0, 0].tolist() == chosen
    assert batch[:, 0, 1, 1].tolist() == chosen


def test_files_are_mapped_and_batches_are_copies(tmp_path: Path) -> None:
    paths = []
    for number, array in enumerate(numbered(3, 2)):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], array)
    pool = ImagePool.open(paths)
    assert all(isinstance(array, np.memmap) for array in pool.arrays)
    batch = pool.batch(np.array([4, 0]))
    batch.fill_(-1)
    assert pool.batch(np.array([4, 0]))[:, 0, 0, 0].tolist() == [4, 0]


def test_a_file_of_pickled_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"Python objects|allow_pickle"):
        ImagePool.open([tmp_path / "bad.npy"])


def test_an_empty_pool_is_empty() -> None:
    assert len(ImagePool([])) == 0


@pytest.mark.parametrize("at_once", [2, 1024])
def test_a_copy_in_another_memory_has_the_same_batches(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddad.training.pixels._COPIED_AT_ONCE", at_once)
    pool = (ImagePool(numbered(3)).subset([2, 0]) + ImagePool(numbered(5))).repeated(2)
    places = np.array([13, 0, 6, 1, 1])
    copy = pool.copied_to("cpu")
    assert len(copy) == len(pool)
    assert torch.equal(copy.batch(places), pool.batch(places))


def test_images_are_learned_from_where_they_are_unless_a_gpu_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ImagePool(numbered(4))
    assert pool.near(Compute("cpu", "fp32")) is pool
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (4 * pool.arrays[0].nbytes - 1, 2**40))
    assert pool.near(Compute("cuda", "bf16")) is pool
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (4 * pool.arrays[0].nbytes, 2**40))
    monkeypatch.setattr(pool, "copied_to", lambda device: device)
    assert pool.near(Compute("cuda", "bf16")) == "cuda"
