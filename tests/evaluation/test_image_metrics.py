from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from ddad.errors import CohortError, SettingError
from ddad.evaluation import Interval, image_metrics, paired_bootstrap, resampling
from ddad.evaluation.paired_bootstrap import ap_from_counts, auc_from_counts

scored = st.lists(st.integers(-20, 20), min_size=1, max_size=25)


def test_hand_computed_ranking() -> None:
    result = image_metrics([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], resamples=10)
    assert result.auc.estimate == 0.75  # three of four pairs are in order
    assert result.ap.estimate == pytest.approx((1 + 2 / 3) / 2)
    assert (result.normal_count, result.abnormal_count) == (2, 2)


def test_a_tie_counts_half() -> None:
    assert image_metrics([0, 1], [5.0, 5.0], resamples=10).auc.estimate == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_counts_agree_with_scikit_learn_weights_on_random_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    normal, abnormal = rng.integers(0, 4, (6, 9)), rng.integers(0, 4, (6, 9))
    normal[:, 4] += 1
    abnormal[:, 2] += 1
    labels, scores = np.repeat([0, 1], 9), np.tile(np.arange(9), 2)
    for row in range(6):
        weights = np.concatenate([normal[row], abnormal[row]])
        one = slice(row, row + 1)
        assert auc_from_counts(normal[one], abnormal[one]) == pytest.approx(
            roc_auc_score(labels, scores, sample_weight=weights)
        )
        assert ap_from_counts(normal[one], abnormal[one]) == pytest.approx(
            average_precision_score(labels, scores, sample_weight=weights)
        )


def test_interval_agrees_with_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    labels, scores = np.repeat([0, 1], 60), np.round(rng.normal(size=120) + np.repeat([0, 1], 60), 1)
    plain = []
    for _ in range(600):
        take = np.concatenate([rng.integers(0, 60, 60), rng.integers(60, 120, 60)])
        plain.append((roc_auc_score(labels[take], scores[take]), average_precision_score(labels[take], scores[take])))
    result = image_metrics(labels, scores, resamples=2000, confidence=0.9)
    for interval, values in zip((result.auc, result.ap), np.transpose(plain), strict=True):
        assert [interval.low, interval.high] == pytest.approx(np.quantile(values, (0.05, 0.95)), abs=0.015)


def test_intervals_are_those_of_the_one_bootstrap() -> None:
    rng = np.random.default_rng(2)
    labels, groups = np.repeat([0, 1], 60), np.repeat(np.arange(30), 4)
    scores = labels + rng.normal(size=30)[groups]
    found = image_metrics(labels, scores, groups, resamples=300, seed=3)
    measured = paired_bootstrap(labels, {"": scores[None]}, groups, resamples=300, seed=3)[""]
    assert (found.auc, found.ap) == (measured["auc"].interval(), measured["ap"].interval())
    alone = image_metrics(labels, scores, resamples=300, seed=3)
    assert found.auc.high - found.auc.low > 1.5 * (alone.auc.high - alone.auc.low)


def test_chunks_cover_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = [0] * 10 + [1] * 10, list(range(20))
    monkeypatch.setattr(resampling, "_CELLS_PER_CHUNK", 60)
    assert image_metrics(labels, scores, resamples=7).auc == Interval(1.0, 1.0, 1.0)


def test_seed_decides_the_interval() -> None:
    rng = np.random.default_rng(1)
    labels, scores = np.repeat([0, 1], 30), rng.normal(size=60)
    assert image_metrics(labels, scores, seed=3) == image_metrics(labels, scores, seed=3)
    assert image_metrics(labels, scores, seed=3).auc != image_metrics(labels, scores, seed=4).auc


def test_wider_confidence_gives_a_wider_interval_around_the_estimate() -> None:
    half = np.linspace(-1, 1, 41)
    labels, scores = np.repeat([0, 1], 41), np.concatenate([half, half + 0.5])
    narrow = image_metrics(labels, scores, confidence=0.5).auc
    wide = image_metrics(labels, scores, confidence=0.99).auc
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high


def test_an_ap_that_is_about_as_low_as_it_can_be_is_below_its_interval() -> None:
    """An abnormal image that is drawn twice is two hits at its own score; AUC has no such bias."""
    found = image_metrics([0] * 20 + [1] * 20, [*range(100, 120), *range(20)], resamples=200)
    assert found.ap.estimate < found.ap.low
    assert found.auc == Interval(0, 0, 0)


def test_huge_scores_do_not_overflow() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_metrics([0, 1], [-1.7e308, 1.7e308], resamples=5).auc.estimate == 1.0


@settings(max_examples=40, deadline=None)
@given(scored, scored)
def test_auc_depends_on_order_alone_and_turns_with_it(normal: list[int], abnormal: list[int]) -> None:
    labels = [0] * len(normal) + [1] * len(abnormal)
    scores = np.array(normal + abnormal, dtype=float)
    auc = image_metrics(labels, scores, resamples=20)
    assert image_metrics(labels, np.exp(scores / 4) - 7, resamples=20) == auc
    assert image_metrics(labels, -scores, resamples=1).auc.estimate == pytest.approx(1 - auc.auc.estimate)
    for interval in (auc.auc, auc.ap):
        assert 0 <= interval.low <= interval.high <= 1
        assert 0 <= interval.estimate <= 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=15))
def test_interval_contains_one_half_when_both_classes_are_alike(values: list[int]) -> None:
    labels = [0] * len(values) + [1] * len(values)
    auc = image_metrics(labels, values + values, resamples=400).auc
    assert auc.estimate == pytest.approx(0.5)
    assert auc.low <= 0.5 <= auc.high


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.0, 1.0], r"no normal image"),
        ([0, 0], [0.0, 1.0], r"no abnormal image"),
        ([0, 2, 1], [0.0, 1.0, 2.0], r"label 1 is 2"),
        ([0.0, float("nan")], [0.0, 1.0], r"label 1 is nan"),
        ([0, 1], [0.0, float("nan")], r"score 1 is nan"),
        ([0, 1], [float("inf"), 0.0], r"score 0 is inf"),
        ([0, 1], [0.0, 1.0, 2.0], r"shape \(2,\) and scores \(3,\)"),
        ([], [], r"no normal image"),
    ],
)
def test_unusable_input_is_named(labels: list[float], scores: list[float], message: str) -> None:
    with pytest.raises(CohortError, match=message):
        image_metrics(labels, scores)


def test_unusable_settings_are_named() -> None:
    with pytest.raises(SettingError, match="resamples is 0"):
        image_metrics([0, 1], [0, 1], resamples=0)
    with pytest.raises(SettingError, match=r"confidence is 1\.0"):
        image_metrics([0, 1], [0, 1], confidence=1.0)
