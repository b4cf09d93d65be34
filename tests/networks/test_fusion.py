from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddad.networks.fusion import Fusion


def test_the_score_is_the_weighted_sum_of_standardised_evidence() -> None:
    fusion = Fusion([1.0, 0.0])
    fusion.mean.copy_(torch.tensor([1.0, 2.0]))
    fusion.deviation.copy_(torch.tensor([2.0, 4.0]))
    fusion.weight.copy_(torch.tensor([0.5, 3.0]))
    evidence = torch.tensor([[5.0, 10.0]])
    # 0.5 * (5 - 1) / 2 + 3 * (10 - 2) / 4
    assert fusion(evidence).item() == pytest.approx(7.0)


def test_the_scale_is_that_of_normal_images() -> None:
    fusion = Fusion([1.0])
    fusion.fit(np.array([[1.0], [3.0]]), np.array([[10.0], [12.0]]))
    assert fusion.mean.item() == 2.0
    assert fusion.deviation.item() == pytest.approx(2**0.5)


def test_evidence_that_separates_gains_weight_and_evidence_that_does_not_gets_none() -> None:
    random = np.random.default_rng(0)
    normal, unlabeled = random.normal(size=(400, 3)), random.normal(size=(400, 3))
    unlabeled[:, 2] += 2 * (random.random(400) < 0.6)
    fusion = Fusion([0.0, 0.0, 0.0])
    fusion.fit(normal, unlabeled)
    assert fusion.weight[2] > 0.5
    assert fusion.weight[:2].tolist() == [0, 0]


def test_where_the_unlabeled_images_hold_nothing_the_prior_stays() -> None:
    """Useless evidence is taken up once in 20 draws."""
    stays = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        fusion = Fusion([1.0, 0.0, 0.0, 0.0])
        fusion.fit(random.normal(size=(200, 4)), random.normal(size=(160, 4)))
        stays += fusion.weight[1:].tolist() == [0, 0, 0]
    assert stays >= 17


def test_better_evidence_takes_the_place_of_the_prior() -> None:
    random = np.random.default_rng(0)
    normal, unlabeled = random.normal(size=(60, 3)), random.normal(size=(60, 3))
    unlabeled[:, 1] += 3 * (random.random(60) < 0.6)
    fusion = Fusion([1.0, 0.0, 0.0])
    fusion.fit(normal, unlabeled)
    assert fusion.weight[1] > 2 * fusion.weight[0]


@given(st.integers(0, 2**16))
def test_weights_are_never_negative(seed: int) -> None:
    random = np.random.default_rng(seed)
    fusion = Fusion([1.0, 0.0])
    fusion.fit(random.normal(size=(8, 2)), random.normal(size=(6, 2)) - 3)
    assert (fusion.weight >= 0).all()
    assert torch.isfinite(fusion.weight).all()


def test_the_sum_has_a_deviation_of_one() -> None:
    random = np.random.default_rng(3)
    normal, unlabeled = 5 + random.normal(size=(50, 2)), 9 + 4 * random.normal(size=(70, 2))
    fusion = Fusion([1.0, 0.0])
    fusion.fit(normal, unlabeled)
    both = torch.from_numpy(np.concatenate([normal, unlabeled])).float()
    assert fusion(both).std(correction=0).item() == pytest.approx(1, rel=1e-4)


def test_too_few_images_change_nothing() -> None:
    fusion = Fusion([1.0, 0.0])
    fusion.fit(np.zeros((1, 2)), np.ones((5, 2)))
    assert fusion.weight.tolist() == [1.0, 0.0]
    assert fusion.deviation.tolist() == [1.0, 1.0]
