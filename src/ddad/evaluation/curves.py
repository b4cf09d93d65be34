"""ROC and precision-recall curves with a bootstrap band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_POINTS = 101
_CELLS_PER_CHUNK = 2_000_000
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A curve on an even grid of x from 0 to 1, with the lower and upper end of its band at each x."""

    x: _Floats
    y: _Floats
    low: _Floats
    high: _Floats


def roc_and_pr(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, resamples: int = 300, confidence: float = 0.95, seed: int = 0
) -> tuple[Curve, Curve]:
    """Return sensitivity over the false positive rate, and precision over recall.

    The bands are pointwise percentiles; normals and abnormals are resampled apart from each other.

    Args:
        labels: 0 for a normal image, 1 for an abnormal one; both must be there.
        scores: finite, one an image, higher for more unusual.
        resamples: bootstrap resamples behind the bands.
        confidence: share of the resampled curves that a band encloses at each x.
        seed: of the resampling.
    """
    abnormal = np.asarray(labels).astype(bool)
    levels, ranks = np.unique(np.asarray(scores), return_inverse=True)
    ranks = len(levels) - 1 - ranks  # level 0 is the highest score
    classes = (ranks[~abnormal], ranks[abnormal])
    grid = np.linspace(0, 1, _POINTS)
    normal, hits = (np.bincount(own, minlength=len(levels))[None] for own in classes)
    roc, pr = _curves(normal, hits, grid)
    rng = np.random.default_rng(seed)
    roc_samples, pr_samples = [], []
    chunk = max(1, _CELLS_PER_CHUNK // len(levels))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = [_resampled(own, len(levels), rows, rng) for own in classes]
        sampled = _curves(drawn[0], drawn[1], grid)
        roc_samples.append(sampled[0])
        pr_samples.append(sampled[1])
    return _with_band(grid, roc[0], roc_samples, confidence), _with_band(grid, pr[0], pr_samples, confidence)


def _curves(normal: npt.NDArray[np.int64], abnormal: npt.NDArray[np.int64], grid: _Floats) -> tuple[_Floats, _Floats]:
    """Both curves of each row of counts by level, from the highest score to the lowest."""
    alarms, hits = np.cumsum(normal, axis=1), np.cumsum(abnormal, axis=1)
    false_rate, recall = alarms / alarms[:, -1:], hits / hits[:, -1:]
    # Above the highest drawn score nothing is alarmed: the best precision reached below stands there.
    precision = np.where(hits + alarms > 0, hits / np.maximum(hits + alarms, 1), 0)
    roc, pr = np.empty((len(normal), len(grid))), np.empty((len(normal), len(grid)))
    for row in range(len(normal)):
        roc[row] = _interpolated(grid, false_rate[row], recall[row])
        at = np.minimum(np.searchsorted(recall[row], np.maximum(grid, 1e-12) - 1e-12), len(precision[row]) - 1)
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


def _resampled(
    ranks: npt.NDArray[np.intp], level_count: int, rows: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    drawn = ranks[rng.integers(len(ranks), size=(rows, len(ranks)))] + level_count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * level_count).reshape(rows, level_count)


def _with_band(grid: _Floats, y: _Floats, samples: list[_Floats], confidence: float) -> Curve:
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(samples), (tail, 1 - tail), axis=0)
    return Curve(grid, y, low, high)
