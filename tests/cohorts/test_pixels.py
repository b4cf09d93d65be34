from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from ddad.cohorts import DecodedImage, decode, iterate
from ddad.cohorts import pixels as pixels_module
from ddad.errors import OutputError
from ddad.images import prepare, read_image
from ddad.recipe_sections import Preprocessing

SMALL = Preprocessing(image_size=16)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Eleven images: the third is missing, the sixth truncated, the last smaller than the network's size."""
    paths = [tmp_path / "images" / f"{index:02d} ä.png" for index in range(11)]
    paths[0].parent.mkdir()
    for index, path in enumerate(paths):
        size = 12 if index == 10 else 24
        pixels = np.random.default_rng(index).integers(0, 256, (size, size + 1), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    paths[2].unlink()
    paths[5].write_bytes(paths[5].read_bytes()[:200])
    return paths


GOOD = [0, 1, 3, 4, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("on_disk", [False, True])
def test_good_images_are_kept_in_order_and_bad_ones_named(
    tmp_path: Path, paths: list[Path], workers: int, on_disk: bool
) -> None:
    into = tmp_path / "cache" / "normal.npy" if on_disk else None
    decoded = decode(paths, SMALL, into=into, workers=workers)
    assert decoded.kept == GOOD
    assert decoded.pixels.shape == (9, 1, 16, 16)
    assert decoded.pixels.dtype == np.float32
    for row, index in enumerate(GOOD):
        np.testing.assert_array_equal(decoded.pixels[row], prepare(read_image(paths[index]), SMALL))
    assert [skipped.path for skipped in decoded.skipped] == [paths[2], paths[5]]
    assert decoded.skipped[0].reason.startswith("there is no such file")
    assert [(warning.path, warning.text[:12]) for warning in decoded.warnings] == [(paths[10], "13×12 pixels")]
    with pytest.raises(ValueError, match="read-only"):
        decoded.pixels[0] = 0
    if into is not None:
        assert isinstance(decoded.pixels, np.memmap)
        np.testing.assert_array_equal(np.load(into, allow_pickle=False), decoded.pixels)
        assert [path.name for path in into.parent.iterdir()] == ["normal.npy"]


def test_nothing_usable_gives_an_empty_array(tmp_path: Path, paths: list[Path]) -> None:
    for into in (None, tmp_path / "none.npy"):
        for chosen in ([], [paths[2]]):
            decoded = decode(chosen, SMALL, into=into)
            assert decoded.pixels.shape == (0, 1, 16, 16)
            assert len(decoded.skipped) == len(chosen)


def test_the_header_of_the_file_holds_any_count(tmp_path: Path, paths: list[Path]) -> None:
    many = [paths[0], paths[1]] * 60
    decoded = decode(many, SMALL, into=tmp_path / "many.npy")
    assert len(np.load(tmp_path / "many.npy", allow_pickle=False)) == len(decoded.kept) == 120


def test_progress_is_told_of_each_image(paths: list[Path]) -> None:
    told: list[Any] = []

    class Task:
        def advance(self, steps: int = 1, *, note: str = "") -> None:
            told.append((steps, note))

    class Recorder:
        @contextmanager
        def task(self, title: str, total: int) -> Iterator[Task]:
            told.append((title, total))
            yield Task()

        def message(self, text: str) -> None:
            told.append(text)

    decode(paths, SMALL, progress=Recorder(), title="reading normals")
    assert told[0] == ("reading normals", 11)
    assert told[1:] == [(1, path.name) for path in paths]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_space_is_told_before_any_work(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 10**6 - 5000, 5000))
    monkeypatch.setattr(pixels_module, "read_image", None)
    with pytest.raises(OutputError, match=r"x\.npy: 11 decoded images need .* GB are free\. Free some"):
        decode(paths, SMALL, into=tmp_path / "out" / "x.npy")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing_half_written(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "out" / "x.npy"
    decode(paths[:2], SMALL, into=into)
    before = into.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"x\.npy: the disk is full"):
        decode(paths, SMALL, into=into)
    assert [path.name for path in into.parent.iterdir()] == ["x.npy"]
    assert into.read_bytes() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_come_in_order_with_all_that_is_known(paths: list[Path], workers: int) -> None:
    batches = list(iterate(paths, SMALL, batch=4, workers=workers, prefetch=1))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    images = [image for batch in batches for image in batch]
    assert [image.index for image in images] == list(range(11))
    assert [image.path for image in images] == paths
    assert [image.index for image in images if image.pixels is not None] == GOOD
    assert images[5].reason is not None
    assert images[5].reason.startswith("truncated or damaged PNG")
    assert images[5].source_size is None
    assert images[10].source_size == (12, 13)
    assert images[10].warnings[0].startswith("13×12 pixels")


def test_decoding_runs_ahead_but_not_away(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    ahead = threading.Semaphore(0)

    def record(index: int, path: Path, preprocessing: Preprocessing) -> DecodedImage:
        started.append(index)
        ahead.release()
        return DecodedImage(index, path, reason=preprocessing.intensity)

    monkeypatch.setattr(pixels_module, "_decode_one", record)
    stream = iterate(paths, SMALL, batch=1, workers=1, prefetch=2)
    assert next(stream)[0].index == 0
    for _ in range(4):
        # The one that was taken, and three that wait.
        assert ahead.acquire(timeout=5)
    assert not ahead.acquire(timeout=0.05)
    assert started == [0, 1, 2, 3]
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_rows_that_were_cut_off_by_a_kill_do_not_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(40 * 4, dtype=np.float32).reshape(40, 1, 2, 2)
    pixels_module.save_rows(images, [0, 1, 2], tmp_path / "rows.npy")

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pixels_module, "let_go", killed)
        with pytest.raises(KeyboardInterrupt):
            pixels_module.save_rows(images, range(40), tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), images[:3])
    pixels_module.save_rows(images, range(40), tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), images)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_an_image_that_memory_does_not_suffice_for_is_skipped(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pixels_module, "prepare", starve)
    (batch,) = iterate(paths[:1], Preprocessing())
    assert batch[0].pixels is None
    assert batch[0].reason is not None
    assert "too large for this machine's memory" in batch[0].reason
