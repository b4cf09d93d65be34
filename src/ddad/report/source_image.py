"""Source images as a person looks at them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddad.errors import ImageError
from ddad.images import MedicalImage, read_image, robust_range


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
    scaled = np.clip((image.pixels.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
    levels: NDArray[np.uint8] = (scaled * 255).round().astype(np.uint8)
    return levels if levels.shape[2] == 3 else levels[..., 0]
