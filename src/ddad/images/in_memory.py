"""An image that is in memory: the bytes of a file, or an array of pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddad.errors import ImageError
from ddad.images.decoding import check_size
from ddad.images.medical_image import MedicalImage
from ddad.images.reader import check_pixels, read_image

ImageSource = str | Path | bytes | NDArray[Any] | MedicalImage
"""Whatever an image may be given as."""

IN_MEMORY = "image in memory"


def take_image(source: ImageSource, name: str | None = None) -> MedicalImage:
    """Return an image, wherever it is, as `read_image` would return it from a file.

    Args:
        source: a path or address; the bytes of a file of any format that is read; an array (H, W), (H, W, 1) or
            (H, W, 3), of integers, whose type is its range, or of floats, which range from 0 to 1, or if they do not
            lie within, from their minimum to their maximum; or what `read_image` returned.
        name: what it is called, in errors too; default: its path, or that it is in memory.

    Raises:
        ImageError: as `read_image`; or it is none of these.
    """
    if isinstance(source, str | Path):
        image = read_image(source)
        return image if name is None else replace(image, source=name)
    if isinstance(source, MedicalImage):
        check_pixels(source)
        return source if name is None else replace(source, source=name)
    name = name or IN_MEMORY
    if isinstance(source, bytes):
        return _from_bytes(source, name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    raise ImageError(
        name,
        f"is a {type(source).__name__}: give a path, the bytes of a file, a numpy array, or what read_image returned",
    )


def _from_bytes(content: bytes, name: str) -> MedicalImage:
    """Read a file's bytes by way of a file: every decoder, and every check of a header, opens one."""
    with TemporaryDirectory(prefix="ddad-") as folder:
        file = Path(folder) / "image"
        file.write_bytes(content)
        try:
            return replace(read_image(file), source=name)
        except ImageError as error:
            raise ImageError(name, error.reason) from error


def _from_array(array: NDArray[Any], name: str) -> MedicalImage:
    """Take pixels with the range that a file of their type would have."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ImageError(name, f"an array of shape {array.shape}: give (H, W), (H, W, 1) or (H, W, 3)")
    if array.dtype.kind not in "buif":
        raise ImageError(name, f"an array of {array.dtype}: give integers or real numbers")
    check_size(Path(name), array.shape[1], array.shape[0], 4)
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused
        pixels = np.array(array, np.float32).reshape(*array.shape[:2], -1)
    bits = 1 if array.dtype.kind == "b" else 8 * array.dtype.itemsize
    image = MedicalImage(pixels, _range_of(array), name, "array", bits)
    check_pixels(image)
    return image


def _range_of(array: NDArray[Any]) -> tuple[float, float]:
    """Return what counts as darkest and brightest, as it does in files of such samples."""
    if array.dtype.kind == "b":
        return 0.0, 1.0
    if array.dtype.kind in "ui":
        kind = np.iinfo(array.dtype)
        return float(kind.min), float(kind.max)
    low, high = float(array.min()), float(array.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
