from __future__ import annotations

import numpy as np
import pytest

from ddad.evaluation.suspicion import suspicion


def mixture(share: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores of normal and unlabeled images in two folds with levels of their own, and which are abnormal."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=2 * count)
    is_unlabeled = np.arange(2 * count) >= count
    abnormal = is_unlabeled & (random.random(2 * count) < share)
    scores[abnormal] += 3
    folds = np.arange(2 * count) % 2
    return scores * (1 + folds) + 5 * folds, is_unlabeled, folds, abnormal


def alone(count: int) -> np.ndarray:
    return np.arange(count)


def test_abnormal_images_are_suspected_and_normal_ones_are_not() -> None:
    scores, is_unlabeled, folds, abnormal = mixture(0.4, 1000)
    found = suspicion(scores, is_unlabeled, alone(2000), folds)
    assert found.found
    assert found.normal_share == pytest.approx(0.6, abs=0.06)
    assert found.of_each.mean() == pytest.approx(0.4, abs=0.06)
    unlabeled = abnormal[is_unlabeled]
    assert found.of_each[unlabeled].mean() > 0.85
    assert found.of_each[~unlabeled].mean() < 0.12


def test_it_is_a_probability_of_the_mixture() -> None:
    """Of images suspected with 0.5, half are abnormal: against the densities that the scores were drawn from."""
    scores, is_unlabeled, folds, _ = mixture(0.4, 20000)
    found = suspicion(scores, is_unlabeled, alone(40000), folds)
    plain = ((scores - 5 * folds) / (1 + folds))[is_unlabeled]
    normal, abnormal = 0.6 * np.exp(-(plain**2) / 2), 0.4 * np.exp(-((plain - 3) ** 2) / 2)
    true = abnormal / (normal + abnormal)
    assert np.abs(found.of_each - true).mean() < 0.03


def test_a_rare_kind_is_found() -> None:
    scores, is_unlabeled, folds, abnormal = mixture(0.05, 1000)
    found = suspicion(scores, is_unlabeled, alone(2000), folds)
    assert found.found
    assert found.of_each[abnormal[is_unlabeled]].mean() > 10 * found.of_each[~abnormal[is_unlabeled]].mean()


def test_where_nothing_is_there_nothing_is_found() -> None:
    """The test errs in 1 of 1000 draws."""
    found = 0
    for seed in range(40):
        scores, is_unlabeled, folds, _ = mixture(0.0, 300, seed)
        found += suspicion(scores, is_unlabeled, alone(600), folds).found
    assert found == 0


def test_copies_count_once() -> None:
    """A handful of images that stand out by chance, each there five times over, is no finding."""
    found = 0
    for seed in range(20):
        scores, is_unlabeled, _, _ = mixture(0.0, 60, seed)
        scores = np.repeat(scores, 5) + 0.01 * np.random.default_rng(seed).normal(size=600)
        groups = np.repeat(np.arange(120), 5)
        found += suspicion(scores, np.repeat(is_unlabeled, 5), groups, groups % 2).found
    assert found == 0


def test_the_highest_of_all_is_not_beyond_doubt() -> None:
    scores, is_unlabeled, folds, _ = mixture(0.2, 100)
    assert suspicion(scores, is_unlabeled, alone(200), folds).of_each.max() < 1


def test_too_few_images_in_a_fold_suspect_nothing() -> None:
    scores, is_unlabeled, folds, _ = mixture(0.5, 8)
    found = suspicion(scores, is_unlabeled, alone(16), folds)
    assert not found.found
    assert found.of_each.tolist() == [0] * 8
