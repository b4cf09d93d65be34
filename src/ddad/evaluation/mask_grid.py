"""Masks at the size of the network's input, where maps are compared with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def mask_on_grid(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Resize a mask (H, W) to (size, size).

    A pixel is abnormal where at least half of it is marked. A region too small for that keeps the pixels
    that hold most of it, so that no abnormal image loses its mask.
    """
    share = np.asarray(Image.fromarray(mask.astype(np.float32), mode="F").resize((size, size), Image.Resampling.BOX))
    marked: NDArray[np.bool_] = share >= 0.5
    if mask.any() and not marked.any():
        marked = share >= share.max()
    return marked
