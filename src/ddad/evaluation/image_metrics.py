"""How well image scores separate abnormal from normal: AUC and AP with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from ddad.errors import CohortError, SettingError

_CELLS_PER_CHUNK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate between the two ends of its confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class ImageMetrics:
    """AUC and average precision (both in [0, 1]) of one set of scored images."""

    auc: Interval
    ap: Interval
    normal_count: int
    abnormal_count: int


def image_metrics(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ImageMetrics:
    """Measure how scores rank abnormal images above normal ones.

    Normals and abnormals are resampled apart from each other, so that neither class ever vanishes.

    Args:
        labels: 0 for a normal image, 1 for an abnormal one.
        scores: One raw score an image, higher for more unusual; only their order matters.
        resamples: Bootstrap resamples behind each percentile interval.
        confidence: Share of the resampled values that an interval encloses.
        seed: Seed of the resampling.

    Raises:
        CohortError: a class is missing, a label is not 0 or 1, a score is not finite, or the lengths differ.
        SettingError: `resamples` or `confidence` cannot be used.
    """
    if resamples < 1:
        raise SettingError(f"resamples is {resamples}; it must be at least 1.")
    if not 0 < confidence < 1:
        raise SettingError(f"confidence is {confidence}; it must lie between 0 and 1.")
    abnormal, values = _checked(labels, scores)
    # Ranks instead of raw scores: scikit-learn takes differences, which overflow for huge scores.
    levels, ranks = np.unique(values, return_inverse=True)
    auc, ap = float(roc_auc_score(abnormal, ranks)), float(average_precision_score(abnormal, ranks))
    auc_samples, ap_samples = _bootstrap(
        ranks[~abnormal], ranks[abnormal], len(levels), resamples, np.random.default_rng(seed)
    )
    return ImageMetrics(
        auc=_interval(auc, auc_samples, confidence),
        ap=_interval(ap, ap_samples, confidence),
        normal_count=int(np.sum(~abnormal)),
        abnormal_count=int(np.sum(abnormal)),
    )


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


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
    label_array, score_array = np.asarray(labels), np.asarray(scores)
    if label_array.ndim != 1 or label_array.shape != score_array.shape:
        raise CohortError(
            f"labels have shape {label_array.shape} and scores {score_array.shape}; "
            "both must be one list with one entry an image."
        )
    foreign = ~np.isin(label_array, (0, 1))
    if foreign.any():
        at = int(np.argmax(foreign))
        raise CohortError(f"label {at} is {label_array[at]!s}; labels must be 0 (normal) or 1 (abnormal).")
    abnormal = label_array.astype(bool)
    for present, name, digit in ((~abnormal, "normal", 0), (abnormal, "abnormal", 1)):
        if not present.any():
            raise CohortError(f"AUC and AP need both classes: there is no {name} image (label {digit}).")
    lost = ~np.isfinite(score_array)
    if lost.any():
        at = int(np.argmax(lost))
        raise CohortError(f"score {at} is {score_array[at]!s}; {int(lost.sum())} scores are not finite.")
    return abnormal, score_array


def _bootstrap(
    normal_ranks: npt.NDArray[np.intp],
    abnormal_ranks: npt.NDArray[np.intp],
    level_count: int,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    auc = np.empty(resamples)
    ap = np.empty(resamples)
    chunk = max(1, _CELLS_PER_CHUNK // (len(normal_ranks) + len(abnormal_ranks)))
    for start in range(0, resamples, chunk):
        here = slice(start, min(start + chunk, resamples))
        rows = here.stop - here.start
        normal = _resampled_counts(normal_ranks, level_count, rows, rng)
        abnormal = _resampled_counts(abnormal_ranks, level_count, rows, rng)
        auc[here] = auc_from_counts(normal, abnormal)
        ap[here] = ap_from_counts(normal, abnormal)
    return auc, ap


def _resampled_counts(
    ranks: npt.NDArray[np.intp], level_count: int, rows: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    drawn = ranks[rng.integers(len(ranks), size=(rows, len(ranks)))]
    drawn += level_count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * level_count).reshape(rows, level_count)


def _interval(estimate: float, samples: npt.NDArray[np.float64], confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high))
