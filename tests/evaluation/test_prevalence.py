"""The share of abnormal images: a lower bound that covers the truth where normal and abnormal can be told apart."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ddad.evaluation.cross_fitting import appearance, cross_fitted_scores
from ddad.evaluation.prevalence import LEAST, STEPS, Side, estimate_prevalence, normal_share


def folds_of(share: float, seed: int, count: int = 200, distance: float = 3.5) -> list[tuple[Side, Side]]:
    random = np.random.default_rng(seed)
    abnormal = round(share * count)
    folds = []
    for _ in range(5):
        others = np.concatenate([random.normal(size=count - abnormal), random.normal(distance, size=abnormal)])
        sides = [random.normal(size=count), others]
        folds.append(tuple(Side(scores, np.arange(len(scores))) for scores in sides))
    return folds  # type: ignore[return-value]


def test_nine_of_ten_intervals_cover_the_truth_where_abnormal_scores_stand_apart() -> None:
    covered = []
    for share in (0, 0.05, 0.2, 0.4, 0.6, 0.8):
        for seed in range(8):
            _, low, high = normal_share(folds_of(share, seed), np.random.default_rng(seed))
            covered.append(low <= 1 - share <= max(high, share == 0))
    assert np.mean(covered) >= 0.9


def test_it_is_a_lower_bound_where_they_overlap() -> None:
    estimates = [1 - normal_share(folds_of(0.6, seed, distance=1), np.random.default_rng(0))[0] for seed in range(10)]
    assert 0.1 < np.mean(estimates) < 0.6


def pictures(count: int, seed: int, *, abnormal: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    images = random.normal(0, 0.2, (count, 1, 16, 16)).astype(np.float32)
    images[:abnormal, :, 4:9, 4:9] += 1
    return images


def test_images_with_a_bright_square_are_counted() -> None:
    normal, unlabeled = pictures(150, 0), pictures(150, 1, abnormal=60)
    found = estimate_prevalence(normal, unlabeled, np.arange(300), seed=0)
    assert found is not None
    assert found.low <= 0.4 <= found.high
    assert found.estimate == pytest.approx(0.4, abs=0.15)
    assert (found.normal_count, found.unlabeled_count) == (150, 150)
    steps: list[None] = []
    assert found == estimate_prevalence(normal, unlabeled, np.arange(300), seed=0, advance=lambda: steps.append(None))
    assert len(steps) == STEPS


def test_too_few_images_or_groups_give_no_estimate() -> None:
    few, enough = pictures(LEAST - 1, 0), pictures(LEAST, 1)
    assert estimate_prevalence(few, enough, np.arange(2 * LEAST - 1), seed=0) is None
    assert estimate_prevalence(enough, enough, np.arange(2 * LEAST) // 20, seed=0) is None


def test_scores_of_a_fold_come_from_a_classifier_that_has_not_seen_its_groups() -> None:
    """The kind of an image is drawn by lot, and copies share a group: memory would separate, knowledge cannot."""
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(60, 5)), 4, axis=0).astype(np.float32)
    groups, is_unlabeled = np.repeat(np.arange(60), 4), np.repeat(random.permutation(60) % 2 == 0, 4)
    seen = np.zeros(240, int)
    ranks = []
    for places, scores in cross_fitted_scores(features, is_unlabeled, groups, folds=5, seed=0):
        seen[places] += 1
        ranks.append((scores[is_unlabeled[places]][:, None] > scores[~is_unlabeled[places]]).mean())
        others = np.setdiff1d(np.arange(240), places)
        assert not set(groups[places]) & set(groups[others])
    assert (seen == 1).all()
    assert abs(np.mean(ranks) - 0.5) < 0.2


def test_appearance_is_brightness_contrast_and_sharpness_by_cells() -> None:
    images = np.zeros((2, 1, 32, 32), np.float32)
    images[1, :, :, 16:] = 1
    flat, split = appearance(images, np.array([0, 1]))
    assert flat.shape == (384,)
    assert not flat.any()
    assert split[:256].reshape(16, 16)[:, 8:].min() == 1
    assert not split[256:320].any()
    assert (split[320:].reshape(8, 8)[:, 3:5] > 0).all()
