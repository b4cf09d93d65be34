"""The pixels of a cohort, decoded once into an array, or streamed past a consumer."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddad.cohorts.rows import SkippedImage
from ddad.errors import BlankSliceError, ImageError, OutputError, writing_to
from ddad.files import let_go, whole_file
from ddad.images import MedicalImage, find_warnings, is_coloured, prepare, read_image
from ddad.images.decoding import TOO_LARGE_FOR_MEMORY
from ddad.progress import Progress, listener
from ddad.recipe_sections import Preprocessing

_BATCH = 16


@dataclass(frozen=True)
class ImageWarning:
    """Something to know about a file that was used all the same."""

    path: Path
    text: str


@dataclass(frozen=True)
class DecodedImage:
    """One image on its way to a network; either `pixels` or `reason` is there.

    Attributes:
        index: its place in the sequence of paths.
        path: its file.
        pixels: (C, S, S) float32 in [-1, 1].
        reason: why it is skipped.
        warnings: what to know about it.
        source_size: rows and columns in the file.
        blank: it is skipped because it is a slice without content.
        loses_colour: it is in colour, and `pixels` is not.
    """

    index: int
    path: Path
    pixels: NDArray[np.float32] | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    source_size: tuple[int, int] | None = None
    blank: bool = False
    loses_colour: bool = False


@dataclass(frozen=True)
class DecodedImages:
    """All images of a list that could be used.

    Attributes:
        pixels: (N, C, S, S) float32 in [-1, 1], read-only; memory-mapped if a file was asked for.
        kept: the index into the list of each image in `pixels`.
        skipped: the files that could not be used.
        warnings: what to know about files that were.
        lost_colour: the index into the list of each image in colour, where `pixels` is not.
    """

    pixels: NDArray[np.float32]
    kept: list[int]
    skipped: list[SkippedImage]
    warnings: list[ImageWarning]
    lost_colour: list[int] = field(default_factory=list)


def iterate(
    paths: Sequence[str | Path],
    preprocessing: Preprocessing,
    *,
    batch: int = _BATCH,
    workers: int = 1,
    prefetch: int = 2,
) -> Iterator[list[DecodedImage]]:
    """Decode ahead of the consumer, and yield lists of up to `batch` consecutive images, in order.

    Bad files are among them, with a reason; nothing is raised for them. No more images than in `workers + prefetch`
    lists are in memory at a time, of which `workers` are at their own size.

    Args:
        paths: the files.
        preprocessing: how they become network input.
        batch: images in a list.
        workers: threads that decode beside the consumer, an image each (the decoders let them run at once).
        prefetch: lists that may wait for the consumer.
    """
    rest = iter(enumerate(paths))
    pending: deque[Future[DecodedImage]] = deque()
    executor = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode")

    def submit(count: int) -> None:
        for index, path in islice(rest, count):
            pending.append(executor.submit(_decode_one, index, Path(path), preprocessing))

    try:
        submit(batch * (max(workers, 1) + max(prefetch, 0)))
        while pending:
            decoded = [pending.popleft().result() for _ in range(min(batch, len(pending)))]
            submit(len(decoded))
            yield decoded
    finally:
        # Also when the consumer stops early.
        executor.shutdown(wait=True, cancel_futures=True)


def decode(
    paths: Sequence[str | Path],
    preprocessing: Preprocessing,
    *,
    into: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    title: str = "decoding",
) -> DecodedImages:
    """Decode all images into one array, leaving out those that cannot be used.

    Args:
        paths: the files.
        preprocessing: how they become network input.
        into: a `.npy` file to write and map; it appears, or is replaced, only when it is complete. None
            keeps the array in memory.
        workers: threads that decode.
        progress: is told of each image.
        title: what the progress bar says.

    Raises:
        OutputError: the disk has not enough space, or cannot be written.
    """
    found = DecodedImages(np.empty((0, *_shape(preprocessing)), np.float32), [], [], [])
    if into is None:
        stack = np.empty((len(paths), *_shape(preprocessing)), np.float32)
        for number, pixels in enumerate(_usable(paths, preprocessing, workers, progress, title, found)):
            stack[number] = pixels
        stack = stack[: len(found.kept)]
        stack.flags.writeable = False
    else:
        with writing_to(into):
            into.parent.mkdir(parents=True, exist_ok=True)
            _check_space(into, len(paths), preprocessing)
        with whole_file(into) as file:
            _write(file, _usable(paths, preprocessing, workers, progress, title, found), preprocessing)
        # An empty file cannot be mapped.
        stack = np.load(into, mmap_mode="r" if found.kept else None, allow_pickle=False)
    return replace(found, pixels=stack)


def save_rows(images: NDArray[np.float32], rows: Sequence[int] | NDArray[np.int64], into: Path) -> None:
    """Write some images of an array, which may lie on disk, to a `.npy` file, with memory that does not grow.

    Raises:
        OutputError: the disk is full, or the place may not be written to.
    """
    save_parts([(images, rows)], into)


def save_parts(parts: Sequence[tuple[NDArray[np.float32], Sequence[int] | NDArray[np.int64]]], into: Path) -> None:
    """Do as `save_rows` with images of several arrays, one after the other.

    Raises:
        OutputError: the disk is full, or the place may not be written to.
    """

    def batches() -> Iterator[NDArray[np.float32]]:
        for images, rows in parts:
            for start in range(0, len(rows), _BATCH):
                yield images[rows[start : start + _BATCH]]
                let_go(images)

    save_batches(batches(), (sum(len(rows) for _, rows in parts), *parts[0][0].shape[1:]), into)


def save_batches(batches: Iterable[NDArray[np.float32]], shape: tuple[int, ...], into: Path) -> None:
    """Write batches as they come to one `.npy` file, of which `shape` is that of all together.

    Raises:
        OutputError: the disk is full, or the place may not be written to.
    """
    with whole_file(into) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for batch in batches:
            file.write(np.ascontiguousarray(batch, np.float32).tobytes())


def _usable(
    paths: Sequence[str | Path],
    preprocessing: Preprocessing,
    workers: int,
    progress: Progress | None,
    title: str,
    found: DecodedImages,
) -> Iterator[NDArray[np.float32]]:
    """Yield the pixels of usable images, and enter all images into `found`."""
    with listener(progress).task(title, len(paths)) as task:
        for images in iterate(paths, preprocessing, workers=workers):
            for image in images:
                if image.pixels is None:
                    found.skipped.append(SkippedImage(image.path, image.reason or "unknown", image.blank))
                else:
                    found.kept.append(image.index)
                    found.lost_colour.extend([image.index] if image.loses_colour else [])
                    found.warnings.extend(ImageWarning(image.path, text) for text in image.warnings)
                    yield image.pixels
                task.advance(1, note=image.path.name)


def _write(file: BinaryIO, images: Iterator[NDArray[np.float32]], preprocessing: Preprocessing) -> None:
    """Write a `.npy` file one image at a time: on a full disk, a mapped file would kill the process."""
    count = 0
    _write_header(file, count, preprocessing)
    start = file.tell()
    for pixels in images:
        file.write(np.ascontiguousarray(pixels, np.float32).tobytes())
        count += 1
    file.seek(0)
    _write_header(file, count, preprocessing)
    # numpy leaves room in the header for the first axis to grow.
    if file.tell() != start:
        raise AssertionError(f"a .npy header of {start} bytes became one of {file.tell()}")


def _write_header(file: BinaryIO, count: int, preprocessing: Preprocessing) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": (count, *_shape(preprocessing))}
    )


def _check_space(into: Path, count: int, preprocessing: Preprocessing) -> None:
    needed = 4 * count * int(np.prod(_shape(preprocessing))) + 4096
    free = shutil.disk_usage(into.parent).free
    if free < needed:
        raise OutputError(
            f"{into}: {count} decoded images need {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free. "
            "Free some space, or put it on another disk."
        )


def _shape(preprocessing: Preprocessing) -> tuple[int, int, int]:
    return preprocessing.channels, preprocessing.image_size, preprocessing.image_size


def prepared(index: int, path: Path, image: MedicalImage, preprocessing: Preprocessing) -> DecodedImage:
    """Return an image as network input, with what to know about it.

    Raises:
        ImageError: padded to a square, it has more pixels than an image may have.
    """
    return DecodedImage(
        index,
        path,
        pixels=prepare(image, preprocessing),
        warnings=find_warnings(image, preprocessing),
        source_size=(image.height, image.width),
        loses_colour=preprocessing.channels == 1 and is_coloured(image),
    )


def _decode_one(index: int, path: Path, preprocessing: Preprocessing) -> DecodedImage:
    try:
        return prepared(index, path, read_image(path), preprocessing)
    except ImageError as error:
        return DecodedImage(index, path, reason=error.reason, blank=isinstance(error, BlankSliceError))
    except MemoryError:
        return DecodedImage(index, path, reason=TOO_LARGE_FOR_MEMORY)
