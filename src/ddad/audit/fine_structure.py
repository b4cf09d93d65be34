"""Fine structure of thumbnails: what near copies share, and images of the same kind do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddad.audit.look import THUMBNAIL
from ddad.cohorts.near_copies import standardised

Pictures = NDArray[np.uint8]
"""(N, 64, 64) thumbnails."""

Places = NDArray[np.float32]
"""(..., 4): top, left, height and width of a part of a picture, as shares of its sides."""

WHOLE: Places = np.array([0, 0, 1, 1], np.float32)

# Of 255 grey values. What is stronger counts as this strong: an edge drawn into an image must not outweigh its anatomy.
_STRONG = 3.0


def fine_structure(pictures: Pictures, places: Places, side: int) -> NDArray[np.float32]:
    """Return standardised rows (N, side²) of the evened fine structure of a part of each picture.

    Slow changes of brightness are taken away (at `side`, what a Gaussian of one pixel leaves), because all images of
    one kind have these in common. So is what frames have: what rows and columns share, and strength.

    Args:
        pictures: (N, 64, 64).
        places: (4,) the same part of all, or (N, 4).
        side: pixels that the part is averaged to.
    """
    top, left, height, width = np.moveaxis(np.atleast_2d(places), -1, 0)
    down, across = averaging(top, height, side), averaging(left, width, side)
    small = (down @ pictures.astype(np.float32) @ across.transpose(0, 2, 1)).astype(np.float32)
    fine = small - ndimage.gaussian_filter(small, (0, 1, 1), mode="nearest")
    fine -= np.median(fine, axis=2, keepdims=True)
    fine -= np.median(fine, axis=1, keepdims=True)
    return standardised(np.tanh(fine / _STRONG))


def averaging(start: NDArray[np.float32], share: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return matrices (N, side, 64) that average parts of 64 pixels into `side` cells of equal width.

    Args:
        start: (N,) of each part, as a share of the 64.
        share: (N,) that each part is.
        side: number of cells.
    """
    edges = (start[:, None] + share[:, None] * np.linspace(0, 1, side + 1, dtype=np.float32)) * THUMBNAIL
    pixels = np.arange(THUMBNAIL, dtype=np.float32)
    overlap = np.minimum(edges[:, 1:, None], pixels + 1) - np.maximum(edges[:, :-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    matrices: NDArray[np.float32] = weights / np.maximum(weights.sum(axis=2, keepdims=True), 1e-6)
    return matrices
