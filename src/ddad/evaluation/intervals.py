"""`Interval`: an estimate between the two ends of its confidence interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Interval:
    """An estimate between the two ends of its confidence interval."""

    estimate: float
    low: float
    high: float


def percentile_interval(estimate: float, samples: npt.NDArray[np.float64], confidence: float) -> Interval:
    """Return the interval that encloses a share `confidence` of the resampled values (resamples,).

    It need not hold the estimate: resampling raises an average precision that is about as low as it can be.
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high))
