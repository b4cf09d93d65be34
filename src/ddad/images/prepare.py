"""From a `MedicalImage` to what a network sees: channels, intensities, size, range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ddad.errors import ImageError
from ddad.images.decoding import LARGEST_PIXEL_COUNT
from ddad.images.medical_image import MedicalImage
from ddad.images.placement import Placement
from ddad.images.robust_range import robust_range
from ddad.recipe_sections import Preprocessing
from ddad.wording import percent

_SMALLEST_SIZE = 16
_SLIVER = 1 / 8
_NEARLY_BLACK = 0.04
_NEARLY_GREY, _FEW = 1 / 16, 0.01
_SIDE_ASKED = 128
# ITU-R 601, as in Pillow's convert("L").
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def prepare(image: MedicalImage, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the image as (C, S, S) float32 in [-1, 1]; `Placement` says which part of it that shows.

    Where the percentiles coincide (a few bright pixels on an even ground), the extremes take their place;
    an image without any contrast becomes -1 throughout.

    Raises:
        ImageError: padded to a square, it has more pixels than an image may have.
    """
    placement = Placement.of((image.height, image.width), preprocessing.aspect)
    if placement.height * placement.width > LARGEST_PIXEL_COUNT:
        raise ImageError(
            image.source,
            f"{image.width}×{image.height} pixels, padded to a square more than the {LARGEST_PIXEL_COUNT} that are "
            "read: make it smaller, or fit with images.aspect=squash",
        )
    scaled = placement.cut(normalise(image, preprocessing))
    method = Image.Resampling.BOX if preprocessing.resize == "area" else Image.Resampling.BILINEAR
    size = (preprocessing.image_size, preprocessing.image_size)
    planes = []
    for channel in range(scaled.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(scaled[..., channel]))
        planes.append(np.asarray(plane.resize(size, method)))
    if len(planes) < preprocessing.channels:
        planes *= preprocessing.channels
    # Rounding in the resampling may step over the border by a hair.
    prepared: NDArray[np.float32] = np.clip(2 * np.stack(planes) - 1, -1, 1)
    return prepared


def normalise(image: MedicalImage, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the image at its own size as (H, W, C) float32 in [0, 1]: channels and intensities as the recipe says.

    Grey that is wanted in colour stays one channel: the three are equal.
    """
    pixels = _with_channels(image.pixels, preprocessing.channels)
    low, high = _limits(pixels, image.value_range, preprocessing.intensity)
    span = high - low
    if span <= np.finfo(np.float32).tiny:
        return np.zeros_like(pixels)
    scaled: NDArray[np.float32] = pixels - np.float32(low)
    scaled /= np.float32(span)
    np.clip(scaled, 0, 1, out=scaled)
    if preprocessing.black_border:
        _blacken_border(scaled)
    return scaled


def size_warning(image: MedicalImage, preprocessing: Preprocessing) -> str | None:
    """Say so if the image is smaller than the network's input on a side."""
    size, shortest = preprocessing.image_size, min(image.height, image.width)
    if shortest >= size:
        return None
    text = (
        f"{image.width}×{image.height} pixels, smaller than the network's {size}×{size}: "
        "enlarged, which adds no detail; "
    )
    if shortest < _SMALLEST_SIZE:
        return text + "leave it out"
    return text + f"use --image-size {shortest // 16 * 16} or leave it out"


def range_warning(image: MedicalImage, preprocessing: Preprocessing) -> str | None:
    """Say so if the image uses but a sliver of its declared range, or nothing of it, and the recipe keeps to it."""
    if preprocessing.intensity != "window":
        return None
    low, high = image.value_range
    least, most = float(image.pixels.min()), float(image.pixels.max())
    if most <= low or least >= high:
        return (
            f"none of its values, {least:g} to {most:g}, lies within {low:.7g} to {high:.7g} ({image.range_origin}): "
            "the network sees a single shade; try intensity=percentile"
        )
    if image.bits <= 8:
        return None
    # From the darkest to the 99.9th percentile: a few hot pixels or a burnt-in text do not count.
    used = (float(np.percentile(image.pixels, 99.9)) - least) / max(high - low, 1e-30)
    if used >= _SLIVER:
        return None
    return f"uses only {percent(used, digits=2)} of its {image.bits}-bit range: try intensity=percentile"


def is_coloured(image: MedicalImage) -> bool:
    """Whether more than a hundredth of the pixels are not grey; many grey images are stored as red, green and blue."""
    if image.channels == 1:
        return False
    low, high = image.value_range
    # Every image is asked when it is decoded: a grid of its pixels is enough.
    step = max(1, min(image.height, image.width) // _SIDE_ASKED)
    red, green, blue = np.moveaxis(image.pixels[::step, ::step], 2, 0)
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return bool((spread > _NEARLY_GREY * (high - low)).mean() > _FEW)


def colour_warning(image: MedicalImage, preprocessing: Preprocessing) -> str | None:
    """Say so if the image is grey and the recipe asks for colour."""
    if preprocessing.channels == 1 or is_coloured(image):
        return None
    return (
        "grey image, where images.channels=3 asks for colour: its channels are equal, as those of no colour image are"
    )


def find_warnings(image: MedicalImage, preprocessing: Preprocessing) -> tuple[str, ...]:
    """Collect what the reader and the preparation have to say about an image."""
    found = (warning(image, preprocessing) for warning in (size_warning, range_warning, colour_warning))
    return image.warnings + tuple(text for text in found if text is not None)


def _with_channels(pixels: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if channels == 1 and pixels.shape[2] == 3:
        return (pixels @ _LUMA)[..., None]
    return pixels


def _blacken_border(scaled: NDArray[np.float32]) -> None:
    """Blacken the dark regions that touch the edge: noise beside a collimator or a fundus is no finding."""
    regions, count = ndimage.label(scaled.max(axis=2) <= _NEARLY_BLACK)
    touches = np.zeros(count + 1, np.bool_)
    for edge in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        touches[edge] = True
    touches[0] = False  # what is not dark
    scaled[touches[regions]] = 0


def _limits(pixels: NDArray[np.float32], value_range: tuple[float, float], intensity: str) -> tuple[float, float]:
    if intensity == "window":
        return value_range
    if intensity == "percentile":
        return robust_range(pixels)
    return float(pixels.min()), float(pixels.max())
