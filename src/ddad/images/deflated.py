"""Deflated DICOM files, which a few bytes may make as large as they like."""

from __future__ import annotations

import zlib
from pathlib import Path

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ddad.errors import ImageError
from ddad.images.decoding import LARGEST_BYTE_COUNT


def check_deflated(path: Path) -> int | None:
    """Unpack a deflated file piece by piece, to know that all of it may be unpacked at once, as pydicom does.

    Returns:
        How many bytes that makes; None of a file that is not deflated.

    Raises:
        ImageError: it unpacks to more than `LARGEST_BYTE_COUNT`.
    """
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    unpacked, inflater = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        while piece := file.read(2**16):
            while piece:
                unpacked += len(inflater.decompress(piece, 2**20))
                piece = inflater.unconsumed_tail
                if unpacked > LARGEST_BYTE_COUNT:
                    raise ImageError(path, f"deflated to hide more than {LARGEST_BYTE_COUNT} bytes: leave it out")
    return unpacked
