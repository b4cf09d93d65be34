from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ddad.errors import CohortError, SettingError
from ddad.evaluation import pixel_metrics

Masks = list[npt.NDArray[np.bool_]]
Maps = list[npt.NDArray[np.float64]]


def random_case(seed: int, *, levels: int = 12, shape: tuple[int, int] = (11, 9)) -> tuple[Masks, Maps]:
    rng = np.random.default_rng(seed)
    masks = [rng.random(shape) < 0.15, np.zeros(shape, dtype=bool), rng.random(shape) < 0.05]
    masks[0][2:5, 2:6] = True
    return masks, [np.floor(levels * (rng.random(shape) + 0.3 * mask)) for mask in masks]


def overlap_by_the_book(masks: Masks, maps: Maps, limit: float) -> float:
    """Threshold by threshold and region by region, as the definition reads."""
    curve = [(0.0, 0.0)]
    for threshold in np.unique(np.stack(maps))[::-1]:
        shares, false, normal = [], 0, 0
        for mask, one in zip(masks, maps, strict=True):
            marked = one >= threshold
            regions, count = ndimage.label(mask, np.ones((3, 3)))
            shares += [marked[regions == region].mean() for region in range(1, count + 1)]
            false, normal = false + int(np.sum(marked & ~mask)), normal + int(np.sum(~mask))
        curve.append((false / normal, float(np.mean(shares))))
    rates, overlaps = np.transpose(curve)
    grid = np.linspace(0, limit, 200_001)
    return float(np.mean(np.interp(grid, rates, overlaps)))


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn_on_pooled_pixels(seed: int) -> None:
    masks, maps = random_case(seed)
    truth, values = np.stack(masks).ravel(), np.stack(maps).ravel()
    result = pixel_metrics(masks, maps)
    assert result.ap == pytest.approx(average_precision_score(truth, values))
    assert result.auroc == pytest.approx(roc_auc_score(truth, values))
    precision, recall, _ = precision_recall_curve(truth, values)
    assert result.best_dice == pytest.approx(np.max(2 * precision * recall / (precision + recall + 1e-12)))
    marked = values >= result.best_dice_threshold
    assert result.best_dice == pytest.approx(2 * np.sum(marked & truth) / (np.sum(marked) + np.sum(truth)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_overlap_agrees_with_the_definition(seed: int, limit: float) -> None:
    masks, maps = random_case(seed)
    found = pixel_metrics(masks, maps, pro_integration_limit=limit).aupro
    assert found == pytest.approx(overlap_by_the_book(masks, maps, limit), abs=2e-4)


def test_hand_computed_overlap_weighs_regions_not_pixels() -> None:
    mask = np.zeros((4, 10), dtype=bool)
    mask[0, :4] = True
    mask[3, 9] = True
    heat = np.where(mask, 0.0, 1.0)
    heat[0, :4] = 2.0
    # The large region is found before any false alarm, the small one only after all of them.
    assert pixel_metrics([mask], [heat]).aupro == pytest.approx(0.5)


def test_corners_join_a_region() -> None:
    mask = np.eye(4, dtype=bool)
    heat = np.zeros((4, 4))
    heat[0, 0] = 1.0
    # One region a quarter found: from (0, 1/4) a straight line to (1, 1).
    assert pixel_metrics([mask], [heat]).aupro == pytest.approx(0.25 + 0.75 * 0.3 / 2)


def test_a_constant_map_scores_as_chance() -> None:
    masks, _ = random_case(0)
    result = pixel_metrics(masks, [np.ones(mask.shape) for mask in masks])
    share = np.stack(masks).mean()
    assert result.auroc == 0.5
    assert result.ap == pytest.approx(share)
    assert result.aupro == pytest.approx(0.15)
    assert result.best_dice == pytest.approx(2 * share / (1 + share))


def test_images_may_have_different_shapes() -> None:
    masks = [np.eye(3, dtype=bool), np.zeros((5, 4), dtype=bool)]
    assert pixel_metrics(masks, [mask.astype(np.float32) for mask in masks]).best_dice == 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_perfect_maps_reach_one_and_all_values_stay_in_range(seed: int) -> None:
    masks, maps = random_case(seed)
    perfect = pixel_metrics(masks, [one + 100.0 * mask for one, mask in zip(maps, masks, strict=True)])
    assert (perfect.ap, perfect.auroc, perfect.best_dice) == pytest.approx((1, 1, 1))
    assert perfect.aupro == pytest.approx(1)
    result = pixel_metrics(masks, maps)
    for value in (result.ap, result.auroc, result.aupro, result.best_dice):
        assert 0 <= value <= 1
    assert result.best_dice < 1
    moved = pixel_metrics(masks, [np.exp(one / 5) for one in maps])
    assert (moved.ap, moved.auroc, moved.aupro) == pytest.approx((result.ap, result.auroc, result.aupro))


def test_unusable_input_is_named() -> None:
    mask, heat = np.eye(3, dtype=bool), np.zeros((3, 3))
    with pytest.raises(CohortError, match=r"image 1: the mask has shape \(3, 3\) and the map \(3, 4\)"):
        pixel_metrics([mask, mask], [heat, np.zeros((3, 4))])
    with pytest.raises(CohortError, match="2 masks and 1 maps"):
        pixel_metrics([mask, mask], [heat])
    with pytest.raises(CohortError, match="0 masks"):
        pixel_metrics([], [])
    with pytest.raises(CohortError, match="image 0: the map has values that are not finite"):
        pixel_metrics([mask], [np.full((3, 3), np.nan)])
    with pytest.raises(CohortError, match="abnormal pixel"):
        pixel_metrics([np.zeros((3, 3), dtype=bool)], [heat])
    with pytest.raises(CohortError, match="all pixels"):
        pixel_metrics([np.ones((3, 3), dtype=bool)], [heat])
    with pytest.raises(CohortError, match="image 0: the mask has values other than 0 and 1"):
        pixel_metrics([np.eye(3, dtype=np.uint8) * 255], [heat])  # type: ignore[list-item]
    with pytest.raises(SettingError, match="pro_integration_limit is 0"):
        pixel_metrics([mask], [heat], pro_integration_limit=0)
