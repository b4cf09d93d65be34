"""How well heat maps find the abnormal pixels: AP, AUROC, best Dice and per-region overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from ddad.errors import CohortError, SettingError
from ddad.wording import counted

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class PixelMetrics:
    """Measures over all pixels of all images, each in [0, 1].

    Attributes:
        ap: Average precision.
        auroc: Area under the receiver operating characteristic.
        aupro: Area under the per-region overlap curve, up to a limit of the false positive rate, normalised.
        best_dice: The highest Dice that any one threshold reaches: an upper bound, as it looks at the truth.
        best_dice_threshold: That threshold; a pixel is marked when its value is at least this.
    """

    ap: float
    auroc: float
    aupro: float
    best_dice: float
    best_dice_threshold: float


def pixel_metrics(
    masks: Sequence[npt.NDArray[np.bool_]],
    maps: Sequence[npt.NDArray[np.floating[Any]]],
    *,
    pro_integration_limit: float = 0.3,
) -> PixelMetrics:
    """Compare heat maps with the true masks, pixel by pixel and region by region.

    A region is a connected component of a mask (8 neighbours). Every region weighs the same in AUPRO,
    however small (Bergmann et al., 2021).

    Args:
        masks: One (H, W) array an image, true where abnormal; all false for a normal image.
        maps: One (H, W) array an image, higher where more unusual.
        pro_integration_limit: False positive rate up to which AUPRO integrates.

    Raises:
        CohortError: shapes differ, a value is not finite, or there is no abnormal or no normal pixel.
        SettingError: `pro_integration_limit` cannot be used.
    """
    if not 0 < pro_integration_limit <= 1:
        raise SettingError(f"pro_integration_limit is {pro_integration_limit}; it must lie in (0, 1].")
    _check(masks, maps)
    truth = np.concatenate([np.asarray(mask, dtype=bool).ravel() for mask in masks])
    if not truth.any():
        raise CohortError(f"none of {counted(len(masks), 'mask')} has an abnormal pixel: nothing to find.")
    if truth.all():
        raise CohortError(f"all pixels of {counted(len(masks), 'mask')} are abnormal: nothing to tell apart.")
    levels, ranks = np.unique(np.concatenate([np.ravel(one) for one in maps]), return_inverse=True)
    normal = np.bincount(ranks[~truth], minlength=len(levels))[::-1].cumsum()
    abnormal = np.bincount(ranks[truth], minlength=len(levels))[::-1].cumsum()
    # Mean overlap over regions is a weighted recall: each pixel counts one over its region's size.
    overlap = np.bincount(ranks, weights=_region_weights(masks), minlength=len(levels))[::-1].cumsum()
    dice = 2 * abnormal / (abnormal + normal + abnormal[-1])
    best = int(np.argmax(dice))
    return PixelMetrics(
        ap=float(average_precision_score(truth, ranks)),
        auroc=float(roc_auc_score(truth, ranks)),
        aupro=_area_up_to(normal / normal[-1], overlap / overlap[-1], pro_integration_limit),
        best_dice=float(dice[best]),
        best_dice_threshold=float(levels[len(levels) - 1 - best]),
    )


def _check(masks: Sequence[npt.NDArray[Any]], maps: Sequence[npt.NDArray[Any]]) -> None:
    if len(masks) != len(maps) or len(masks) == 0:
        raise CohortError(f"there are {len(masks)} masks and {len(maps)} maps; each image needs one of both.")
    for index, (mask, one) in enumerate(zip(masks, maps, strict=True)):
        if np.ndim(mask) != 2 or np.shape(mask) != np.shape(one):
            raise CohortError(
                f"image {index}: the mask has shape {np.shape(mask)} and the map {np.shape(one)}; "
                "both must be (height, width) and alike."
            )
        if np.asarray(mask).dtype != bool and not np.isin(mask, (0, 1)).all():
            raise CohortError(f"image {index}: the mask has values other than 0 and 1.")
        if not np.isfinite(one).all():
            raise CohortError(f"image {index}: the map has values that are not finite.")


def _region_weights(masks: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    weights = []
    for mask in masks:
        regions, _ = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
        sizes = np.bincount(regions.ravel())
        weight = 1.0 / np.maximum(sizes, 1)
        weight[0] = 0.0
        weights.append(weight[regions.ravel()])
    return np.concatenate(weights)


def _area_up_to(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], limit: float) -> float:
    """Mean height of the curve from (0, 0) through the points (x, y), between 0 and `limit`."""
    x, y = np.concatenate(([0.0], x)), np.concatenate(([0.0], y))
    # The first point at or past the limit closes the area; it is cut where the line crosses the limit.
    end = int(np.searchsorted(x, limit, side="left"))
    x, y = x[: end + 1].copy(), y[: end + 1].copy()
    y[end] = y[end - 1] + (y[end] - y[end - 1]) * (limit - x[end - 1]) / (x[end] - x[end - 1])
    x[end] = limit
    return min(1.0, float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 / limit))
