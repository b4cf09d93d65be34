"""PNG, JPEG and TIFF files as `MedicalImage`.

What is decided here, because files leave it open:

- *Transparency*: a pixel that is not opaque is set on black, as an image viewer in a dark room shows it,
  and the image carries a warning. Opaque alpha channels are dropped silently.
- *Colour profiles and gamma* are ignored: the stored numbers are what counts.
- *Orientation* tags (EXIF, TIFF) are applied.
- *Palettes* are looked up, CMYK and YCbCr become RGB.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from ddad.errors import ImageError
from ddad.images.address import Frame
from ddad.images.decoding import check_size, decoding
from ddad.images.medical_image import MedicalImage

_ORIENTATION_TAG = 274
_PNG_SIGNATURE_BYTES = 8
_TRANSPARENT = "has transparent pixels, which were set on black"
_one_at_a_time = threading.Lock()
# What Pillow warns of metadata is not for the terminal. Once: to silence it while an image is read, in a thread, would
# silence all threads, ours among them.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# What tifffile says of bad files goes to the application's log if it has one, not to the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_png(path: Path) -> MedicalImage:
    """Read a PNG of any depth and colour type, upright as its EXIF orientation says.

    Raises:
        ImageError: the file is damaged, truncated, or absurdly large.
    """
    with decoding(path, "PNG"), path.open("rb") as file:
        width, height, depth = _png_header(file)
        check_size(path, width, height)
        _check_pixel_chunks(file)
        with _without_pillows_limit():
            image = PngImagePlugin.PngImageFile(file)
        notes = _frame_notes(getattr(image, "n_frames", 1), "frames")
        # Pillow decodes the pixels to find the orientation: where that fails, it must not be taken for a missing one.
        image.load()
        with _without_pillows_limit():
            orientation = _exif_orientation(image)
        if depth == 16 and image.mode in ("RGB", "RGBA", "LA"):
            return _read_deep_png(path, notes, orientation)
        return _from_pillow(image, path, "png", notes, bits=depth, orientation=orientation)


def _read_deep_png(path: Path, notes: tuple[str, ...], orientation: int) -> MedicalImage:
    """Read 16 bits of colour or beside transparency, of which Pillow keeps the upper byte."""
    samples = imagecodecs.png_decode(path.read_bytes()).astype(np.float32)
    opaque = float(2**16 - 1)
    pixels, alpha_notes = (samples, ()) if samples.shape[2] == 3 else _on_black(samples, opaque)
    upright = _upright(pixels, orientation)
    return MedicalImage(upright, (0.0, opaque), str(path), "png", bits=16, warnings=notes + alpha_notes)


def read_jpeg(path: Path) -> MedicalImage:
    """Read a JPEG, grey, RGB or CMYK, upright as its EXIF orientation says.

    Raises:
        ImageError: the file is damaged, truncated, or absurdly large.
    """
    with decoding(path, "JPEG"), path.open("rb") as file:
        with _without_pillows_limit():
            image = JpegImagePlugin.JpegImageFile(file)
            orientation = _exif_orientation(image)
        check_size(path, *image.size)
        image.load()
        return _from_pillow(image, path, "jpeg", (), bits=8, orientation=orientation)


def count_tiff_pages(path: Path) -> int:
    """Return how many images a TIFF holds: its pages if they are of one size and type, else only the first counts.

    Raises:
        ImageError: the file is damaged.
    """
    with decoding(path, "TIFF"):
        return _stack_length(path)


def read_tiff(path: Path, frame: Frame | None = None) -> MedicalImage:
    """Read a page of a TIFF, the first if none is named: 1 to 32-bit integers, or floats, grey or RGB.

    The range of floats is (0, 1) if they lie within it, else their own minimum and maximum.

    Raises:
        ImageError: the file is damaged, truncated, absurdly large, or neither grey nor RGB, or has no such page.
    """
    with decoding(path, "TIFF"), tifffile.TiffFile(path) as tiff:
        number, count = frame.number if frame else 1, _stack_length(path)
        if not 1 <= number <= count or (frame and frame.volume != 1):
            raise ImageError(path, f"has no page {number}: it holds {count} of one size and type, counted from 1")
        page: Any = tiff.pages[number - 1]
        check_size(path, page.imagewidth, page.imagelength * page.imagedepth)
        notes = () if frame else _frame_notes(max(len(tiff.pages), page.imagedepth), "pages")
        if page.dtype is None:
            raise ImageError(path, f"{page.bitspersample}-bit TIFF of an unknown type: convert it to 16-bit TIFF")
        # Pillow knows the colour spaces of 8-bit files and most codecs, but reduces 16-bit colour to 8 bits.
        is_known = int(page.compression) in TiffImagePlugin.COMPRESSION_INFO
        if is_known and page.samplesperpixel <= 4 and page.dtype in (np.uint8, np.bool_):
            return _read_tiff_with_pillow(path, number, notes, bits=page.bitspersample)
        return _read_deep_tiff(path, page, notes)


def _read_tiff_with_pillow(path: Path, number: int, notes: tuple[str, ...], bits: int) -> MedicalImage:
    with path.open("rb") as file:
        with _without_pillows_limit():
            image = TiffImagePlugin.TiffImageFile(file)
            image.seek(number - 1)
            # Pillow applies the orientation of TIFF files by itself, and its limit not before this.
            image.load()
        return _from_pillow(image, path, "tiff", notes, bits=bits)


def _stack_length(path: Path) -> int:
    """Count the pages of a stack; pyramids and thumbnails make no stack."""
    status = path.stat()
    return _pages_alike(path, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=4096)  # each page of a stack asks
def _pages_alike(path: Path, _: tuple[int, int]) -> int:
    with tifffile.TiffFile(path) as tiff:
        first = tiff.pages.first
        pages = map(tiff.pages.get, range(len(tiff.pages)))
        alike = ((page.shape, page.dtype) == (first.shape, first.dtype) for page in pages)
        return len(tiff.pages) if all(alike) else 1


def _read_deep_tiff(path: Path, page: Any, notes: tuple[str, ...]) -> MedicalImage:
    stored = np.asarray(page.asarray(maxworkers=1))
    if stored.dtype.kind not in "uif":
        raise ImageError(path, f"{stored.dtype} TIFF: only integers and real numbers are images, convert it")
    samples = stored.reshape(page.shape)
    for axis in [axis for axis in page.axes if axis not in "YXS"]:
        samples = samples.take(0, axis=page.axes.index(axis))
    axes = [axis for axis in page.axes if axis in "YXS"]
    samples = np.moveaxis(samples, axes.index("S"), -1) if "S" in axes else samples[..., None]
    pixels, alpha_notes = _flattened(_as_float32(samples), page, path)
    value_range = _range_of(pixels, stored.dtype, int(page.bitspersample))
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = np.float32(sum(value_range)) - pixels
    orientation = page.tags.valueof(_ORIENTATION_TAG, 1)
    return MedicalImage(
        pixels=_upright(pixels, orientation),
        value_range=value_range,
        source=str(path),
        file_format="tiff",
        bits=int(page.bitspersample),
        warnings=notes + alpha_notes,
    )


def _flattened(samples: NDArray[np.float32], page: Any, path: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Leave one or three channels, transparent parts set on black."""
    photometric, count = page.photometric, samples.shape[2]
    known = {
        tifffile.PHOTOMETRIC.MINISBLACK: 1,
        tifffile.PHOTOMETRIC.MINISWHITE: 1,
        tifffile.PHOTOMETRIC.RGB: 3,
    }
    colours = known.get(photometric)
    extra = tuple(page.extrasamples or ())
    if colours == count:
        return samples, ()
    if colours is None or count != colours + 1 or not extra or extra[0] == tifffile.EXTRASAMPLE.UNSPECIFIED:
        name = getattr(photometric, "name", photometric)
        raise ImageError(path, f"{count} samples a pixel, stored as {name}: save it as grey or RGB")
    opaque = 1.0 if page.dtype.kind == "f" else float(2 ** int(page.bitspersample) - 1)
    alpha = samples[..., colours:] / np.float32(opaque)
    samples = samples[..., :colours]
    if (alpha == 1).all():
        return samples, ()
    if extra[0] == tifffile.EXTRASAMPLE.UNASSALPHA:
        samples = samples * alpha
    return samples, (_TRANSPARENT,)


def _as_float32(samples: NDArray[Any]) -> NDArray[np.float32]:
    # Doubles beyond the reach of float32 become infinite, which the reader refuses.
    with np.errstate(over="ignore"):
        return samples.astype(np.float32)


def _range_of(pixels: NDArray[np.float32], dtype: np.dtype[Any], bits: int) -> tuple[float, float]:
    if dtype.kind == "u":
        return 0.0, float(2**bits - 1)
    if dtype.kind == "i":
        return -float(2 ** (bits - 1)), float(2 ** (bits - 1) - 1)
    low, high = float(pixels.min()), float(pixels.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _from_pillow(
    image: ImageFile.ImageFile,
    path: Path,
    file_format: str,
    notes: tuple[str, ...],
    *,
    bits: int,
    orientation: int = 1,
) -> MedicalImage:
    pixels, alpha_notes = _pillow_pixels(image, path)
    value_range = (0.0, 255.0)
    if image.mode == "1":
        value_range = (0.0, 1.0)
    elif image.mode.startswith("I"):
        value_range = (0.0, float(2**bits - 1))
    elif image.mode == "F":
        value_range = _range_of(pixels, np.dtype(np.float32), bits)
    return MedicalImage(
        pixels=_upright(pixels, orientation),
        value_range=value_range,
        source=str(path),
        file_format=file_format,
        bits=bits,
        warnings=notes + alpha_notes,
    )


def _pillow_pixels(image: ImageFile.ImageFile, path: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    mode = image.mode
    if (mode in ("1", "L", "RGB", "F") and not image.has_transparency_data) or mode.startswith("I"):
        pixels = np.asarray(image).astype(np.float32)
        return (pixels[..., None] if pixels.ndim == 2 else pixels), ()
    if mode in ("CMYK", "YCbCr", "RGBX") or (mode == "P" and not image.has_transparency_data):
        return np.asarray(image.convert("RGB")).astype(np.float32), ()
    if mode in ("RGBa", "La"):
        # Premultiplied: already set on black.
        return np.asarray(image, np.uint8)[..., :-1].astype(np.float32), (_TRANSPARENT,)
    if mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise ImageError(path, f"colour mode {mode} is not read: save it as grey or RGB")
    layers = np.asarray(image.convert("LA" if mode in ("1", "L", "LA") else "RGBA")).astype(np.float32)
    if mode == "1":
        layers[..., :-1] /= np.float32(255)
    return _on_black(layers, 255.0)


def _on_black(layers: NDArray[np.float32], opaque: float) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Set colours on black where the last layer, alpha, is not `opaque`, and say so."""
    colours, alpha = layers[..., :-1], layers[..., -1:]
    if (alpha == opaque).all():
        return np.ascontiguousarray(colours), ()
    return colours * (alpha / np.float32(opaque)), (_TRANSPARENT,)


def _upright(pixels: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Undo the camera's orientation, numbered as in EXIF and TIFF."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _exif_orientation(image: ImageFile.ImageFile) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # Damaged metadata beside sound pixels.
        return 1


def _png_header(file: BinaryIO) -> tuple[int, int, int]:
    """Width, height and depth, from the chunk that always comes first: Pillow tells neither 0 nor 16."""
    width, height, depth = struct.unpack(">IIB", file.read(25)[16:])
    file.seek(0)
    # Two and four bits are spread over 0 to 255 by Pillow.
    return width, height, depth if depth in (1, 16) else 8


def _check_pixel_chunks(file: BinaryIO) -> None:
    """Make sure that pixels and palette are what their checksums say, which Pillow does not look at.

    Raises:
        ValueError: they are not, or the file ends before their checksum.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(_PNG_SIGNATURE_BYTES)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        if kind in (b"PLTE", b"IDAT"):
            content, checksum = file.read(min(length, size)), file.read(4)
            if len(checksum) < 4:
                raise ValueError(f"the file ends within a chunk {kind.decode()}")
            if zlib.crc32(kind + content) != int.from_bytes(checksum):
                raise ValueError(f"the checksum of a chunk {kind.decode()} does not fit")
        else:
            file.seek(length + 4, os.SEEK_CUR)
    file.seek(0)


def _frame_notes(count: int, name: str) -> tuple[str, ...]:
    return (f"holds {count} {name}, only the first is read",) if count > 1 else ()


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's limit on pixels: ours is checked before.

    It is global, hence the lock; only what is quick, and TIFF, is done under it.
    """
    with _one_at_a_time:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
