"""ROC and precision-recall curves with a bootstrap band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ddad.evaluation.resampling import Resamples

_POINTS = 101
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A curve on an even grid of x from 0 to 1, with the lower and upper end of its band at each x."""

    x: _Floats
    y: _Floats
    low: _Floats
    high: _Floats


def roc_and_pr(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    resamples: int = 300,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[Curve, Curve]:
    """Return sensitivity over the false positive rate, and precision over recall.

    The bands are pointwise percentiles of a bootstrap over groups (`Resamples`).

    Args:
        labels: 0 for a normal image, 1 for an abnormal one; both must be there.
        scores: finite, one an image, higher for more unusual.
        groups: of each image, such as the patient; None where each image is a group of its own.
        resamples: bootstrap resamples behind the bands.
        confidence: share of the resampled curves that a band encloses at each x.
        seed: of the resampling.

    Raises:
        CohortError: there is not one group an image.
    """
    grid = np.linspace(0, 1, _POINTS)
    drawn = Resamples.draw(labels, groups, resamples, seed)
    blocks = [
        _curves(normal[:, ::-1], abnormal[:, ::-1], grid) for normal, abnormal in drawn.counts(np.asarray(scores))
    ]
    roc, pr = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return _with_band(grid, roc, confidence), _with_band(grid, pr, confidence)


def _curves(normal: npt.NDArray[np.int64], abnormal: npt.NDArray[np.int64], grid: _Floats) -> tuple[_Floats, _Floats]:
    """Both curves of each row of counts by level, from the highest score to the lowest."""
    alarms, hits = np.cumsum(normal, axis=1), np.cumsum(abnormal, axis=1)
    false_rate, recall = alarms / alarms[:, -1:], hits / hits[:, -1:]
    # Above the highest drawn score nothing is alarmed: no precision, and no point of the curve.
    precision = np.where(hits + alarms > 0, hits / np.maximum(hits + alarms, 1), 0)
    roc, pr = np.empty((len(normal), len(grid))), np.empty((len(normal), len(grid)))
    for row in range(len(normal)):
        roc[row] = _interpolated(grid, false_rate[row], recall[row])
        # At recall 0 stands the precision with the first abnormal image found.
        at = np.minimum(np.searchsorted(recall[row], np.maximum(grid - 1e-12, 1e-15)), len(precision[row]) - 1)
        pr[row] = precision[row][at]
    return roc, pr


def _interpolated(grid: _Floats, false_rate: _Floats, recall: _Floats) -> _Floats:
    """Sensitivity at each false positive rate; at a vertical step, its upper end."""
    x, y = np.concatenate([[0.0], false_rate]), np.concatenate([[0.0], recall])
    last = np.concatenate([x[1:] > x[:-1], [True]])
    first = np.concatenate([[True], x[1:] > x[:-1]])
    ends, starts = np.searchsorted(x[last], grid), np.maximum(np.searchsorted(x[first], grid, side="right") - 1, 0)
    # Between two rates the straight line runs from the upper end of the left one to the lower end of the right one.
    right = np.minimum(ends, last.sum() - 1)
    left_x, left_y = x[first][starts], y[last][starts]
    right_x, right_y = x[last][right], y[first][right]
    span = right_x - left_x
    share = np.divide(grid - left_x, span, out=np.zeros_like(grid), where=span > 0)
    result: _Floats = np.where(span > 0, left_y + share * (right_y - left_y), left_y)
    return result


def _with_band(grid: _Floats, curves: _Floats, confidence: float) -> Curve:
    """Make a curve of the first row and its band of the others."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(curves[1:], (tail, 1 - tail), axis=0)
    return Curve(grid, curves[0], low, high)
