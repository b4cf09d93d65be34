"""`MedicalImage`: pixels in a known range, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MedicalImage:
    """One two-dimensional image, as its file holds it.

    Attributes:
        pixels: float32 array of shape (H, W, C), C = 1 (grey) or 3 (red, green, blue).
        value_range: the values that are shown as darkest and brightest: what the stored type can mean,
            e.g. (0, 255) for 8-bit files, or the file's window. Pixels may lie beyond a window.
        source: the address it was read from, with `#frame` behind the path where a file holds several.
        file_format: `png`, `jpeg`, `tiff`, `dicom`, `nifti`; `array` where there was no file.
        bits: bits stored per sample.
        spacing: millimetres between rows and between columns, where the file knows.
        warnings: what is doubtful about it.
        range_origin: where `value_range` is from: `stored range`, `window`, `VOI LUT`, `percentiles`, ...
        orientation: the plane of the body, where the file knows: `axial`, `coronal`, `sagittal`, `oblique`.
    """

    pixels: NDArray[np.float32]
    value_range: tuple[float, float]
    source: str
    file_format: str
    bits: int
    spacing: tuple[float, float] | None = None
    warnings: tuple[str, ...] = field(default=())
    range_origin: str = "stored range"
    orientation: str | None = None

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.pixels.shape[2])
