"""What a DICOM file holds of the pixels that its header promises, before anything of them is read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import pydicom
from pydicom.uid import ImplicitVRLittleEndian

from ddad.errors import ImageError
from ddad.wording import counted

_UNDEFINED = 0xFFFFFFFF
# A compressed frame takes an item's tag and length at least.
_LEAST_OF_A_FRAME = 8
_SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1}


class PixelData(NamedTuple):
    """The element with the pixels.

    Attributes:
        length: in bytes, as the element says; None where it does not, as of compressed pixels.
        left: bytes of the file from the element's value on.
    """

    length: int | None
    left: int


def pixel_data_at(file: BinaryIO, header: pydicom.Dataset) -> PixelData | None:
    """Return the element with the pixels, at which an open file stands; None where the file ends there."""
    start = file.read(12)
    if len(start) < 12:
        return None
    explicit = header.original_encoding[0] is False
    order: Literal["little", "big"] = "big" if header.original_encoding[1] is False else "little"
    length = int.from_bytes(start[8:12] if explicit else start[4:8], order)
    at = file.tell() - (0 if explicit else 4)
    end = file.seek(0, 2)
    return PixelData(None if length == _UNDEFINED else length, end - at)


def check_pixel_data(path: Path, header: pydicom.Dataset, frames: int, pixels: PixelData | None) -> None:
    """Refuse a file that cannot hold as many frames as it claims, before they are listed one by one.

    Raises:
        ImageError: it cannot.
    """
    if pixels is None or frames == 1:
        return  # decoding a single frame says what is wrong with it
    syntax = header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    needed = _LEAST_OF_A_FRAME * frames if syntax.is_encapsulated else _native_bytes(header, frames)
    if needed > pixels.left:
        raise ImageError(
            path,
            f"truncated or damaged DICOM (its header says {frames} frames, which take {needed} bytes at least, and "
            f"{pixels.left} are there): copy it again from its source",
        )


def contradictions(header: pydicom.Dataset, frames: int, pixels: PixelData | None) -> tuple[str, ...]:
    """Say what of a header cannot be true, though pixels can be read by it."""
    notes = []
    syntax = header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    row = _native_bytes(header, frames) // (int(header.Rows) * frames)
    if not syntax.is_encapsulated and pixels is not None and pixels.length is not None:
        needed = _native_bytes(header, frames)
        beyond = min(pixels.length, pixels.left) - needed
        if _is_subsampled(header) and beyond == needed // 2:
            notes.append("its header says YBR_FULL_422, and its pixels are not subsampled: the colours are wrong")
        elif beyond >= max(row, 2):
            notes.append(f"holds {beyond} bytes of pixels more than its header says: rows or frames are not shown")
    stored, highest = header.get("BitsStored"), header.get("HighBit")
    if stored and highest is not None and int(highest) != int(stored) - 1:
        notes.append(f"its header contradicts itself: {stored} bits are stored, and the highest is number {highest}")
    meaning, samples = str(header.get("PhotometricInterpretation", "")).strip(), int(header.get("SamplesPerPixel", 1))
    if meaning and samples != _SAMPLES.get(meaning, 3):
        notes.append(f"its header contradicts itself: {meaning} with {counted(samples, 'sample')} a pixel")
    return tuple(notes)


def _is_subsampled(header: pydicom.Dataset) -> bool:
    return str(header.get("PhotometricInterpretation", "")).strip() == "YBR_FULL_422"


def _native_bytes(header: pydicom.Dataset, frames: int) -> int:
    """Return how many bytes uncompressed frames take together."""
    bits = int(header.get("BitsAllocated", 8)) * int(header.get("SamplesPerPixel", 1))
    # Two pixels share their colour differences.
    bits = bits * 2 // 3 if _is_subsampled(header) else bits
    return -(-int(header.Rows) * int(header.Columns) * bits * frames // 8)
