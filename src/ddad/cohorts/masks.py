"""Masks: images that are non-zero where something is abnormal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddad.errors import ImageError
from ddad.images import decode_file


def read_mask(path: str | Path, shape: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """Return True where a mask is non-zero, at its own size or at `shape` (rows, columns; nearest pixel).

    An empty mask is all False; transparent pixels count as zero.

    Raises:
        ImageError: the file is missing, unreadable, damaged, of an unknown format, or of another aspect than `shape`.
    """
    mask: NDArray[np.bool_] = (decode_file(path).pixels != 0).any(axis=2)
    if shape is None or mask.shape == shape:
        return mask
    if unlike := misfit((mask.shape[0], mask.shape[1]), shape):
        raise ImageError(path, unlike)
    resized = Image.fromarray(mask.astype(np.uint8)).resize((shape[1], shape[0]), Image.Resampling.NEAREST)
    at_shape: NDArray[np.bool_] = np.asarray(resized) != 0
    return at_shape


def misfit(shape: tuple[int, int], image: tuple[int, int]) -> str | None:
    """Say why a mask of some rows and columns is not an image's, made larger or smaller; None where it may be.

    Sides may have been rounded to whole pixels.
    """
    (rows, columns), (height, width) = shape, image
    if min(abs(columns - rows * width / height), abs(rows - columns * height / width)) <= 1:
        return None
    return (
        f"the mask is of another shape, {columns}×{rows} pixels where the image has {width}×{height}; "
        "give one that covers the whole image and nothing else"
    )
