from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ddad.errors import CohortError
from ddad.evaluation import delong_test, image_metrics, paired_bootstrap

LABELS = np.repeat([0, 1], 80)


def scores(seed: int, strength: float, fits: int = 2) -> np.ndarray:
    return np.round(np.random.default_rng(seed).normal(size=(fits, 160)) + strength * LABELS, 1)


def test_estimates_are_means_over_the_fits() -> None:
    fits = scores(0, 1.0)
    found = paired_bootstrap(LABELS, {"one": fits}, resamples=10)["one"]
    assert found["auc"].estimate == pytest.approx(np.mean([roc_auc_score(LABELS, fit) for fit in fits]))
    assert found["ap"].estimate == pytest.approx(np.mean([average_precision_score(LABELS, fit) for fit in fits]))


def test_the_interval_of_one_fit_is_that_of_image_metrics() -> None:
    fit = scores(1, 1.0, fits=1)
    found = paired_bootstrap(LABELS, {"one": fit}, resamples=2000)["one"]
    single = image_metrics(LABELS, fit[0], resamples=2000)
    for interval, other in ((found["auc"].interval(), single.auc), (found["ap"].interval(), single.ap)):
        assert [interval.low, interval.high] == pytest.approx([other.low, other.high], abs=0.01)


def test_paired_differences_agree_with_delong_and_are_narrower_than_unpaired_ones() -> None:
    first, noise = scores(2, 1.0), np.random.default_rng(9).normal(size=(2, 160)) * 0.3
    found = paired_bootstrap(LABELS, {"first": first, "second": first + noise}, resamples=2000)
    one, other = found["first"]["auc"], found["second"]["auc"]
    test, interval = one.against(other)
    exact = delong_test(LABELS, first, first + noise)
    assert test.difference == pytest.approx(exact.difference)
    assert test.standard_error == pytest.approx(exact.standard_error, rel=0.1)
    assert interval.low < test.difference < interval.high
    assert test.standard_error < 0.5 * np.hypot(one.samples.std(), other.samples.std())


def test_a_method_does_not_differ_from_itself() -> None:
    found = paired_bootstrap(LABELS, {"a": scores(3, 1.0), "b": 2 * scores(3, 1.0)}, resamples=50)
    test, interval = found["a"]["ap"].against(found["b"]["ap"])
    assert (test.difference, test.p_value, interval.low, interval.high) == (0, 1, 0, 0)


def test_both_classes_are_needed() -> None:
    with pytest.raises(CohortError, match="both classes"):
        paired_bootstrap([1, 1], {"a": np.ones((1, 2))})
