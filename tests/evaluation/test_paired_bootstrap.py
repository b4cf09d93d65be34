from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ddad.errors import CohortError
from ddad.evaluation import Resampled, delong_test, image_metrics, paired_bootstrap
from ddad.evaluation.resampling import Resamples

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


def test_a_patient_with_many_slices_counts_once() -> None:
    """Repeating every image three times changes nothing where the copies are drawn together."""
    fits = scores(4, 1.0)
    once = paired_bootstrap(LABELS, {"one": fits}, resamples=50)["one"]
    places = np.repeat(np.arange(160), 3)
    slices = paired_bootstrap(LABELS[places], {"one": fits[:, places]}, places, resamples=50)["one"]
    for measure in ("auc", "ap"):
        assert slices[measure].samples == pytest.approx(once[measure].samples)
    alone = paired_bootstrap(LABELS[places], {"one": fits[:, places]}, resamples=500)["one"]["auc"]
    assert alone.samples.std() < 0.7 * once["auc"].samples.std()


def test_the_bootstrap_over_groups_agrees_with_obuchowski() -> None:
    rng = np.random.default_rng(6)
    patients = np.repeat(np.arange(60), 10)
    labels = np.where(patients < 20, 0, np.where(patients < 40, 1, np.tile([0, 1], 300)))  # 20 patients with both
    first, second = (labels + rng.normal(size=60)[patients] + 0.5 * rng.normal(size=600) for _ in range(2))
    found = paired_bootstrap(labels, {1: first[None], 2: second[None]}, patients, resamples=2000)
    test, _ = found[1]["auc"].against(found[2]["auc"])
    exact = delong_test(labels, first, second, patients)
    assert test.difference == pytest.approx(exact.difference)
    assert test.standard_error == pytest.approx(exact.standard_error, rel=0.15)


def test_groups_of_one_image_each_change_nothing() -> None:
    fits = scores(7, 1.0)
    alone = paired_bootstrap(LABELS, {"one": fits}, resamples=30)["one"]["ap"]
    grouped = paired_bootstrap(LABELS, {"one": fits}, [f"{number:03d}" for number in range(160)], resamples=30)
    np.testing.assert_array_equal(grouped["one"]["ap"].samples, alone.samples)


def test_neither_class_vanishes_from_a_resample_of_few_groups() -> None:
    labels, groups = [0, 0, 1, 0, 1], ["a", "a", "b", "c", "c"]  # one group of each kind
    found = paired_bootstrap(labels, {"one": np.array([[1.0, 2.0, 3.0, 2.5, 2.0]])}, groups, resamples=20)["one"]
    assert np.isfinite(found["auc"].samples).all()
    with pytest.raises(CohortError, match=r"5 labels, but groups of shape \(4,\)"):
        paired_bootstrap(labels, {"one": np.ones((1, 5))}, groups[1:])


def test_a_kind_of_one_patient_varies_with_another() -> None:
    """Normals of patients 0 and 2, abnormals of 1 and 2: each kind drawn apart, all resamples were alike."""
    labels, patients = np.array([0, 0, 1, 1, 0, 1]), [0, 0, 1, 1, 2, 2]
    first, second = np.array([[1.0, 2.0, 3.0, 4.0, 2.5, 1.5]]), np.array([[3.0, 1.0, 2.0, 4.0, 1.5, 2.5]])
    found = paired_bootstrap(labels, {1: first, 2: second}, patients, resamples=200)
    assert found[1]["auc"].samples.std() > 0
    test, _ = found[1]["ap"].against(found[2]["ap"])
    assert 0.01 < test.p_value < 1


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["n", "n", "a", "a", "b", "b"], [[0, 1], [2, 3], [4, 5]]),
        (["n", "a", "a", "b", "b"], [[1, 2], [0, 3, 4]]),
        (["n", "n", "a", "a", "b"], [[0, 1], [2, 3, 4]]),
        (["n", "n", "b"], [[0, 1, 2]]),
        (["n", "a", "b"], [[0, 1, 2]]),
        (["n", "n", "a"], [[0, 1], [2]]),  # nothing shares a class with it
    ],
)
def test_kinds_of_patients_are_drawn_apart_if_they_have_two(kinds: list[str], expected: list[list[int]]) -> None:
    labels = [label for kind in kinds for label in {"n": [0], "a": [1], "b": [0, 1]}[kind]]
    groups = [number for number, kind in enumerate(kinds) for _ in range(2 if kind == "b" else 1)]
    times = Resamples.draw(labels, groups, 500, 0).times
    assert (times[0] == 1).all()
    for together in expected:
        assert (times[:, together].sum(axis=1) == len(together)).all()
        assert (times[1:, together].std(axis=0) > 0).all() == (len(together) > 1)
    for label in (0, 1):  # neither class vanishes
        of_class = sorted({group for group, own in zip(groups, labels, strict=True) if own == label})
        assert times[:, of_class].any(axis=1).all()


def test_resamples_that_are_all_alike_give_no_p_value() -> None:
    one, other = Resampled(0.8, np.full(50, 0.8)), Resampled(0.6, np.full(50, 0.6))
    assert np.isnan(one.against(other)[0].p_value)
    assert one.against(one)[0].p_value == 1
