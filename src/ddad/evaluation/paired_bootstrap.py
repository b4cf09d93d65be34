"""Bootstrap over test images, the same resamples for every method: intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ddad.errors import CohortError
from ddad.evaluation.delong import PairedTest, two_sided_p
from ddad.evaluation.image_metrics import Interval, ap_from_counts, auc_from_counts


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
        return _interval(self.estimate, self.samples, confidence)

    def against(self, other: Resampled, confidence: float = 0.95) -> tuple[PairedTest, Interval]:
        """Compare with another method on the same resamples.

        The p-value takes the difference as normally distributed, with the standard deviation of its resamples.
        """
        differences = self.samples - other.samples
        difference = self.estimate - other.estimate
        error = float(differences.std(ddof=1))
        return PairedTest(difference, error, two_sided_p(difference, error)), _interval(
            difference, differences, confidence
        )


def paired_bootstrap(
    labels: npt.ArrayLike, scores: Mapping[str, npt.NDArray[np.float64]], *, resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Resampled]]:
    """Resample the images, and measure every method on the same resamples.

    Normals and abnormals are drawn apart from each other. What is measured of a method with several fits is the mean
    over them.

    Args:
        labels: (N,), 0 for a normal image, 1 for an abnormal one.
        scores: by method, (fits, N), higher for more unusual.
        resamples: how many.
        seed: of the resampling.

    Returns:
        `{"auc": …, "ap": …}`, both in [0, 1], for each method.

    Raises:
        CohortError: a class is missing.
    """
    abnormal = np.asarray(labels).astype(bool)
    if abnormal.all() or not abnormal.any():
        raise CohortError("AUC and AP need both classes: normal and abnormal images.")
    rng = np.random.default_rng(seed)
    weights = np.ones((resamples + 1, len(abnormal)), dtype=np.int64)  # the first row: the images themselves
    for side in (~abnormal, abnormal):
        count = int(side.sum())
        weights[1:, side] = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return {name: _measured(abnormal, fits, weights) for name, fits in scores.items()}


def _measured(
    abnormal: npt.NDArray[np.bool_], fits: npt.NDArray[np.float64], weights: npt.NDArray[np.int64]
) -> dict[str, Resampled]:
    found: dict[str, list[npt.NDArray[np.float64]]] = {"auc": [], "ap": []}
    for scores in fits:
        order = np.argsort(scores, kind="stable")
        starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
        ordered, side = weights[:, order], abnormal[order]
        normal = np.add.reduceat(ordered * ~side, starts, axis=1)
        positive = np.add.reduceat(ordered * side, starts, axis=1)
        found["auc"].append(auc_from_counts(normal, positive))
        found["ap"].append(ap_from_counts(normal, positive))
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    return {name: Resampled(float(values[0]), values[1:]) for name, values in means.items()}


def _interval(estimate: float, samples: npt.NDArray[np.float64], confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high))
