"""Many tests at once: Holm's correction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Correct p-values so that one false alarm among all of them is as rare as each single one was (Holm 1979).

    Args:
        p_values: (N,), of N tests; one that is NaN stays so, and counts among the N.

    Returns:
        (N,), in the order given, each at most 1.
    """
    given = np.asarray(p_values, dtype=float)
    order = np.argsort(given, kind="stable")
    raised = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected
