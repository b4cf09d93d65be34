"""Deflated DICOM files, which a few bytes may make as large as they like."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom.filereader import _read_file_meta_info, read_preamble
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
    unpacked, inflater = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        # As pydicom finds its way: some files have no preamble, and some a meta group without its length.
        read_preamble(file, force=True)
        if _read_file_meta_info(file).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return None
        while piece := file.read(2**16):
            while piece:
                unpacked += len(inflater.decompress(piece, 2**20))
                piece = inflater.unconsumed_tail
                if unpacked > LARGEST_BYTE_COUNT:
                    raise ImageError(path, f"deflated to hide more than {LARGEST_BYTE_COUNT} bytes: leave it out")
    return unpacked
