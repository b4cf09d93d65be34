"""Source images as a person looks at them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ddad.errors import ImageError
from ddad.images import MedicalImage, read_image, robust_range

_BAND_PIXELS = 2**18


def bands(height: int, width: int) -> Iterator[slice]:
    """Cut the rows of an image into bands of few pixels, so that what is computed of one takes little memory."""
    rows = max(1, _BAND_PIXELS // width)
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def read_visible(path: str) -> NDArray[np.uint8] | None:
    """Read an image and stretch its grey values; None if it cannot be read any more.

    Returns:
        (H, W) or (H, W, 3).
    """
    try:
        return visible_levels(read_image(path))
    except (ImageError, OSError):
        return None


def visible_levels(image: MedicalImage) -> NDArray[np.uint8]:
    """Stretch an image over its `robust_range`, so that a person sees something."""
    low, high = robust_range(image.pixels)
    levels: NDArray[np.uint8] = np.empty(image.pixels.shape, np.uint8)
    for band in bands(image.height, image.width):
        scaled = np.clip((image.pixels[band].astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
        levels[band] = (scaled * 255).round()
    return levels if levels.shape[2] == 3 else levels[..., 0]
