"""`read_image`: any supported file, told by its content, as a `MedicalImage` fit for use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddad.errors import ImageError
from ddad.images.medical_image import MedicalImage
from ddad.images.raster import read_jpeg, read_png, read_tiff

_HEAD_LENGTH = 352
# Programs mark missing pixels with the largest float there is: as good as infinite.
_LARGEST_VALUE = 1e30


@dataclass(frozen=True)
class _Format:
    """How a format is recognised, listed and read; a new format is one more line in the table."""

    recognises: Callable[[bytes], bool]
    suffixes: tuple[str, ...]
    read: Callable[[Path], MedicalImage]


_FORMATS = (
    _Format(lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), (".png",), read_png),
    _Format(lambda head: head.startswith(b"\xff\xd8\xff"), (".jpg", ".jpeg", ".jpe", ".jfif"), read_jpeg),
    _Format(lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), (".tif", ".tiff"), read_tiff),
)

IMAGE_SUFFIXES = frozenset(suffix for known in _FORMATS for suffix in known.suffixes)
"""Suffixes, in lower case, by which images are found in folders."""

# Formats that people do bring along: naming them tells more than "unknown".
_OTHER_FORMATS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("DICOM", lambda head: head[128:132] == b"DICM"),
    ("NIfTI", lambda head: head[344:347] in (b"n+1", b"ni1") or head[4:7] == b"n+2"),
    ("gzip", lambda head: head.startswith(b"\x1f\x8b")),
    ("GIF", lambda head: head.startswith(b"GIF8")),
    ("BMP", lambda head: head.startswith(b"BM")),
    ("WebP", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
    ("JPEG 2000", lambda head: head[4:8] == b"jP  " or head.startswith(b"\xff\x4f\xff\x51")),
    ("HEIF", lambda head: head[4:8] == b"ftyp"),
    ("PDF", lambda head: head.startswith(b"%PDF")),
    ("ZIP", lambda head: head.startswith(b"PK\x03\x04")),
)


def read_image(path: str | Path) -> MedicalImage:
    """Read one image and make sure that it can be used.

    The format is told by the file's first bytes; its name does not matter.

    Raises:
        ImageError: the file is missing, unreadable, damaged or of an unknown format, or its pixels are
            not finite or all the same.
    """
    image = decode_file(path)
    # NaN comes through minimum and maximum, and through comparisons as false.
    if not -_LARGEST_VALUE < image.pixels.min() <= image.pixels.max() < _LARGEST_VALUE:
        count = int((~(np.abs(image.pixels) < _LARGEST_VALUE)).any(axis=2).sum())
        raise ImageError(path, f"{count} pixels are NaN or infinite: mask them before the export")
    first = image.pixels[0, 0]
    # Most images differ early: look at all pixels only if the first row does not.
    if (image.pixels[0] == first).all() and (image.pixels == first).all():
        value = ", ".join(f"{level:g}" for level in first.tolist())
        value = value if image.channels == 1 else f"({value})"
        raise ImageError(path, f"constant image: every pixel is {value}")
    return image


def decode_file(path: str | Path) -> MedicalImage:
    """Read one file as it is, without judging its pixels: masks may well be constant.

    Raises:
        ImageError: the file is missing, unreadable, damaged or of an unknown format.
    """
    path = Path(path)
    head = _head_of(path)
    for known in _FORMATS:
        if known.recognises(head):
            return known.read(path)
    for name, recognises in _OTHER_FORMATS:
        if recognises(head):
            raise ImageError(path, f"{name} files are not read: convert it to PNG or TIFF")
    raise ImageError(path, "not an image, or of an unknown format: PNG, JPEG and TIFF are read")


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_LENGTH)
    except FileNotFoundError as error:
        raise ImageError(path, "there is no such file: check the path") from error
    except IsADirectoryError as error:
        raise ImageError(path, "is a folder: name a file in it") from error
    except OSError as error:
        raise ImageError(path, f"cannot be opened ({error.strerror})") from error
    except ValueError as error:
        raise ImageError(path, f"is no path ({error})") from error
    if not head:
        raise ImageError(path, "the file is empty: copy it again from its source")
    return head
