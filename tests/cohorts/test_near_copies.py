from __future__ import annotations

import tracemalloc

import numpy as np

from ddad.cohorts import near_copies
from ddad.cohorts.near_copies import joined_groups, near_copy_groups


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 1, 32, 32)).astype(np.float32)


def test_copies_by_contrast_and_mirror_share_a_group_and_others_do_not() -> None:
    first, second = pictures(2)
    images = np.stack([first, 0.4 * first + 0.1, first[:, :, ::-1], second])
    groups = near_copy_groups(images)
    assert len(set(groups[:3].tolist())) == 1
    assert groups[3] != groups[0]


def test_links_chain() -> None:
    first, second = pictures(2)
    images = np.stack([first + share * second for share in (0.0, 0.2, 0.4)])
    assert len(set(near_copy_groups(images).tolist())) == 1
    assert len(set(near_copy_groups(images[[0, 2]]).tolist())) == 2


def test_constant_images_are_like_no_other() -> None:
    assert len(set(near_copy_groups(np.zeros((3, 1, 16, 16), np.float32)).tolist())) == 3


def test_blocks_do_not_matter(monkeypatch) -> None:
    images = pictures(7)
    images[6] = images[0]
    whole = near_copy_groups(images)
    monkeypatch.setattr(near_copies, "_VALUES_AT_ONCE", 14)
    assert (near_copy_groups(images) == whole).all()


def test_images_that_are_all_alike_do_not_fill_the_memory_with_their_links(monkeypatch) -> None:
    images = np.repeat(pictures(1), 1500, axis=0)
    monkeypatch.setattr(near_copies, "_VALUES_AT_ONCE", 2**16)
    tracemalloc.start()
    groups = near_copy_groups(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not groups.any()
    assert peak < 1500**2 * 8  # the places of one side of all links


def test_divisions_are_joined_and_links_chain() -> None:
    joined = joined_groups(["anna", "anna", "bert", "carl", "dora"], np.array([0, 1, 1, 2, 3]))
    assert joined[0] == joined[1] == joined[2]
    assert len(set(joined.tolist())) == 3
    assert len(set(joined_groups(["a", "b"]).tolist())) == 2
