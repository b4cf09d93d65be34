"""How well image scores separate abnormal from normal: AUC and AP with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ddad.errors import CohortError, SettingError
from ddad.evaluation.intervals import Interval
from ddad.evaluation.paired_bootstrap import paired_bootstrap


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
    groups: npt.ArrayLike | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ImageMetrics:
    """Measure how scores rank abnormal images above normal ones.

    The intervals are percentiles of a bootstrap over groups (`Resamples`): they ask about other patients. Where each
    image is a group of its own, normals and abnormals are resampled apart from each other.

    Args:
        labels: 0 for a normal image, 1 for an abnormal one.
        scores: One raw score an image, higher for more unusual; only their order matters.
        groups: The group of each image, such as the patient; None where each image is a group of its own.
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
    measured = paired_bootstrap(abnormal, {"": values[None]}, groups, resamples=resamples, seed=seed)[""]
    return ImageMetrics(
        auc=measured["auc"].interval(confidence),
        ap=measured["ap"].interval(confidence),
        normal_count=int(np.sum(~abnormal)),
        abnormal_count=int(np.sum(abnormal)),
    )


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
