"""The size that a compressed frame claims: a decoder allocates by it, not by the DICOM header."""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom
from pydicom.encaps import get_frame

from ddad.errors import ImageError

# Start of frame, of every kind of JPEG but for the tables that share the range, and of JPEG-LS.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


def check_codestream(path: Path, index: int, frames: int, width: int, height: int) -> bool:
    """Refuse a compressed frame whose own header claims another size than the file's.

    Args:
        path: a DICOM file with encapsulated pixels.
        index: of the frame, from 0.
        frames: how many there are.
        width: that the file claims.
        height: that the file claims.

    Returns:
        Whether the pixels are written with their type, as compressed files must be.

    Raises:
        ImageError: the sizes differ.
    """
    with path.open("rb") as file:
        pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=["Rows"])
        start = file.read(8)
        if not start.startswith(b"\xe0\x7f\x10\x00"):
            return True
        # Behind the tag: "OB", two reserved bytes and a length, or in odd files a length alone.
        explicit = start[4:6].isalpha()
        if explicit:
            file.read(4)
        claimed = codestream_size(get_frame(file, index, number_of_frames=frames))
    if claimed is not None and claimed != (width, height):
        raise ImageError(
            path,
            f"its header says {width}×{height} pixels, its compressed image {claimed[0]}×{claimed[1]}: "
            "the file is damaged, export it again",
        )
    return explicit


def codestream_size(stream: bytes) -> tuple[int, int] | None:
    """Return width and height that a JPEG, JPEG-LS or JPEG 2000 stream claims, None if it is none of these."""
    start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start >= 0 and len(stream) >= start + 24:
        right, bottom, left, top = struct.unpack_from(">IIII", stream, start + 8)
        return right - left, bottom - top
    if not stream.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            return None
        marker = stream[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", stream, at + 5)
            return width, height
        else:
            at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
