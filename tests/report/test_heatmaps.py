"""Pictures of maps, and over which image they lie."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from ddad.experiments.drawing import HEAT_COLOURS, STRONGEST_OVERLAY
from ddad.images import Placement
from ddad.model import Finding
from ddad.recipe_sections import Preprocessing
from ddad.report import heatmaps
from ddad.report.heatmaps import draw, picture_name, write_pictures


def finding(path: Path, size: tuple[int, int], score_map: np.ndarray, **preprocessing: Any) -> Finding:
    """Return a finding whose network input is black all over."""
    return Finding(
        path=str(path), score=0.0, p_value=None, flagged=None, scores={"rec": 0.0}, maps={"rec": score_map},
        pixels=np.full((1, 16, 16), -1, np.float32), source_size=size, warnings=(),
        preprocessing=Preprocessing(**preprocessing),
    )  # fmt: skip


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """An image with stripes of one pixel, which a network's input of 16x16 cannot show."""
    file = tmp_path / "stripes.png"
    Image.fromarray(np.tile(np.array([0, 255], np.uint8), (200, 150))).save(file)
    return file


def test_an_overlay_without_heat_is_the_source_image_itself(stripes: Path) -> None:
    nothing = np.zeros((16, 16), np.float32)
    _, overlay = draw(finding(stripes, (200, 300), nothing), "rec", (0, 1), (200, 300))
    with Image.open(stripes) as picture:
        assert np.abs(overlay - np.asarray(picture)[..., None] / 255).max() < 0.01


def test_heat_lies_where_the_map_says(stripes: Path) -> None:
    corner = np.zeros((16, 16), np.float32)
    corner[:4, :4] = 1
    heat, overlay = draw(finding(stripes, (200, 300), corner), "rec", (0, 1), (200, 300))
    assert heat[:40, :60].mean() > 5 * heat[100:, 150:].mean()
    assert np.ptp(overlay[10, 10:40]) < np.ptp(overlay[150, 200:240])  # the stripes are dimmed by the heat


def test_the_image_has_the_channels_and_intensities_that_the_network_saw(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    levels = np.zeros((20, 40, 3), np.uint8)
    levels[:, 20:, 0] = 200
    Image.fromarray(levels).save(file)
    nothing = np.zeros((16, 16), np.float32)
    _, grey = draw(finding(file, (20, 40), nothing), "rec", (0, 1), (20, 40))
    _, colour = draw(finding(file, (20, 40), nothing, channels=3), "rec", (0, 1), (20, 40))
    assert np.allclose(grey[:, 20:], 0.299 * 200 / 255, atol=0.01)
    assert np.allclose(colour, levels / 255, atol=0.01)


def test_a_file_that_shows_another_image_by_now_is_not_drawn_under_the_map(stripes: Path) -> None:
    _, overlay = draw(finding(stripes, (20, 30), np.zeros((16, 16), np.float32)), "rec", (0, 1), (20, 30))
    assert overlay.max() == 0


def test_a_file_that_is_gone_is_drawn_as_the_network_saw_it(tmp_path: Path) -> None:
    nothing = np.zeros((16, 16), np.float32)
    _, overlay = draw(finding(tmp_path / "gone.png", (20, 30), nothing), "rec", (0, 1), (20, 30))
    assert overlay.max() == 0


def test_small_images_are_enlarged(stripes: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    with Image.open(stripes) as picture:
        picture.crop((0, 0, 64, 32)).save(small)
    seen = finding(small, (32, 64), np.zeros((16, 16), np.float32))
    write_pictures(seen, "rec", (0, 1), tmp_path / "heat.png", tmp_path / "overlay.png")
    for name in ("heat.png", "overlay.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (512, 256)


@pytest.mark.parametrize("colour", [False, True])
def test_pictures_are_blended_to_the_last_bit_as_if_drawn_whole(colour: bool, tmp_path: Path) -> None:
    """The rows of a large image are drawn in bands."""
    random = np.random.default_rng(0)
    levels = random.integers(0, 256, (700, 900, 3) if colour else (700, 900), np.uint8)
    file = tmp_path / "large.png"
    Image.fromarray(levels).save(file)
    score_map = random.random((16, 16), np.float32)
    seen = finding(file, (700, 900), score_map, channels=3 if colour else 1)

    write_pictures(seen, "rec", (0, 1), tmp_path / "heat.png", tmp_path / "overlay.png")

    strength = Placement.of((700, 900), "squash").to_source(score_map)
    colours = colormaps[HEAT_COLOURS](strength)[..., :3]
    opacity = (STRONGEST_OVERLAY * strength)[..., None]
    blend = (1 - opacity) * levels.reshape(700, 900, -1).astype(np.float64) / 255 + opacity * colours
    for name, drawn in (("heat.png", colours), ("overlay.png", blend)):
        with Image.open(tmp_path / name) as picture:
            assert (np.asarray(picture) == (drawn * 255).round().astype(np.uint8)).all()


def test_the_memory_of_pictures_is_a_few_bytes_a_pixel(tmp_path: Path) -> None:
    side = 3000
    file = tmp_path / "large.png"
    Image.fromarray(np.tile(np.arange(side, dtype=np.uint16).astype(np.uint8), (side, 1))).save(file)
    seen = finding(file, (side, side), np.ones((16, 16), np.float32))
    tracemalloc.start()
    try:
        write_pictures(seen, "rec", (0, 1), tmp_path / "heat.png", tmp_path / "overlay.png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * side**2  # 95 a pixel when whole pictures were floats


@pytest.mark.parametrize("size", [(1, 3000), (3000, 2)])
def test_a_sliver_is_not_enlarged_beyond_bounds(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heatmaps, "_MOST_ENLARGED", 2**16)
    file = tmp_path / "sliver.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, size, np.uint8)).save(file)
    seen = finding(file, size, np.ones((16, 16), np.float32))
    write_pictures(seen, "rec", (0, 1), tmp_path / "heat.png", tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.width * picture.height <= 1.2 * 2**16
        assert min(picture.size) >= min(size)


def test_names_of_pictures_fit_into_any_file_system() -> None:
    """A name is limited in bytes, of which a letter may take four."""
    name = picture_name(1, "影" * 80 + ".dcm#12")
    assert len(name.encode()) < 120
    assert name.startswith("000001_影")
    assert name.endswith("_12")
    assert picture_name(0, "a/scan.nii.gz#3") == "000000_scan_3"
