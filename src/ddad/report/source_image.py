"""Source images as a person looks at them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddad.errors import ImageError
from ddad.images import MedicalImage, read_image


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
    """Stretch an image from its 0.5th to its 99.5th percentile, so that a person sees something."""
    low, high = np.percentile(image.pixels, (0.5, 99.5))
    if high <= low:
        low, high = image.value_range
    scaled = np.clip((image.pixels - low) / max(high - low, 1e-12), 0, 1)
    levels: NDArray[np.uint8] = (scaled * 255).round().astype(np.uint8)
    return levels if levels.shape[2] == 3 else levels[..., 0]
