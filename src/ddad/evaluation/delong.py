"""The interval of an AUC, and whether two methods differ in it: DeLong, DeLong and Clarke-Pearson (1988).

Where a group (a patient) has several images, these are not independent. Then the structural components of its images
are added up, and the variance is that between groups: Obuchowski (1997), "Nonparametric analysis of clustered ROC
curve data". Where each image is a group of its own, this is DeLong's variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ddad.errors import CohortError
from ddad.evaluation.intervals import Interval
from ddad.evaluation.resampling import group_numbers

_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedTest:
    """A difference, its standard error, and the two-sided p-value of "there is none", NaN where none can be had."""

    difference: float
    standard_error: float
    p_value: float


def delong_test(
    labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, groups: npt.ArrayLike | None = None
) -> PairedTest:
    """Compare the AUC of two methods that scored the same images.

    A method may have several fits, e.g. one for each seed. What is compared then is the mean of their AUCs: it
    is a mean of U-statistics, so that its structural components are the means of those of the fits. The question is
    whether other test images would decide otherwise; the fits are taken as they are.

    The components are found from mid-ranks (Sun and Xu 2014).

    Args:
        labels: (N,), 0 for a normal image, 1 for an abnormal one.
        first: (N,) or (fits, N), raw scores of one method, higher for more unusual.
        second: the same of the other method; it may have another number of fits.
        groups: (N,), of each image, such as the patient; None where each image is a group of its own.

    Raises:
        CohortError: the shapes do not fit, or a class has images of fewer than two groups.
    """
    abnormal = np.asarray(labels).astype(bool)
    members = group_numbers(groups, len(abnormal))
    normal_count, abnormal_count = (len(np.unique(members[side])) for side in (~abnormal, abnormal))
    if min(normal_count, abnormal_count) < 2:
        what = "images" if groups is None else "groups of images"
        raise CohortError(
            f"DeLong's test needs two normal and two abnormal {what}; there are {normal_count} and {abnormal_count}."
        )
    (own_abnormal, own_normal), (other_abnormal, other_normal) = (
        _components(abnormal, np.atleast_2d(scores)) for scores in (first, second)
    )
    difference = float(own_abnormal.mean() - other_abnormal.mean())
    variance = _variance(
        own_abnormal - other_abnormal, own_normal - other_normal, members[abnormal], members[~abnormal]
    )
    return PairedTest(difference, variance**0.5, two_sided_p(difference, variance**0.5))


def delong_interval(
    labels: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike | None = None, *, confidence: float = 0.95
) -> Interval:
    """Return the AUC of scores with its interval, taken as normally distributed and cut at 0 and 1.

    Args:
        labels: (N,), 0 for a normal image, 1 for an abnormal one.
        scores: (N,), raw scores, higher for more unusual.
        groups: (N,), of each image, such as the patient; None where each image is a group of its own.
        confidence: of the interval.

    Raises:
        CohortError: the shapes do not fit, or a class has images of fewer than two groups.
    """
    values = np.asarray(scores, float)
    # A constant score has an AUC of 1/2 and no variance: the difference to it has that of the AUC itself.
    compared = delong_test(labels, values, np.zeros_like(values), groups)
    auc = 0.5 + compared.difference
    reach = float(stats.norm.ppf(0.5 + confidence / 2)) * compared.standard_error
    return Interval(auc, max(0.0, auc - reach), min(1.0, auc + reach))


def two_sided_p(difference: float, standard_error: float) -> float:
    """Return the p-value of a difference that is normally distributed around zero.

    Without a standard error it is 1 where there is no difference and 0 where it is complete, from 0 to 1; else it is
    NaN, because nothing is known of how the difference varies.
    """
    if standard_error < 1e-12:
        certain = {0.0: 1.0, 1.0: 0.0}
        return certain.get(round(abs(difference), 12), math.nan)
    return float(2 * stats.norm.sf(abs(difference) / standard_error))


def _components(
    abnormal: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return for each abnormal image the share of normals below it, and for each normal that of abnormals above."""
    if scores.ndim != 2 or scores.shape[1] != len(abnormal):
        raise CohortError(f"{len(abnormal)} labels, but scores of shape {scores.shape}; give one score an image.")
    counts = {True: int(abnormal.sum()), False: int((~abnormal).sum())}
    ranks = stats.rankdata(scores, axis=1)
    within = {side: stats.rankdata(scores[:, abnormal == side], axis=1) for side in (True, False)}
    below = (ranks[:, abnormal] - within[True]) / counts[False]
    above = 1 - (ranks[:, ~abnormal] - within[False]) / counts[True]
    return below.mean(axis=0), above.mean(axis=0)


def _variance(
    abnormal: npt.NDArray[np.float64],
    normal: npt.NDArray[np.float64],
    abnormal_groups: npt.NDArray[np.int64],
    normal_groups: npt.NDArray[np.int64],
) -> float:
    """Return Obuchowski's variance of the mean of the components (m,) of abnormal and (n,) of normal images."""
    count = int(max(abnormal_groups.max(), normal_groups.max())) + 1
    variance, shares = 0.0, []
    for components, groups in ((abnormal, abnormal_groups), (normal, normal_groups)):
        size = len(components)
        sums = np.bincount(groups, weights=components - components.mean(), minlength=count)
        there = np.unique(groups)
        variance += float(np.sum(sums[there] ** 2)) / (len(there) - 1) * (len(there) / size) / size
        shares.append(sums / size)
    # A group with both kinds of images ties the two sums together. They may cancel out, but for rounding.
    tied = variance + 2 * count / (count - 1) * float(shares[0] @ shares[1])
    return tied if tied > _ROUNDING * variance else 0.0
