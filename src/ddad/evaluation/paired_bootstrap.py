"""Bootstrap over test patients, the same resamples for every method: intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ddad.errors import CohortError
from ddad.evaluation.delong import PairedTest, two_sided_p
from ddad.evaluation.intervals import Interval, percentile_interval
from ddad.evaluation.resampling import Resamples

Method = TypeVar("Method", bound=Hashable)


@dataclass(frozen=True)
class Resampled:
    """One measure of one method: on the images themselves, and on every resample of them.

    Attributes:
        estimate: on the images themselves.
        samples: (resamples,), in the same order of resamples for every method.
    """

    estimate: float
    samples: npt.NDArray[np.float64]

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the percentile interval."""
        return percentile_interval(self.estimate, self.samples, confidence)

    def against(self, other: Resampled, confidence: float = 0.95) -> tuple[PairedTest, Interval]:
        """Compare with another method on the same resamples.

        The p-value takes the difference as normally distributed, with the standard deviation of its resamples. Where
        these are all alike, it is that of `two_sided_p` without a standard error.
        """
        differences = self.samples - other.samples
        difference = self.estimate - other.estimate
        error = float(differences.std(ddof=1))
        test = PairedTest(difference, error, two_sided_p(difference, error))
        return test, percentile_interval(difference, differences, confidence)


def paired_bootstrap(
    labels: npt.ArrayLike,
    scores: Mapping[Method, npt.NDArray[np.float64]],
    groups: npt.ArrayLike | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[Method, dict[str, Resampled]]:
    """Resample the images, and measure every method on the same resamples.

    Whole groups are drawn (`Resamples`); where each image is a group of its own, normals and abnormals are drawn apart
    from each other. What is measured of a method with several fits is the mean over them.

    Args:
        labels: (N,), 0 for a normal image, 1 for an abnormal one.
        scores: by method, (fits, N), finite, higher for more unusual.
        groups: (N,), of each image, such as the patient; None where each image is a group of its own.
        resamples: how many.
        seed: of the resampling.

    Returns:
        `{"auc": …, "ap": …}`, both in [0, 1], for each method.

    Raises:
        CohortError: a class is missing, or there is not one group an image.
    """
    abnormal = np.asarray(labels).astype(bool)
    if abnormal.all() or not abnormal.any():
        raise CohortError("AUC and AP need both classes: normal and abnormal images.")
    drawn = Resamples.draw(abnormal, groups, resamples, seed)
    return {name: _measured(fits, drawn) for name, fits in scores.items()}


def _measured(fits: npt.NDArray[np.float64], drawn: Resamples) -> dict[str, Resampled]:
    found: dict[str, list[npt.NDArray[np.float64]]] = {"auc": [], "ap": []}
    for scores in fits:
        blocks = [
            (auc_from_counts(normal, abnormal), ap_from_counts(normal, abnormal))
            for normal, abnormal in drawn.counts(scores)
        ]
        for name, parts in zip(found, zip(*blocks, strict=True), strict=True):
            found[name].append(np.concatenate(parts))
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    # The first row is that of the images themselves.
    return {name: Resampled(float(values[0]), values[1:]) for name, values in means.items()}


def auc_from_counts(normal: npt.NDArray[np.int64], abnormal: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """AUC of many weighted samples at once; ties count half.

    Args:
        normal: (samples, levels), how often normals have each score, from the lowest score to the highest.
        abnormal: The same for abnormals.
    """
    below = np.cumsum(normal, axis=1) - normal
    wins = np.sum(abnormal * (below + 0.5 * normal), axis=1)
    result: npt.NDArray[np.float64] = wins / (normal.sum(axis=1) * abnormal.sum(axis=1))
    return result


def ap_from_counts(normal: npt.NDArray[np.int64], abnormal: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Average precision of many weighted samples at once: precision at each score, weighted by recall gained.

    Args:
        normal: (samples, levels), how often normals have each score, from the lowest score to the highest.
        abnormal: The same for abnormals.
    """
    hits = np.cumsum(abnormal[:, ::-1], axis=1)
    alarms = hits + np.cumsum(normal[:, ::-1], axis=1)
    # Above the highest score that was drawn there are no alarms and no hits: that precision weighs nothing.
    precision = hits / np.maximum(alarms, 1)
    result: npt.NDArray[np.float64] = np.sum(abnormal[:, ::-1] * precision, axis=1) / hits[:, -1]
    return result
