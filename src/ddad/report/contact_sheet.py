"""A contact sheet: small pictures of many images on one page."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from ddad.files import keep_others_file, output_file, write_atomically
from ddad.report.source_image import bands

_SIDE = 144
_LABEL = 14
_GAP = 6
_COLUMNS = 8
_MOST = 400
_LONGEST_NAME = 23


class ContactSheet:
    """Takes images one at a time, keeps a thumbnail of each of the first 400, and saves them as one PNG."""

    def __init__(self) -> None:
        self._thumbnails: list[tuple[Image.Image, str]] = []
        self.left_out = 0
        """Images that came after those."""

    def add(self, pixels: NDArray[np.float32], name: str) -> None:
        """Take an image (H, W, 1 or 3) in [0, 1]; its aspect ratio is kept."""
        if len(self._thumbnails) == _MOST:
            self.left_out += 1
            return
        levels: NDArray[np.uint8] = np.empty(pixels.shape, np.uint8)
        for band in bands(*pixels.shape[:2]):
            levels[band] = np.rint(pixels[band] * 255)
        picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).convert("RGB")
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
        # The end of a name tells more: it has the frame.
        shown = name if len(name) <= _LONGEST_NAME else f"...{name[-_LONGEST_NAME + 3 :]}"
        self._thumbnails.append((picture, shown))

    def save(self, path: Path) -> None:
        """Write the sheet.

        Raises:
            OutputError: the disk is full, or the place may not be written to.
        """
        columns = min(_COLUMNS, max(len(self._thumbnails), 1))
        rows = max(math.ceil(len(self._thumbnails) / columns), 1)
        width, height = _SIDE + _GAP, _SIDE + _LABEL + _GAP
        sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), (48, 48, 48))
        draw = ImageDraw.Draw(sheet)
        for number, (picture, name) in enumerate(self._thumbnails):
            left, top = _GAP + number % columns * width, _GAP + number // columns * height
            sheet.paste(picture, (left + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
            draw.text((left, top + _SIDE + 1), name, fill=(220, 220, 220), font_size=11)
        buffer, mark = io.BytesIO(), PngInfo()
        mark.add_text("Software", "ddad")
        sheet.save(buffer, "PNG", pnginfo=mark)
        write_atomically(path, buffer.getvalue())


def check_sheet(file: Path, *, overwrite: bool) -> None:
    """Make sure, before any work, that a contact sheet may be written there.

    Raises:
        OutputError: it is a folder, in no folder, or a file that is no sheet of ours.
    """
    output_file(file, "--contact-sheet")
    keep_others_file(file, "--contact-sheet", ours=b"Software\0ddad", kind="contact sheet", overwrite=overwrite)
