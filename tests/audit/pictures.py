"""Textured thumbnails, no two alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def scene(seed: int, size: int = 400) -> NDArray[np.float32]:
    """A picture of many scales, (size, size) in [0, 255]."""
    rng = np.random.default_rng(seed)
    levels = np.zeros((size, size))
    for width in (size / 80, size / 25, size / 10):
        smooth = ndimage.gaussian_filter(rng.normal(size=(size, size)), width)
        levels += smooth / smooth.std()
    return np.clip(127 + 25 * levels, 0, 255).astype(np.float32)


def thumbnail(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Squash a picture to (64, 64)."""
    zoom = [64 / side for side in levels.shape]
    small = ndimage.zoom(ndimage.gaussian_filter(levels, 2), zoom, order=1, grid_mode=True, mode="nearest")
    return np.clip(small, 0, 255).round().astype(np.uint8)


def part_of(levels: NDArray[np.float32], place: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """Cut a part out: top, left, height and width as shares of the sides."""
    rows, columns = levels.shape
    top, left, height, width = place
    return levels[
        round(top * rows) : round((top + height) * rows), round(left * columns) : round((left + width) * columns)
    ]
