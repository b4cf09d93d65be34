"""`read_image`: any supported file, told by its content, as a `MedicalImage` fit for use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddad.errors import BlankSliceError, ImageError
from ddad.images.address import ALL, Address, Frame, Selection
from ddad.images.archive import read_member_head, unpacked, unpacked_for_more
from ddad.images.dicom import count_dicom_frames, is_dicom, read_dicom
from ddad.images.medical_image import MedicalImage
from ddad.images.nifti import count_nifti_slices, is_nifti, read_nifti
from ddad.images.raster import count_tiff_pages, read_jpeg, read_png, read_tiff

# Enough for a gzipped NIfTI header, which barely shrinks.
_HEAD_LENGTH = 4096
# Programs mark missing pixels with the largest float there is: as good as infinite.
_LARGEST_VALUE = 1e30

_Read = Callable[[Path, Frame | None], MedicalImage]
_Count = Callable[[Path], int]


@dataclass(frozen=True)
class _Format:
    """How a format is named, recognised, listed and read; a new format is one more line in the table.

    `read` takes a file and the frame, None for the only or the first one; `count_frames` says how many images
    a file holds.
    """

    name: str
    recognises: Callable[[bytes], bool]
    suffixes: tuple[str, ...]
    read: _Read
    count_frames: _Count


def _single(read: Callable[[Path], MedicalImage]) -> tuple[_Read, _Count]:
    """Make a reader of whole files refuse frames."""

    def read_only_image(path: Path, frame: Frame | None) -> MedicalImage:
        if frame is not None:
            raise ImageError(path, f"holds a single image, without a frame {frame.number}: leave out #{frame.number}")
        return read(path)

    return read_only_image, lambda _: 1


_FORMATS = (
    # First, because the preamble of a DICOM file may look like a TIFF (PS3.10, 7.1).
    _Format("dicom", is_dicom, (".dcm", ".dicom", ".ima"), read_dicom, count_dicom_frames),
    _Format("nifti", is_nifti, (".nii", ".nii.gz"), read_nifti, count_nifti_slices),
    _Format("png", lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), (".png",), *_single(read_png)),
    _Format(
        "jpeg", lambda head: head.startswith(b"\xff\xd8\xff"), (".jpg", ".jpeg", ".jpe", ".jfif"), *_single(read_jpeg)
    ),
    _Format(
        "tiff",
        lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        (".tif", ".tiff"),
        read_tiff,
        count_tiff_pages,
    ),
)

IMAGE_SUFFIXES = frozenset(suffix for known in _FORMATS for suffix in known.suffixes)
"""Suffixes, in lower case, by which images are found in folders."""

# Formats that people do bring along: naming them tells more than "unknown".
_OTHER_IMAGES: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("NIfTI or Analyze in two files (.hdr and .img)", lambda head: head[344:347] == b"ni1" or head[4:7] == b"ni2"),
    ("GIF", lambda head: head.startswith(b"GIF8")),
    ("BMP", lambda head: head.startswith(b"BM") and head[6:10] == bytes(4)),  # text may begin with these letters
    ("WebP", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
    ("JPEG 2000", lambda head: head[4:8] == b"jP  " or head.startswith(b"\xff\x4f\xff\x51")),
    ("HEIF", lambda head: head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"avi")),
)
_OTHER_FORMATS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("gzip", lambda head: head.startswith(b"\x1f\x8b")),
    ("PDF", lambda head: head.startswith(b"%PDF")),
    ("ZIP", lambda head: head.startswith(b"PK\x03\x04")),
)


def read_image(path: str | Path) -> MedicalImage:
    """Read one image and make sure that it can be used.

    The format is told by the file's first bytes; its name does not matter.

    Raises:
        BlankSliceError: it is a slice or frame of several, and its pixels are all the same.
        ImageError: the file is missing, unreadable, damaged or of an unknown format, or its pixels are
            not finite or all the same.
    """
    if not isinstance(path, str | Path):
        raise ImageError(type(path).__name__, "is no path: give a file; an image in memory goes to Model.score_image")
    image = decode_file(path)
    check_pixels(image)
    return image


def check_pixels(image: MedicalImage) -> None:
    """Make sure that an image's pixels are numbers, and not all the same.

    Raises:
        BlankSliceError: it is a slice or frame of several, and its pixels are all the same.
        ImageError: its pixels are not finite or all the same.
    """
    path = image.source
    # NaN comes through minimum and maximum, and through comparisons as false.
    if not -_LARGEST_VALUE < image.pixels.min() <= image.pixels.max() < _LARGEST_VALUE:
        count = int((~(np.abs(image.pixels) < _LARGEST_VALUE)).any(axis=2).sum())
        what = "pixel is" if count == 1 else "pixels are"
        raise ImageError(path, f"{count} {what} NaN or infinite: mask them before the export")
    first = image.pixels[0, 0]
    # Most images differ early: look at all pixels only if the first row does not.
    if (image.pixels[0] == first).all() and (image.pixels == first).all():
        value = ", ".join(f"{level:g}" for level in first.tolist())
        value = value if image.channels == 1 else f"({value})"
        if Address.parse(path).frame is not None:
            raise BlankSliceError(path, f"blank: every pixel is {value}")
        raise ImageError(path, f"constant image: every pixel is {value}")


def decode_file(path: str | Path) -> MedicalImage:
    """Read one file as it is, without judging its pixels: masks may well be constant.

    Args:
        path: a file, or the address of a frame in it or of a file in an archive.

    Raises:
        ImageError: the file is missing, unreadable, damaged or of an unknown format.
    """
    address = Address.parse(path)
    with _on_disk(path, address) as file:
        return replace(_format_of(file).read(file, address.frame), source=str(path))


def expand(path: Path, selection: Selection = ALL) -> list[Path]:
    """Return the addresses of the images in a file: the file itself if it holds one.

    Raises:
        ImageError: the file is unreadable, damaged or of an unknown format.
    """
    address = Address.parse(path)
    if address.frame is not None:
        return [path]
    with _on_disk(path, address) as file:
        count = _format_of(file).count_frames(file)
    return [path] if count == 1 else [address.at(frame) for frame in selection.frames(count)]


def is_image(path: Path) -> bool:
    """Tell, by its first bytes, whether a file or a file in an archive may be an image, of any format.

    An image of a format that is not read must not vanish: reading it says so.

    Raises:
        ImageError: the file is missing, empty or unreadable.
    """
    head = _head_of(path)
    return any(known.recognises(head) for known in _FORMATS) or any(knows(head) for _, knows in _OTHER_IMAGES)


@contextmanager
def on_disk(path: str | Path) -> Iterator[tuple[Path, str]]:
    """Yield the file to read, unpacked if it is in an archive, and the format as `MedicalImage` names it.

    Raises:
        ImageError: the file is missing, unreadable or of an unknown format.
    """
    with _on_disk(path, Address.parse(path)) as file:
        yield file, _format_of(file).name


@contextmanager
def _on_disk(path: str | Path, address: Address) -> Iterator[Path]:
    """Yield the file to read, unpacked if it is in an archive; errors bear the address that was asked for."""
    try:
        if address.member is None:
            yield address.file
        else:
            unpack = unpacked if address.frame is None else unpacked_for_more
            with unpack(address.file, address.member) as copy:
                yield copy
    except ImageError as error:
        raise ImageError(path, error.reason) from error


def _format_of(file: Path) -> _Format:
    head = _head_of(file)
    for known in _FORMATS:
        if known.recognises(head):
            return known
    for name, recognises in (*_OTHER_IMAGES, *_OTHER_FORMATS):
        if recognises(head):
            raise ImageError(file, f"{name} files are not read: convert it to PNG or TIFF")
    raise ImageError(file, "not an image, or of an unknown format: PNG, JPEG, TIFF, DICOM and NIfTI are read")


def _head_of(path: Path) -> bytes:
    address = Address.parse(path)
    if address.member is not None:
        return read_member_head(address.file, address.member, _HEAD_LENGTH)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ImageError(path, "is no file but a device, a pipe or a socket: name a file")
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
