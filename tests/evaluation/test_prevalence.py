"""The share of abnormal images: a lower bound that covers the truth where normal and abnormal can be told apart."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from ddad.evaluation.cross_fitting import appearance, cross_fitted_scores
from ddad.evaluation.prevalence import LEAST, STEPS, Side, chances_of_few, estimate_prevalence, normal_share


def folds_of(
    share: float, seed: int, count: int = 200, distance: float = 3.5, normal_count: int = 200
) -> list[tuple[Side, Side]]:
    random = np.random.default_rng(seed)
    abnormal = round(share * count)
    folds = []
    for _ in range(5):
        others = np.concatenate([random.normal(size=count - abnormal), random.normal(distance, size=abnormal)])
        sides = [random.normal(size=normal_count), others]
        folds.append(tuple(Side(scores, np.arange(len(scores))) for scores in sides))
    return folds  # type: ignore[return-value]


def share_of(folds: list[tuple[Side, Side]], seed: int) -> tuple[float, float, float]:
    random = np.random.default_rng(seed)
    return normal_share(folds, chances_of_few(folds, random), random)


def test_nine_of_ten_intervals_cover_the_truth_where_abnormal_scores_stand_apart() -> None:
    covered = []
    for share in (0, 0.05, 0.2, 0.4, 0.6, 0.8):
        for seed in range(12):
            _, low, high = share_of(folds_of(share, seed), seed)
            covered.append(low <= 1 - share <= max(high, share == 0))
    assert np.mean(covered) >= 0.9


def test_it_is_a_lower_bound_where_they_overlap() -> None:
    estimates = [1 - share_of(folds_of(0.6, seed, distance=1), 0)[0] for seed in range(10)]
    assert 0.1 < np.mean(estimates) < 0.6


def test_few_normal_images_do_not_make_normal_ones_look_abnormal() -> None:
    """Taken for many, 8 normal images a fold make 8 % of normal images abnormal, and most intervals exclude none."""
    found = np.array([share_of(folds_of(0, seed, normal_count=8), seed) for seed in range(16)])
    assert abs(1 - found[:, 0].mean()) < 0.06
    assert (found[:, 2] >= 1).mean() >= 0.9


@pytest.mark.parametrize("count", [2, 8, 60])
def test_the_chances_of_images_that_stand_alone_are_those_of_order_statistics(count: int) -> None:
    folds = folds_of(0, 0, normal_count=count)
    kept = 1 - np.arange(0.1, 0.81, 0.1)
    expected = (kept * (count - 1) + 1) / (count + 1)
    assert chances_of_few(folds, np.random.default_rng(0))[0].mean(axis=0) == pytest.approx(expected, abs=0.04)


def test_the_images_of_a_group_are_not_taken_for_independent() -> None:
    """The chance of a new group of copies to lie below the quantile of 8 is measured, and foretold."""
    random = np.random.default_rng(0)
    sides = [Side(np.repeat(random.normal(size=8), 20), np.repeat(np.arange(8), 20)) for _ in range(200)]
    true = norm.cdf([np.quantile(side.scores, 1 - np.arange(0.1, 0.81, 0.1)) for side in sides]).mean(axis=0)
    foretold = chances_of_few([(side, side) for side in sides[:20]], random)[0].mean(axis=0)
    assert foretold == pytest.approx(true, abs=0.03)


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


def test_an_interval_is_never_narrower_than_if_the_labels_were_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing found among 80 images, 3 of 100 might still be abnormal; with all found, 3 normal."""
    images = np.random.default_rng(0).normal(0, 0.2, (160, 1, 16, 16)).astype(np.float32)
    for share, expected in ((1.3, (0, 1 - 0.025 ** (1 / 80))), (0.0, (0.025 ** (1 / 80), 1))):
        monkeypatch.setattr("ddad.evaluation.prevalence.normal_share", lambda *_, found=share: (found, found, found))
        found = estimate_prevalence(images[:80], images[80:], np.arange(160), seed=0)
        assert found is not None
        assert (found.low, found.high) == pytest.approx(expected)


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
