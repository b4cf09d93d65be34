from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_curve

from ddad.evaluation.curves import roc_and_pr


def test_curves_by_hand() -> None:
    # From the highest score: abnormal, normal, abnormal, normal.
    roc, pr = roc_and_pr([1, 0, 1, 0], [4, 3, 2, 1], resamples=10)

    at = {round(float(x), 2): index for index, x in enumerate(roc.x)}
    assert roc.y[at[0.25]] == pytest.approx(0.5)
    assert roc.y[at[0.75]] == pytest.approx(1.0)
    assert pr.y[at[0.4]] == pytest.approx(1.0)
    assert pr.y[at[0.9]] == pytest.approx(2 / 3)


def test_ties_are_one_step() -> None:
    roc, pr = roc_and_pr([0, 1, 0, 1], [1, 1, 1, 1], resamples=10)

    np.testing.assert_allclose(roc.y, roc.x, atol=1e-12)
    np.testing.assert_allclose(pr.y, 0.5)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_curves_agree_with_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = [int(label) for label, _ in pairs] + [0, 1], [score for _, score in pairs] + [3, 4]
    roc, pr = roc_and_pr(labels, scores, resamples=5)

    rate, sensitivity, _ = roc_curve(labels, scores, drop_intermediate=False)
    away_from_steps = ~np.isclose(roc.x[:, None], rate[None], atol=1e-9).any(axis=1)
    expected = np.interp(roc.x, rate, sensitivity)
    np.testing.assert_allclose(roc.y[away_from_steps], expected[away_from_steps], atol=1e-9)

    precision, recall, _ = precision_recall_curve(labels, scores)
    order = np.arange(len(recall))[::-1]
    for x, y in zip(pr.x[1:], pr.y[1:], strict=True):
        first = next(index for index in order if recall[index] >= x - 1e-9)
        assert y == pytest.approx(precision[first])


def test_a_perfect_score_has_full_precision_at_every_recall_of_its_band() -> None:
    _, pr = roc_and_pr([0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6])
    assert (pr.y == 1).all()
    assert (pr.low == 1).all()


def test_at_recall_0_stands_the_precision_with_the_first_abnormal_image_found() -> None:
    _, pr = roc_and_pr([0, 1, 1], [3, 2, 1], resamples=10)
    assert pr.y[0] == 0.5


def test_the_band_holds_the_curve_and_narrows_with_more_images() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (30, 600):
        labels = np.repeat([0, 1], count)
        roc, _ = roc_and_pr(labels, rng.normal(labels, 1.0), resamples=100)
        assert (roc.low <= roc.high).all()
        assert ((roc.low <= roc.y + 0.1) & (roc.y <= roc.high + 0.1)).all()
        widths.append(float((roc.high - roc.low).mean()))
    assert widths[1] < widths[0] / 2


def test_bands_over_groups_are_those_of_the_groups() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 20)
    scores, places = labels + rng.normal(size=40), np.repeat(np.arange(40), 5)
    for once, slices in zip(
        roc_and_pr(labels, scores, resamples=40),
        roc_and_pr(labels[places], scores[places], places, resamples=40),
        strict=True,
    ):
        np.testing.assert_allclose(slices.low, once.low, atol=1e-9)
        np.testing.assert_allclose(slices.high, once.high, atol=1e-9)
