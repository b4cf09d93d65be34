from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddad.networks.fusion import Fusion, _separate, _Sides


def drawn(seed: int, count: int, kinds: int, share: float, seeing: dict[int, float]) -> tuple[np.ndarray, ...]:
    """Evidence of normal and unlabeled images, `seeing` the abnormal ones by so much, and how suspected those are."""
    random = np.random.default_rng(seed)
    normal, unlabeled = random.normal(size=(count, kinds)), random.normal(size=(count, kinds))
    abnormal = random.random(count) < share
    for kind, shift in seeing.items():
        unlabeled[abnormal, kind] += shift
    return normal, unlabeled, 0.1 + 0.8 * abnormal


def test_the_score_is_the_weighted_sum_of_standardised_evidence() -> None:
    fusion = Fusion(2)
    fusion.mean.copy_(torch.tensor([1.0, 2.0]))
    fusion.deviation.copy_(torch.tensor([2.0, 4.0]))
    fusion.weights.copy_(torch.tensor([0.5, 3.0]))
    evidence = torch.tensor([[5.0, 10.0]])
    # 0.5 * (5 - 1) / 2 + 3 * (10 - 2) / 4
    assert fusion(evidence).item() == pytest.approx(7.0)


def test_the_scale_is_that_of_normal_images() -> None:
    fusion = Fusion(1)
    fusion.fit(np.array([[1.0], [3.0]]), np.array([[10.0], [12.0]]), np.ones(2), 1.0)
    assert fusion.mean.item() == 2.0
    assert fusion.deviation.item() == pytest.approx(2**0.5)


def test_the_last_kind_counts_where_it_separates_and_what_sees_nothing_gets_no_weight() -> None:
    fusion = Fusion(3)
    fusion.fit(*drawn(0, 1000, 3, 0.6, {2: 2.0}), 0.6)
    assert fusion.weights[0] < 0.2 * fusion.weights[2]
    assert fusion.weights[1] == 0


def test_kinds_of_evidence_that_see_alike_get_like_weights() -> None:
    fusion = Fusion(3)
    fusion.fit(*drawn(0, 1000, 3, 0.6, {0: 2.0, 1: 2.0, 2: 2.0}), 0.6)
    assert fusion.weights.tolist() == pytest.approx([float(fusion.weights.mean())] * 3, rel=0.25)


def test_where_hardly_an_image_is_suspected_the_first_kind_is_the_score() -> None:
    random = np.random.default_rng(0)
    fusion = Fusion(3)
    fusion.fit(random.normal(size=(200, 3)), random.normal(size=(200, 3)), 1e-3 * random.random(200), 0.0)
    assert fusion.weights[0] > 5 * fusion.weights[1:].sum()


def test_useless_evidence_is_seldom_taken_up() -> None:
    taken = 0
    for seed in range(20):
        normal, unlabeled, suspicion = drawn(seed, 200, 4, 0.5, {0: 2.0, 3: 2.0})
        fusion = Fusion(4)
        fusion.fit(normal, unlabeled, suspicion, 0.5)
        taken += bool(fusion.weights[1:3].any())
    assert taken <= 3


def test_evidence_that_sees_another_difference_between_the_two_sets_is_left_out() -> None:
    """Normal images of the pile are unlike the known ones in a way of their own, which abnormal ones are not."""
    normal, unlabeled, suspicion = drawn(0, 400, 2, 0.6, {1: 2.0})
    unlabeled[:, 0] += np.where(suspicion > 0.5, 1, 3)
    fusion = Fusion(2)
    fusion.fit(normal, unlabeled, suspicion, 0.6)
    assert fusion.weights[0] == 0
    assert fusion.weights[1] > 0


@given(st.integers(0, 2**16))
def test_weights_are_never_negative_and_never_all_zero(seed: int) -> None:
    random = np.random.default_rng(seed)
    fusion = Fusion(3)
    fusion.fit(random.normal(size=(8, 3)), random.normal(size=(6, 3)) - 3, random.random(6), random.random())
    assert (fusion.weights >= 0).all()
    assert fusion.weights.any()
    assert torch.isfinite(fusion.weights).all()


def test_the_sum_has_a_deviation_of_one() -> None:
    random = np.random.default_rng(3)
    normal, unlabeled = 5 + random.normal(size=(50, 2)), 9 + 4 * random.normal(size=(70, 2))
    fusion = Fusion(2)
    fusion.fit(normal, unlabeled, np.ones(70), 1.0)
    both = torch.from_numpy(np.concatenate([normal, unlabeled])).float()
    assert fusion(both).std(correction=0).item() == pytest.approx(1, rel=1e-4)


def test_too_few_images_change_nothing() -> None:
    fusion = Fusion(2)
    fusion.fit(np.zeros((1, 2)), np.ones((5, 2)), np.ones(5), 1.0)
    assert fusion.weights.tolist() == [1.0, 0.0]
    assert fusion.deviation.tolist() == [1.0, 1.0]


def test_the_weight_is_the_slope_of_the_tilt_whatever_the_share() -> None:
    """Of Gaussians a distance d apart, the density ratio is exp(d·x - d²/2)."""
    for share in (0.2, 0.6):
        normal, unlabeled, _ = drawn(1, 20000, 1, share, {0: 2.0})
        sides = _Sides(np.repeat([-1.0, 1.0], 20000), np.full(40000, share))
        weight, _ = _separate(np.concatenate([normal, unlabeled]), sides, np.zeros(1))
        assert weight[0] == pytest.approx(2, rel=0.05)


def test_a_rare_kind_that_one_kind_of_evidence_sees_clearly_outweighs_the_prior() -> None:
    normal, unlabeled, suspicion = drawn(0, 1000, 2, 0.05, {1: 5.0})
    fusion = Fusion(2)
    fusion.fit(normal, unlabeled, suspicion, 0.05)
    assert fusion.weights[1] > 2 * fusion.weights[0]


def test_kinds_that_weigh_alike_are_summed_in_deviations_of_normal_images() -> None:
    normal = np.array([[0.0, 100.0], [2.0, 300.0], [4.0, 200.0]])
    fusion = Fusion(2)
    fusion.weigh_alike(normal)
    # Standardised: (-1, -1), (0, 1), (1, 0); the sums -2, 1, 1 have a deviation of √2.
    found = fusion(torch.tensor([[2.0, 200.0], [4.0, 200.0], [2.0, 300.0]]))
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 1.0]) / 2**0.5)


def test_normal_images_that_are_all_the_same_leave_a_score() -> None:
    fusion = Fusion(2)
    fusion.weigh_alike(np.full((5, 2), 0.25))
    assert torch.isfinite(fusion(torch.tensor([[0.5, 0.25]]))).all()
