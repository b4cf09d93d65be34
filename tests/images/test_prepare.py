from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddad.errors import ImageError
from ddad.images import MedicalImage, colour_warning, find_warnings, is_coloured, prepare, range_warning, size_warning
from ddad.recipe_sections import Preprocessing

Pixels = np.ndarray[Any, Any]

RNG = np.random.default_rng(0)


def image_of(pixels: Pixels, value_range: tuple[float, float] = (0, 255), bits: int = 8) -> MedicalImage:
    pixels = np.asarray(pixels, np.float32)
    return MedicalImage(pixels[..., None] if pixels.ndim == 2 else pixels, value_range, "a.png", "png", bits)


def smooth(height: int, width: int, channels: int) -> Pixels:
    waves = RNG.normal(size=(height // 8 + 2, width // 8 + 2, channels))
    planes = [Image.fromarray(waves[..., c].astype(np.float32)).resize((width, height)) for c in range(channels)]
    stack = np.stack([np.asarray(plane) for plane in planes], -1)
    return np.asarray(np.clip(128 + 60 * stack, 0, 255), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(240, 200), (64, 64), (512, 512), (40, 90)])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_images_agree_with_pillows_own_path(height: int, width: int, channels: int) -> None:
    pixels = smooth(height, width, channels)
    reference = Image.fromarray(np.squeeze(pixels)).convert("L").resize((64, 64), Image.Resampling.BILINEAR)
    prepared = prepare(image_of(pixels), Preprocessing())
    assert prepared.shape == (1, 64, 64)
    assert prepared.dtype == np.float32
    assert np.abs((prepared[0] + 1) / 2 - np.asarray(reference) / 255.0).max() < 1.5 / 255


def test_grey_becomes_three_equal_channels_and_colour_stays_colour() -> None:
    colour = Preprocessing(channels=3, image_size=32)
    grey = prepare(image_of(smooth(50, 50, 1)), colour)
    assert grey.shape == (3, 32, 32)
    assert (grey == grey[0]).all()
    pixels = smooth(50, 50, 3)
    each = prepare(image_of(pixels), colour)
    for channel in range(3):
        alone = prepare(image_of(pixels[..., channel]), Preprocessing(image_size=32))
        np.testing.assert_array_equal(each[channel], alone[0])


def test_intensity_modes_choose_what_becomes_black_and_white() -> None:
    ramp = np.tile(np.linspace(100, 200, 64), (64, 1))
    window, percentile, minmax = (
        prepare(image_of(ramp), Preprocessing(intensity=mode)) for mode in ("window", "percentile", "minmax")
    )
    assert np.ptp(window) == pytest.approx(2 * 100 / 255, abs=1e-5)
    assert (minmax.min(), minmax.max()) == (-1, 1)
    assert (percentile == -1).sum() >= 64
    hot = ramp.copy()
    hot[0, 0] = 60_000
    assert np.ptp(prepare(image_of(hot, (0, 65535), 16), Preprocessing(intensity="percentile"))[0, 1:]) == 2


def test_coinciding_percentiles_fall_back_to_the_extremes() -> None:
    dots = np.zeros((64, 64))
    dots[5, 5] = 80
    prepared = prepare(image_of(dots), Preprocessing(intensity="percentile"))
    assert (prepared.min(), prepared.max()) == (-1, 1)


@pytest.mark.parametrize("intensity", ["window", "percentile", "minmax"])
def test_no_contrast_is_no_division_by_zero(intensity: str) -> None:
    flat = image_of(np.full((20, 20), 7.0), (7, 7))
    prepared = prepare(flat, Preprocessing.model_validate({"intensity": intensity}))
    assert (prepared == -1).all()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    colours=st.sampled_from([1, 3]),
    low=st.floats(-1e6, 1e6),
    span=st.floats(0, 1e6),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([16, 48]),
    intensity=st.sampled_from(["window", "percentile", "minmax"]),
    seed=st.integers(0, 99),
)
def test_prepared_pixels_stay_within_range(
    height: int,
    width: int,
    colours: int,
    low: float,
    span: float,
    channels: int,
    size: int,
    intensity: str,
    seed: int,
) -> None:
    pixels = low + span * np.random.default_rng(seed).random((height, width, colours))
    chosen = {"image_size": size, "channels": channels, "intensity": intensity}
    prepared = prepare(image_of(pixels, (low, low + span), 32), Preprocessing.model_validate(chosen))
    assert prepared.shape == (channels, size, size)
    assert np.isfinite(prepared).all()
    assert -1 <= prepared.min() <= prepared.max() <= 1


def test_small_images_are_enlarged_with_a_warning() -> None:
    assert prepare(image_of(smooth(40, 40, 1)), Preprocessing()).shape == (1, 64, 64)
    assert size_warning(image_of(smooth(40, 40, 1)), Preprocessing()) == (
        "40×40 pixels, smaller than the network's 64×64: enlarged, which adds no detail; "
        "use --image-size 32 or leave it out"
    )
    tiny = size_warning(image_of(np.eye(9)), Preprocessing())
    assert tiny is not None
    assert tiny.endswith("no detail; leave it out")
    assert size_warning(image_of(smooth(64, 70, 1)), Preprocessing()) is None


@pytest.mark.parametrize("bits", [8, 16])
def test_a_window_that_holds_none_of_the_values_is_told(bits: int) -> None:
    pixels = RNG.integers(0, 200, (64, 64)).astype(float)
    for window in ((4995.0, 5004.0), (-50.0, -10.0)):
        text = range_warning(image_of(pixels, window, bits), Preprocessing())
        assert text is not None
        assert text.startswith(f"none of its values, 0 to 199, lies within {window[0]:.7g} to {window[1]:.7g}")
        assert range_warning(image_of(pixels, window, bits), Preprocessing(intensity="percentile")) is None
    assert range_warning(image_of(pixels, (150.0, 400.0), 8), Preprocessing()) is None


def test_a_sliver_of_16_bits_is_told() -> None:
    sliver = RNG.integers(0, 4000, (64, 64)).astype(float)
    sliver[0, 0] = 65535
    image = image_of(sliver, (0, 65535), 16)
    text = "uses only 6.1 % of its 16-bit range: try intensity=percentile"
    assert range_warning(image, Preprocessing()) == text
    assert find_warnings(image, Preprocessing(image_size=128)) == (
        size_warning(image, Preprocessing(image_size=128)),
        text,
    )
    assert range_warning(image, Preprocessing(intensity="percentile")) is None
    assert range_warning(image_of(sliver * 10, (0, 65535), 16), Preprocessing()) is None
    assert range_warning(image_of(sliver / 255), Preprocessing()) is None


def test_an_image_that_would_be_padded_to_more_pixels_than_are_read_is_refused() -> None:
    sliver = MedicalImage(np.zeros((1, 20000, 1), np.float32), (0, 255), "sliver.png", "png", 8)
    with pytest.raises(ImageError, match=r"20000×1 pixels, padded to a square more than the 268435456"):
        prepare(sliver, Preprocessing(aspect="pad"))
    assert prepare(sliver, Preprocessing(aspect="crop")).shape == (1, 64, 64)


def test_preparation_takes_little_more_memory_than_the_image() -> None:
    image = image_of(np.tile(np.arange(256, dtype=np.float32), (2048, 8)))
    tracemalloc.start()
    try:
        prepare(image, Preprocessing())
        assert tracemalloc.get_traced_memory()[1] < 1.2 * image.pixels.nbytes
    finally:
        tracemalloc.stop()


def test_grey_stored_as_colour_is_grey() -> None:
    grey = image_of(np.repeat(smooth(64, 64, 1).reshape(64, 64, 1), 3, axis=2))
    assert not is_coloured(grey)
    assert colour_warning(grey, Preprocessing(channels=3)) is not None
    assert colour_warning(grey, Preprocessing(channels=1)) is None
    colour = image_of(RNG.integers(0, 255, (64, 64, 3)).astype(float))
    assert is_coloured(colour)
    assert colour_warning(colour, Preprocessing(channels=3)) is None
