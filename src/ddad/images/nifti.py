"""NIfTI files as `MedicalImage`, slice by slice.

A volume is turned to the closest canonical orientation (its axes run to the patient's right, anterior and superior),
and each slice is axial, counted from the feet. It is shown as radiologists see it: anterior up, the patient's right
on the left.

The range is that of the header (`cal_min`, `cal_max`) if it is set, else the 0.5th and the 99.5th percentile of the
slice.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from ddad.errors import ImageError
from ddad.images.address import Frame
from ddad.images.decoding import LARGEST_BYTE_COUNT, check_size, decoding
from ddad.images.medical_image import MedicalImage
from ddad.images.nifti_axes import CanonicalAxes
from ddad.images.robust_range import robust_range
from ddad.wording import counted

_HEADER_LENGTH = 352
_GZIP, _GZIP_MAGIC = 16 + zlib.MAX_WBITS, b"\x1f\x8b"
_MOST_UNPACKED_OF_A_BYTE = 1032  # by deflate
_LARGEST_UNPACKED = 2**35
"""Files that claim to unpack to more are not unpacked."""
_one_at_a_time = threading.RLock()
# What nibabel says of odd headers goes to the application's log if it has one, not to the terminal.
logging.getLogger("nibabel.global").handlers[:] = [logging.NullHandler()]


def is_nifti(head: bytes) -> bool:
    """Tell NIfTI-1 or NIfTI-2, plain or gzipped, by the first bytes."""
    if head.startswith(b"\x1f\x8b"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(head)) as file:
                head = file.read1(_HEADER_LENGTH)
        except (OSError, EOFError, zlib.error):
            return False
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def count_nifti_slices(path: Path) -> int:
    """Return how many axial slices a volume has.

    Raises:
        ImageError: the file is damaged, or absurdly large.
    """
    with decoding(path, "NIfTI"), _opened(path) as image:
        return _sides(image)[_axes(image).axial]


def read_nifti(path: Path, frame: Frame | None = None) -> MedicalImage:
    """Read one axial slice, the middle one if none is named.

    Raises:
        ImageError: the file is damaged, truncated or absurdly large, or it has no such slice or volume.
    """
    with decoding(path, "NIfTI"), _opened(path) as image:
        axes = _axes(image)
        volumes = math.prod(image.shape[3:])
        count = _sides(image)[axes.axial]
        notes: tuple[str, ...] = ()
        if frame is None:
            frame = Frame(count // 2 + 1)
            notes = (f"holds {count} slices, only the middle one is read",) if count > 1 else ()
        if not 1 <= frame.number <= count or not 1 <= frame.volume <= volumes:
            raise ImageError(
                path,
                f"has no slice {frame.number} of volume {frame.volume}: it holds {counted(count, 'slice')} and "
                f"{counted(volumes, 'volume')}, counted from 1",
            )
        values = axes.shown(_slice(path, image, axes.axial, axes.index(frame.number, count), frame.volume))
        pixels = np.ascontiguousarray(values if values.ndim == 3 else values[..., None])
        zooms = [*(float(step) for step in image.header.get_zooms()), 1.0, 1.0]
        spacing = (zooms[axes.axes[1]], zooms[axes.axes[0]])
        value_range, origin = _range(image, pixels)
        return MedicalImage(
            pixels=pixels,
            value_range=value_range,
            source=str(path),
            file_format="nifti",
            bits=8 if pixels.shape[2] == 3 else int(image.header["bitpix"]),
            spacing=spacing if min(spacing) > 0 else None,
            warnings=notes,
            range_origin=origin,
            orientation="axial",
        )


@dataclass(frozen=True)
class NiftiGrid:
    """Where the voxels of a volume lie; nothing that a header says of the patient.

    Attributes:
        shape: of the array, two or three sides.
        axes: how axial slices lie in it.
        header: of an image without voxels, with the source's affine, its codes and its units.
        kind: NIfTI-1 or NIfTI-2.
    """

    shape: tuple[int, ...]
    axes: CanonicalAxes
    header: Any
    kind: type

    def put(self, volume: NDArray[np.float32], number: int, shown: NDArray[np.float32]) -> None:
        """Put an axial slice, as it is shown, at its place in a volume of this shape."""
        where: list[Any] = [slice(None)] * len(self.shape)
        if len(where) == 3:
            where[self.axes.axial] = self.axes.index(number, self.shape[self.axes.axial])
        volume[tuple(where)] = self.axes.stored(shown)


def read_nifti_grid(path: Path) -> NiftiGrid:
    """Read where the voxels of a file lie.

    Raises:
        ImageError: the file is damaged, or absurdly large.
    """
    with decoding(path, "NIfTI"), _opened(path) as image:
        header = type(image.header)()
        header.set_data_dtype(np.float32)
        shape = tuple(int(side) for side in image.shape[:3])
        header.set_data_shape(shape)
        header.set_zooms(image.header.get_zooms()[: len(shape)])
        header.set_sform(*image.header.get_sform(coded=True))
        header.set_qform(*image.header.get_qform(coded=True))
        header.set_xyzt_units(image.header.get_xyzt_units()[0])
        return NiftiGrid(shape, _axes(image), header, type(image))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Read the header, whatever the file's suffix; refuse what is absurd before anything is unpacked.

    Raises:
        ImageError: there are no voxels, too many in a slice, or too many to unpack.
    """
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
            head = file.read(_HEADER_LENGTH)
            kind = nibabel.Nifti1Image if head[344:348] == b"n+1\0" else nibabel.Nifti2Image
            file.seek(0)
            image: Any = kind.from_file_map({"image": nibabel.FileHolder(fileobj=file)})  # type: ignore[no-untyped-call]
            dtype = image.header.get_data_dtype()
            if dtype.kind == "c" or dtype.itemsize > 8:
                raise ImageError(path, f"{dtype} voxels: only real numbers and RGB are images, convert it")
            if len(image.shape) < 2 or min(image.shape) < 1:
                shape = "×".join(map(str, image.shape))
                raise ImageError(path, f"its voxels, {shape}, make no image of two axes or more: export it again")
            if not np.isfinite(image.affine).all():
                raise ImageError(path, "its affine holds what is no number: correct its header")
            # Any two of the three sides may become a slice.
            *_, height, width = sorted(_sides(image))
            check_size(path, width, height, 8)
            if zipped and math.prod(_sides(image)) * dtype.itemsize > LARGEST_BYTE_COUNT:
                raise ImageError(path, f"a volume unpacks to more than {LARGEST_BYTE_COUNT} bytes: unpack it to .nii")
            _check_length(path, image, zipped)
            yield image


def _check_length(path: Path, image: Any, zipped: bool) -> None:
    """Refuse a file that holds fewer voxels than it claims, before they are listed slice by slice, or damaged ones.

    Raises:
        ImageError: it holds fewer voxels.
        EOFError, zlib.error: what is packed is damaged.
    """
    status = path.stat()
    needed = int(image.dataobj.offset) + math.prod(image.shape) * int(image.header.get_data_dtype().itemsize)
    there = status.st_size
    if zipped:
        # Nothing is unpacked of a file that cannot hold so much; of others all is, once, for the checksum at the end.
        most = there * _MOST_UNPACKED_OF_A_BYTE
        if needed > _LARGEST_UNPACKED:
            raise ImageError(path, f"unpacks to {needed} bytes, more than {_LARGEST_UNPACKED}: unpack it to .nii")
        with _one_at_a_time:
            there = most if needed > most else _unpacked_length(path, (status.st_mtime_ns, status.st_size), needed)
    if needed > there:
        raise ImageError(
            path,
            f"truncated or damaged NIfTI (its header says {'×'.join(map(str, image.shape))} voxels, {needed} bytes, "
            f"and {'at most ' if zipped else ''}{there} are there): copy it again from its source",
        )


@lru_cache(maxsize=4096)
def _unpacked_length(path: Path, _: tuple[int, int], needed: int) -> int:
    """Unpack a file, whose checksum then tells whether it is damaged, and return its length.

    What lies behind the end of what is packed is not looked at, as by gunzip.
    """
    length, inflater = 0, zlib.decompressobj(_GZIP)
    with path.open("rb") as file:
        while packed := inflater.unconsumed_tail or inflater.unused_data or file.read(2**16):
            if inflater.eof:  # another member may follow
                packed += file.read(2) if len(packed) < len(_GZIP_MAGIC) else b""
                if not packed.startswith(_GZIP_MAGIC):
                    return length
            inflater = zlib.decompressobj(_GZIP) if inflater.eof else inflater
            length += len(inflater.decompress(packed, 2**20))
            if length > needed + LARGEST_BYTE_COUNT:
                raise ImageError(path, f"holds more than its header says, {needed} bytes: export it again")
    if not inflater.eof:
        raise EOFError("the file ends within what is packed")
    return length


def _axes(image: Any) -> CanonicalAxes:
    """Return how axial slices lie; a file of two axes is one slice, shown as it is stored if that is not axial."""
    axes = CanonicalAxes.of(image.affine)
    return CanonicalAxes() if len(image.shape) == 2 and axes.axial != 2 else axes


def _sides(image: Any) -> list[int]:
    return [*(int(side) for side in image.shape[:3]), 1][:3]


def _slice(path: Path, image: Any, axis: int, index: int, volume: int) -> NDArray[np.float32]:
    """Return a slice across `axis`, the other two axes in the order of the file, with its colours behind them."""
    where: list[Any] = [slice(None)] * len(image.shape[:3])
    if len(where) == 3:
        where[axis] = index
    if isinstance(image.dataobj.file_like, gzip.GzipFile):
        # Each slice would unpack all before it again: unpack once, for the slices that follow.
        with _one_at_a_time:
            status = path.stat()
            values = _unpacked_volume(path, (status.st_mtime_ns, status.st_size), volume)[tuple(where)]
    else:
        values = np.asarray(image.dataobj[(*where, *_beyond(image, volume))])
    if values.dtype.names:
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
    # Doubles beyond the reach of float32 become infinite, which the reader refuses.
    with np.errstate(over="ignore"):
        pixels: NDArray[np.float32] = values.astype(np.float32)
    return pixels


@lru_cache(maxsize=2)
def _unpacked_volume(path: Path, _: tuple[int, int], volume: int) -> NDArray[Any]:
    with _opened(path) as image:
        everything = (slice(None),) * len(image.shape[:3])
        values = np.asarray(image.dataobj[(*everything, *_beyond(image, volume))])
        # Scaled values come as doubles.
        return values.astype(np.float32) if values.dtype == np.float64 else values


def _beyond(image: Any, volume: int) -> tuple[int, ...]:
    """Place of a volume, from 1, on the axes behind the third; the first of them runs fastest."""
    beyond = tuple(int(side) for side in image.shape[3:])
    return tuple(int(place) for place in np.unravel_index(volume - 1, beyond, order="F")) if beyond else ()


def _range(image: Any, pixels: NDArray[np.float32]) -> tuple[tuple[float, float], str]:
    if pixels.shape[2] == 3:
        return (0.0, 255.0), "stored range"
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    if np.isfinite([low, high]).all() and low < high:
        return (low, high), "header"
    return robust_range(pixels[np.isfinite(pixels)]), "percentiles"
