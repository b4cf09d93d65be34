"""`Look`: what an audit keeps of one image: hashes, two thumbnails, and its trivial features."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddad.images import Acquisition, Address, MedicalImage, read_acquisition, read_image

THUMBNAIL = 64
"""Side of the thumbnails, in pixels."""

DATE = "DICOM date"
"""The day of the acquisition, which may be used and not shown."""

DATE_GIVEN = "DICOM date given"
"""1 for an image with a day of the acquisition, else 0."""

NUMBERS = (
    *("width", "height", "aspect", "file size", "bit depth"),
    *("brightness", "contrast", "sharpness", "border brightness", "dark share"),
    DATE,
    DATE_GIVEN,
)
"""Features that are numbers."""

CATEGORIES = ("file type", "colour mode", "DICOM maker", "DICOM model")
"""Features that are words."""

_DARK = 0.04
_CONTENT = 0.08
_CONTENT_SHARE = 0.02
_SMALLEST_CONTENT = 1 / 4
_BORDER = 1 / 16


@dataclass(frozen=True)
class Look:
    """What is kept of one image.

    Attributes:
        pixel_digest: SHA-256 of the decoded pixels and their shape.
        whole: (64, 64) uint8, the image squashed into a square and stretched in contrast.
        content: (64, 64) uint8, the same of its content, without dark margins.
        levels: what is 0 and 255 in `whole`, as shares of the file's value range.
        features: by name, those of `NUMBERS` (NaN where unknown) and `CATEGORIES` (empty where unknown).
    """

    pixel_digest: str
    whole: NDArray[np.uint8]
    content: NDArray[np.uint8]
    levels: tuple[float, float]
    features: dict[str, float | str]


def look_at(path: Path) -> Look:
    """Read an image and keep what the audit needs of it.

    Raises:
        ImageError: the image cannot be used.
    """
    image = read_image(path)
    grey = _grey(image)
    whole, levels = _thumbnail(grey)
    shape = f"{image.pixels.shape}".encode()
    return Look(
        pixel_digest=hashlib.sha256(shape + np.ascontiguousarray(image.pixels).tobytes()).hexdigest(),
        whole=whole,
        content=_thumbnail(_content(grey))[0],
        levels=levels,
        features=_features(image, grey, Address.parse(path).file.stat().st_size, read_acquisition(path)),
    )


def _features(image: MedicalImage, grey: NDArray[np.float32], size: int, taken: Acquisition) -> dict[str, float | str]:
    height, width = grey.shape
    band = max(1, round(min(grey.shape) * _BORDER))
    inner = grey[band:-band, band:-band]
    around = (float(grey.sum()) - float(inner.sum())) / max(grey.size - inner.size, 1)
    return {
        "width": float(width),
        "height": float(height),
        "aspect": width / height,
        "file size": float(size),
        "bit depth": float(image.bits),
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "sharpness": _sharpness(grey),
        "border brightness": around,
        "dark share": float((grey <= _DARK).mean()),
        DATE: taken.day,
        DATE_GIVEN: float(not np.isnan(taken.day)),
        "file type": image.file_format,
        "colour mode": _colour_mode(image),
        "DICOM maker": taken.maker,
        "DICOM model": taken.model,
    }


def _grey(image: MedicalImage) -> NDArray[np.float32]:
    """Return (H, W) in [0, 1] over the value range of the file."""
    low, high = image.value_range
    pixels = image.pixels[..., 0] if image.channels == 1 else image.pixels.mean(axis=2)
    scaled: NDArray[np.float32] = np.clip((pixels - np.float32(low)) / np.float32(max(high - low, 1e-12)), 0, 1)
    return scaled


def _sharpness(grey: NDArray[np.float32]) -> float:
    """Mean absolute Laplacian, in the file's own pixels."""
    if min(grey.shape) < 3:
        return 0.0
    inner = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(np.abs(inner).mean())


def _colour_mode(image: MedicalImage) -> str:
    if image.channels == 1:
        return "grey"
    first = image.pixels[..., :1]
    return "colour, but grey" if (image.pixels == first).all() else "colour"


def _content(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut dark margins away; an image that would nearly vanish stays whole."""
    bright = grey > _CONTENT
    rows = np.flatnonzero(bright.mean(axis=1) > _CONTENT_SHARE)
    columns = np.flatnonzero(bright.mean(axis=0) > _CONTENT_SHARE)
    enough = len(rows) >= grey.shape[0] * _SMALLEST_CONTENT and len(columns) >= grey.shape[1] * _SMALLEST_CONTENT
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if enough and len(rows) and len(columns) else grey


def _thumbnail(grey: NDArray[np.float32]) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    small = Image.fromarray(np.ascontiguousarray(grey)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    levels = np.asarray(small)
    # Stretched, so that a dim picture keeps its detail in 256 levels.
    low, high = float(levels.min()), float(levels.max())
    stretched: NDArray[np.uint8] = np.rint((levels - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    return stretched, (low, high)
