"""Maps go back to the place in the image that they came from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddad.images import MedicalImage, Placement, prepare
from ddad.recipe_sections import Aspect, Preprocessing

SIZES = [(64, 64), (301, 127), (97, 250), (33, 500), (511, 513)]
ASPECTS: list[Aspect] = ["squash", "pad", "crop"]


@pytest.mark.parametrize("resize", ["bilinear", "area"])
@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("source", SIZES, ids=str)
def test_a_lesion_comes_back_where_it_was(source: tuple[int, int], aspect: Aspect, resize: str) -> None:
    rows, columns = np.mgrid[: source[0], : source[1]]
    side = min(source)
    # Off the centre, but within the square that is cropped.
    centre = (source[0] / 2 + 0.21 * side, source[1] / 2 - 0.17 * side)
    radius = 0.12 * side
    lesion = np.hypot(rows + 0.5 - centre[0], columns + 0.5 - centre[1]) <= radius
    image = MedicalImage(lesion[..., None].astype(np.float32), (0, 1), "a.png", "png", 8)
    recipe = Preprocessing.model_validate({"aspect": aspect, "resize": resize})

    seen = (prepare(image, recipe)[0] + 1) / 2
    back = Placement.of(source, aspect).to_source(seen, fill=0)

    assert back.shape == source
    weights = back / back.sum()
    found = ((rows + 0.5) * weights).sum(), ((columns + 0.5) * weights).sum()
    pixel = max(source) / 64
    assert np.hypot(found[0] - centre[0], found[1] - centre[1]) < max(0.25 * pixel, 0.5)
    if radius > 3 * pixel:
        marked = back >= 0.5
        assert 2 * (marked & lesion).sum() / (marked.sum() + lesion.sum()) > 0.93


def test_hand_computed_rectangles() -> None:
    assert Placement.of((10, 5), "squash") == Placement((10, 5), 0, 0, 10, 5)
    assert Placement.of((10, 5), "pad") == Placement((10, 5), 0, -3, 10, 10)
    assert Placement.of((10, 5), "crop") == Placement((10, 5), 2, 0, 5, 5)
    pixels = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert Placement.of((3, 2), "pad").cut(pixels).tolist() == [[0, 0, 1], [0, 2, 3], [0, 4, 5]]
    assert Placement.of((3, 2), "crop").cut(pixels).tolist() == [[0, 1], [2, 3]]
    back = Placement.of((3, 2), "crop").to_source(np.array([[1, 2], [3, 4]], np.float32))
    np.testing.assert_array_equal(back, [[1, 2], [3, 4], [np.nan, np.nan]])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(ASPECTS))
def test_at_full_resolution_nothing_moves(height: int, width: int, aspect: Aspect) -> None:
    pixels = np.random.default_rng(height).random((height, width), np.float32)
    placement = Placement.of((height, width), aspect)
    back = placement.to_source(placement.cut(pixels))
    seen = ~np.isnan(back)
    np.testing.assert_allclose(back[seen], pixels[seen], atol=1e-6)
    assert seen.all() or aspect == "crop"
    assert seen.any()


def test_dark_borders_are_made_black_and_dark_centres_are_kept() -> None:
    pixels = np.full((64, 64), 200, np.float32)
    pixels[:, :10] = 4
    pixels[30:34, 30:34] = 4
    image = MedicalImage(pixels[..., None], (0, 255), "a.png", "png", 8)
    masked = prepare(image, Preprocessing(black_border=True))[0]
    assert (masked[:, :9] == -1).all()
    assert masked[31, 31] == pytest.approx(2 * 4 / 255 - 1)
    assert prepare(image, Preprocessing())[0, 0, 0] == pytest.approx(2 * 4 / 255 - 1)


def test_area_averages_whole_blocks() -> None:
    pixels = np.kron(np.arange(256).reshape(16, 16), np.ones((3, 5))).astype(np.float32)
    image = MedicalImage(pixels[..., None], (0, 255), "a.png", "png", 8)
    area = prepare(image, Preprocessing(image_size=16, resize="area"))[0]
    np.testing.assert_allclose((area + 1) * 127.5, np.arange(256).reshape(16, 16), atol=1e-3)
