"""Holding normals out so that they are new to the detector."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ddad.cohorts import hold_out_unseen
from ddad.cohorts.held_out import groups_with_copies, joined_with_copies, related
from ddad.cohorts.near_copies import joined_groups
from ddad.cohorts.split import hold_out, hold_out_groups


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 1, 16, 16)).astype(np.float32)


def test_near_copies_are_held_out_together() -> None:
    originals = pictures(20)
    images = np.concatenate([originals, 0.5 * originals[..., ::-1] + 0.1])
    for seed in range(5):
        kept, held, groups, can_be_told = hold_out_unseen(images, [f"image {i}" for i in range(40)], 0.2, seed)
        assert len(held) == 8
        assert not set(kept % 20) & set(held % 20)
        assert len(set(groups)) == 20
        assert can_be_told


def test_the_choice_does_not_depend_on_the_order_of_the_images() -> None:
    originals = pictures(20)
    images, names = np.concatenate([originals, originals]), [f"image {i:02}" for i in range(40)]
    order = np.random.default_rng(1).permutation(40)
    held = {names[i] for i in hold_out_unseen(images, names, 0.3, 0)[1]}
    shuffled = [names[i] for i in order]
    assert {shuffled[i] for i in hold_out_unseen(images[order], shuffled, 0.3, 0)[1]} == held


def test_patients_stay_whole_and_copies_join_them() -> None:
    images = pictures(8)
    images[3] = images[1]
    assert groups_with_copies(images, list("bbcadefg")) == list("aacadefg")


def test_identical_images_stay_together_where_near_copies_cannot_be_told() -> None:
    """The warning says so."""
    base = pictures(1)
    alike = np.concatenate([base + 1e-3 * number for number in range(20)])
    joined, can_be_told = joined_with_copies(np.repeat(alike, 2, axis=0), [f"{number:02d}" for number in range(40)])
    assert not can_be_told
    assert joined == [f"{number - number % 2:02d}" for number in range(40)]


def test_images_that_are_all_alike_keep_their_groups() -> None:
    images = np.repeat(pictures(1), 6, axis=0)
    assert joined_with_copies(images, list("abcdef")) == (list("abcdef"), False)
    assert joined_with_copies(images, ["patient"] * 6) == (["patient"] * 6, True)  # they are together as it is


def test_copies_and_their_groups_and_the_held_out_ones_groups_are_related() -> None:
    images, held = pictures(10), pictures(12)[10:]
    images[1] = 0.5 * held[1][..., ::-1] + 0.1
    found, can_be_told = related(images, list("abbcdefghi"), held, ["h", "another"])
    assert np.flatnonzero(found).tolist() == [1, 2, 8]
    assert can_be_told


def test_where_all_images_are_alike_only_identical_ones_are_related() -> None:
    images = np.repeat(pictures(1), 6, axis=0) + np.arange(6, dtype=np.float32)[:, None, None, None] / 100
    found, can_be_told = related(images, list("abcdef"), images[[2]], ["x"])
    assert np.flatnonzero(found).tolist() == [2]
    assert not can_be_told


def test_joined_groups_chain() -> None:
    assert joined_groups(["p", "q", "q", "r"], np.array([0, 0, 1, 2])).tolist() == [0, 0, 0, 1]


@given(st.integers(2, 60), st.floats(0, 0.99), st.integers(0, 5))
def test_single_images_are_held_out_as_by_share(count: int, share: float, seed: int) -> None:
    names = [str(i) for i in range(count)]
    assert abs(len(hold_out_groups(names, share, seed)[1]) - len(hold_out(names, share, seed)[1])) <= 1
    kept, held = hold_out_groups(names, share, seed)
    assert len(kept) >= 1
    assert sorted([*kept, *held]) == list(range(count))
