"""The range of values that shows an image to a person or a network, whatever a few pixels are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PERCENTILES = (0.5, 99.5)


def robust_range(pixels: NDArray[np.float32]) -> tuple[float, float]:
    """Return the 0.5th and the 99.5th percentile of pixels of any shape; where they coincide, the extremes.

    They coincide where a few bright pixels lie on an even ground. Of no pixel at all the range is (0, 1).
    """
    if not pixels.size:
        return 0.0, 1.0
    low, high = (float(level) for level in np.percentile(pixels, _PERCENTILES))
    return (low, high) if high > low else (float(pixels.min()), float(pixels.max()))
