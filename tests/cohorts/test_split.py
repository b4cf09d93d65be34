from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddad.cohorts import hold_out
from ddad.cohorts.split import even_group_folds, group_folds, hold_out_groups
from ddad.errors import SettingError


@given(st.lists(st.sampled_from("abcdefghij"), max_size=60), st.floats(0, 0.99), st.integers(0, 2**32))
def test_no_group_is_split_and_no_image_lost(groups: list[str], share: float, seed: int) -> None:
    kept, held = hold_out(groups, share, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(groups)))
    assert kept.tolist() == sorted(kept.tolist())
    assert not {groups[index] for index in kept} & {groups[index] for index in held}
    assert len(kept) > 0 or not groups
    largest = max((groups.count(group) for group in set(groups)), default=0)
    assert len(held) <= share * len(groups) + largest / 2


@pytest.mark.parametrize(("count", "held"), [(40, (4, 4)), (35, (3, 4)), (25, (2, 2))])
def test_single_images_are_held_out_alike_but_for_a_half(count: int, held: tuple[int, int]) -> None:
    groups = [f"patient {index}" for index in range(count)]
    by_images, by_groups = (set(divide(groups, 0.1, 0)[1].tolist()) for divide in (hold_out, hold_out_groups))
    assert (len(by_images), len(by_groups)) == held
    assert by_images <= by_groups


def test_single_images_meet_the_share_exactly() -> None:
    groups = [f"patient {index}" for index in range(200)]
    kept, held = hold_out(groups, 0.1, 0)
    assert (len(kept), len(held)) == (180, 20)
    assert len(hold_out(groups, 0.0, 0)[1]) == 0


def test_the_seed_decides_and_the_order_does_not() -> None:
    groups = [f"patient {index // 3}" for index in range(90)]
    held = {groups[index] for index in hold_out(groups, 0.2, 1)[1]}
    order = np.random.default_rng(0).permutation(90)
    shuffled = [groups[index] for index in order]
    assert {shuffled[index] for index in hold_out(shuffled, 0.2, 1)[1]} == held
    assert {groups[index] for index in hold_out(groups, 0.2, 2)[1]} != held


def test_one_group_is_never_held_out() -> None:
    kept, held = hold_out(["only"] * 5, 0.9, 0)
    assert (len(kept), len(held)) == (5, 0)
    assert len(hold_out(["a", "b"], 0.99, 0)[0]) == 1


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_outside_0_and_1_are_refused(share: float) -> None:
    with pytest.raises(SettingError, match="holdout is"):
        hold_out(["a", "b"], share, 0)


def test_each_image_has_a_fold_copies_stay_together_and_kinds_are_spread() -> None:
    groups, is_unlabeled = np.repeat(np.arange(20), 2), np.arange(40) >= 20
    folds = group_folds(groups, is_unlabeled, 3, 0)
    assert set(folds.tolist()) == {0, 1, 2}
    assert (folds[::2] == folds[1::2]).all()
    for fold in range(3):
        assert 4 <= is_unlabeled[folds == fold].sum() <= 10
    assert (group_folds(groups, is_unlabeled, 3, 0) == folds).all()
    assert (group_folds(groups, is_unlabeled, 3, 1) != folds).any()


def test_images_that_are_all_alike_still_give_folds() -> None:
    folds = group_folds(np.zeros(16, np.int64), np.arange(16) >= 8, 4, 0)
    assert len(set(folds.tolist())) == 4


def test_a_large_group_leaves_the_other_folds_as_many_groups() -> None:
    groups = np.concatenate([np.arange(60), np.full(30, 60), np.arange(61, 131), [0, 1]])
    kinds = np.arange(len(groups)) >= 60
    folds = even_group_folds(groups, kinds, 4, 0)
    assert all(len(set(folds[groups == group])) == 1 for group in range(131))
    for kind in (False, True):
        counts = [len(np.unique(groups[(folds == fold) & (kinds == kind)])) for fold in range(4)]
        assert max(counts) - min(counts) <= 2
    assert (even_group_folds(groups, kinds, 4, 1) != folds).any()
