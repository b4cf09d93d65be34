from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from ddad.errors import CohortError
from ddad.evaluation import delong_test
from ddad.evaluation.delong import delong_interval


def by_definition(labels: list[int], *methods: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Difference in AUC and its standard error by the formulas of DeLong et al. 1988, pair by pair."""
    abnormal = [index for index, label in enumerate(labels) if label]
    normal = [index for index, label in enumerate(labels) if not label]
    aucs, tens, ones = [], [], []
    for scores in methods:
        kernel = np.array(
            [[(scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]) for j in normal] for i in abnormal]
        )
        aucs.append(kernel.mean())
        tens.append(kernel.mean(axis=1))
        ones.append(kernel.mean(axis=0))
    covariance = np.cov(tens) / len(abnormal) + np.cov(ones) / len(normal)
    contrast = np.array([1, -1])
    return aucs[0] - aucs[1], float(np.sqrt(max(contrast @ covariance @ contrast, 0)))


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_formulas_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation([0] * 17 + [1] * 11).tolist()
    signal = rng.normal(size=28) + np.array(labels)
    first, second = (np.round(signal + rng.normal(size=28), 1) for _ in range(2))  # rounded: with ties
    difference, error = by_definition(labels, first, second)

    found = delong_test(labels, first, second)

    assert found.difference == pytest.approx(difference)
    assert found.difference == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second))
    assert found.standard_error == pytest.approx(error)
    assert found.p_value == pytest.approx(2 * (1 - stats.norm.cdf(abs(difference) / error)))


def test_hand_computed() -> None:
    # First: every abnormal above every normal. Second: one of four pairs is wrong.
    found = delong_test([0, 0, 1, 1], [1, 2, 3, 4], [1, 3, 2, 4])
    # Components of the difference: abnormal (0.5, 0), normal (0, 0.5); each variance 1/8, over 2 images.
    assert found.difference == 0.25
    assert found.standard_error == pytest.approx((1 / 8) ** 0.5)


def by_obuchowski(
    labels: list[int], first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], groups: list[str]
) -> float:
    """Standard error of a difference in AUC by the formulas of Obuchowski 1997, cluster by cluster."""
    abnormal = [index for index, label in enumerate(labels) if label]
    normal = [index for index, label in enumerate(labels) if not label]
    kernel = sum(
        sign * np.array([[(s[i] > s[j]) + 0.5 * (s[i] == s[j]) for j in normal] for i in abnormal])
        for sign, s in ((1, first), (-1, second))
    )
    m, n, theta = len(abnormal), len(normal), kernel.mean()
    names = sorted(set(groups))
    tens = [sum(kernel[k].mean() - theta for k, i in enumerate(abnormal) if groups[i] == name) for name in names]
    ones = [sum(kernel[:, k].mean() - theta for k, j in enumerate(normal) if groups[j] == name) for name in names]
    count = len(names)
    count_10, count_01 = (len({groups[index] for index in side}) for side in (abnormal, normal))
    s_10 = count_10 / ((count_10 - 1) * m) * sum(ten**2 for ten in tens)
    s_01 = count_01 / ((count_01 - 1) * n) * sum(one**2 for one in ones)
    s_11 = count / (count - 1) * sum(ten * one for ten, one in zip(tens, ones, strict=True))
    return float(np.sqrt(s_10 / m + s_01 / n + 2 * s_11 / (m * n)))


@pytest.mark.parametrize("seed", range(6))
def test_groups_agree_with_the_formulas_of_obuchowski(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation([0] * 23 + [1] * 17).tolist()
    groups = [f"patient {number}" for number in rng.integers(0, 9, 40)]  # some have images of both kinds
    first, second = (np.round(rng.normal(size=40) + np.array(labels), 1) for _ in range(2))
    found = delong_test(labels, first, second, groups)
    assert found.difference == delong_test(labels, first, second).difference
    assert found.standard_error == pytest.approx(by_obuchowski(labels, first, second, groups))


def test_groups_of_one_image_each_change_nothing() -> None:
    rng = np.random.default_rng(3)
    labels, scores = [0] * 9 + [1] * 8, rng.normal(size=(2, 17))
    alone = delong_test(labels, *scores)
    assert delong_test(labels, *scores, groups=list(range(17))) == alone
    named = delong_test(labels, *scores, groups=[f"p{number}" for number in rng.permutation(17)])
    assert named.standard_error == pytest.approx(alone.standard_error)
    assert delong_interval(labels, scores[0], list(range(17))) == delong_interval(labels, scores[0])


def test_groups_by_hand() -> None:
    # Components less their mean: abnormal (1/4, -1/4), normal (-1/4, 1/4); 2 groups of a normal and an abnormal image.
    labels, first, second = [0, 0, 1, 1], [1, 2, 3, 4], [1, 3, 2, 4]
    # Images 0 and 3, 1 and 2: within a group the components are alike. 1/16 + 1/16 + 2 · 2 · (1/8 + 1/8) / 8 · 1 = 1/4.
    assert delong_test(labels, first, second, ["a", "b", "b", "a"]).standard_error == pytest.approx(0.5)
    # Images 0 and 2, 1 and 3: they cancel out.
    assert delong_test(labels, first, second, ["a", "b", "a", "b"]).standard_error == pytest.approx(0)


def test_slices_of_few_patients_are_no_independent_images() -> None:
    """Of ten patients a side with thirty slices each, p-values are uniform with groups, and far too small without."""
    rng = np.random.default_rng(5)
    labels, patients = np.repeat([0, 1], 300), np.repeat(np.arange(20), 30)
    p_values: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(200):
        first, second = (rng.normal(size=20)[patients] + 0.3 * rng.normal(size=600) for _ in range(2))
        for grouped, found in p_values.items():
            found.append(delong_test(labels, first, second, patients if grouped else None).p_value)
    assert np.mean(np.array(p_values[True]) < 0.05) < 0.12
    assert np.mean(np.array(p_values[False]) < 0.05) > 0.5


def test_fits_are_averaged_before_the_comparison() -> None:
    rng = np.random.default_rng(0)
    labels = [0] * 10 + [1] * 10
    fits, other = rng.normal(size=(3, 20)) + np.array(labels), rng.normal(size=20)
    each = [delong_test(labels, one, other) for one in fits]
    together = delong_test(labels, fits, other)
    assert together.difference == pytest.approx(np.mean([one.difference for one in each]))
    assert together.standard_error < max(one.standard_error for one in each)
    assert delong_test(labels, np.stack([fits[0]] * 3), other).standard_error == pytest.approx(each[0].standard_error)


def test_without_an_effect_p_values_are_uniform() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 60)
    signal = labels + rng.normal(size=(400, 120))
    noise = rng.normal(size=(2, 400, 120))
    p_values = [delong_test(labels, *(one + extra for extra in noise[:, k])).p_value for k, one in enumerate(signal)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=12))
def test_is_antisymmetric_and_zero_for_the_same_scores(pairs: list[tuple[int, int]]) -> None:
    labels = [index % 2 for index in range(len(pairs))]
    first, second = (np.array(scores, dtype=float) for scores in zip(*pairs, strict=True))
    one, other = delong_test(labels, first, second), delong_test(labels, second, first)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_value == pytest.approx(other.p_value, nan_ok=True)  # none where nothing varies
    assert delong_test(labels, first, 3 * first + 1).p_value == 1


def test_complete_certainty_is_no_division_by_zero() -> None:
    assert delong_test([0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 1, 1]).p_value == 0


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(CohortError, match="two normal and two abnormal"):
        delong_test([0, 0, 1], [1, 2, 3], [1, 2, 3])
    with pytest.raises(CohortError, match="4 labels"):
        delong_test([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3])


def test_the_interval_of_an_auc_comes_from_its_components() -> None:
    labels, scores = [0, 0, 0, 0, 1, 1, 1, 1], [1.0, 2.0, 3.0, 4.0, 2.5, 3.5, 4.5, 5.5]
    found = delong_interval(labels, scores)

    # Shares of normals below each abnormal: 2/4, 3/4, 1, 1; of abnormals above each normal: 1, 1, 3/4, 2/4.
    variance = 2 * np.var([0.5, 0.75, 1, 1], ddof=1) / 4
    assert found.estimate == pytest.approx(13 / 16)
    assert found.low == pytest.approx(13 / 16 - 1.959964 * variance**0.5)
    assert found.high == 1.0


def test_groups_that_cannot_be_used_are_named() -> None:
    with pytest.raises(CohortError, match="two normal and two abnormal groups of images; there are 1 and 2"):
        delong_test([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4], ["a", "a", "b", "c"])
    with pytest.raises(CohortError, match=r"4 labels, but groups of shape \(3,\)"):
        delong_test([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4], ["a", "b", "c"])


@pytest.mark.parametrize("patients", [3, 7, 21, 25, 26, 30, 31])
def test_components_that_cancel_out_within_patients_leave_no_variance(patients: int) -> None:
    """Rounding made the variance negative, and its root a complex number."""
    labels, groups = np.repeat([0, 1], patients), np.tile(np.arange(patients), 2)
    found = delong_test(labels, groups.astype(float), np.zeros(2 * patients), groups)
    assert found.difference == pytest.approx(0)
    assert (found.standard_error, found.p_value) == (0, 1)
    interval = delong_interval(labels, groups.astype(float), groups)
    assert [interval.low, interval.high] == pytest.approx([0.5, 0.5])


def test_a_difference_without_variance_has_no_p_value() -> None:
    # Of two patients, whose components cancel out.
    found = delong_test([0, 0, 1, 1], [1, 2, 3, 4], [1, 3, 2, 4], ["a", "b", "a", "b"])
    assert (found.difference, found.standard_error) == (0.25, 0)
    assert np.isnan(found.p_value)
