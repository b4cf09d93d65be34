"""Exact and near copies: hashes first, then correlation of thumbnails, mirrored, turned and cropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddad.audit.look import THUMBNAIL, Look
from ddad.cohorts.near_copies import Indices, correlated, linked_groups, standardised
from ddad.progress import Progress

# A perceptual hash of 16x16 numbers finds candidates, 32x32 decide. Slow changes of brightness are taken away before
# (at 32x32, what a Gaussian of one pixel leaves), because all images of one kind have these in common.
_HASH_SIDE, _SIDE = 16, 32
_HASH_CORRELATION = 0.7
NEAR_COPY_CORRELATION = 0.8
"""Fine structure of two images that count as near copies; unrelated chest X-rays and brain slices stay below 0.7."""

_WHOLE = (0.0, 0.0, 1.0)
_CENTRE_CROPS = tuple(((1 - share) / 2, (1 - share) / 2, share) for share in (0.93, 0.86, 0.8))
_CORNER_CROPS = tuple((top, left, 0.9) for top in (0.0, 0.1) for left in (0.0, 0.1))
_CONFIRM_AT_ONCE = 65536


@dataclass(frozen=True)
class CopyPairs:
    """Pairs of images, each once, in the order of the cohort.

    Attributes:
        first: (P,) indices of images.
        second: (P,) indices, each larger than that in `first`.
        exact: (P,) whether files or pixels are the same.
        correlation: (P,) of their fine structure, 1 for exact copies.
    """

    first: Indices
    second: Indices
    exact: NDArray[np.bool_]
    correlation: NDArray[np.float32]

    def groups(self, count: int) -> Indices:
        """Number the groups of `count` images that copies link, from 0."""
        return linked_groups(self.first, self.second, count)


@dataclass(frozen=True)
class CopyCount:
    """How many images of one part have a copy in another, or another image in their own.

    Attributes:
        first: the part whose images are counted.
        second: where their copies are.
        exact: images of `first` with the same file or the same pixels in `second`.
        near: images of `first` with a near copy in `second`; exact ones count, too.
        of: images of `first` that could be read.
    """

    first: str
    second: str
    exact: int
    near: int
    of: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


def find_copies(looks: Sequence[Look], progress: Progress) -> CopyPairs:
    """Find all pairs of copies among images.

    Compared are images with every other image as they are, mirrored, upside down and turned by 180°; the same without
    dark margins; and crops in the centre and the corners, down to 0.8 of each side.
    """
    strengths = dict.fromkeys(_same(looks), (True, 1.0))
    for first, second, correlation in _near(looks, progress):
        for pair, value in zip(zip(first.tolist(), second.tolist(), strict=True), correlation.tolist(), strict=True):
            ordered = (min(pair), max(pair))
            exact, best = strengths.get(ordered, (False, 0.0))
            strengths[ordered] = (exact, max(best, value))
    ordered_pairs = sorted(strengths)
    return CopyPairs(
        first=np.array([pair[0] for pair in ordered_pairs], np.int64),
        second=np.array([pair[1] for pair in ordered_pairs], np.int64),
        exact=np.array([strengths[pair][0] for pair in ordered_pairs], bool),
        correlation=np.array([strengths[pair][1] for pair in ordered_pairs], np.float32),
    )


def count_copies(pairs: CopyPairs, parts: Sequence[str], order: Sequence[str]) -> list[CopyCount]:
    """Count the images of each part that have a copy in each part before it, and in itself.

    Args:
        pairs: of the images.
        parts: (N,) the part of each image.
        order: of the parts; a later one is counted against an earlier one.
    """
    names = np.asarray(parts, dtype=str)
    present = [part for part in order if (names == part).any()]
    counts = []
    for place, first in enumerate(present):
        for second in present[: place + 1]:
            exact = images_with_copy(pairs, names == first, names == second, exact=True)
            near = images_with_copy(pairs, names == first, names == second)
            counts.append(CopyCount(first, second, len(exact), len(near), int((names == first).sum())))
    return counts


def images_with_copy(
    pairs: CopyPairs, images: NDArray[np.bool_], among: NDArray[np.bool_], *, exact: bool = False
) -> Indices:
    """Return those of `images` (N,) that have a copy, or an exact one, `among` (N,) others."""
    chosen = pairs.exact if exact else np.ones(len(pairs.first), bool)
    forward = pairs.first[chosen & images[pairs.first] & among[pairs.second]]
    backward = pairs.second[chosen & images[pairs.second] & among[pairs.first]]
    return np.union1d(forward, backward).astype(np.int64)


def _same(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Yield pairs of the same bytes or the same pixels; of many, each with the first."""
    for digests in ([look.file_digest for look in looks], [look.pixel_digest for look in looks]):
        places: dict[str, list[int]] = defaultdict(list)
        for index, digest in enumerate(digests):
            places[digest].append(index)
        for same in places.values():
            yield from ((one, other) for place, one in enumerate(same) for other in same[place + 1 :])


def _near(looks: Sequence[Look], progress: Progress) -> Iterator[tuple[Indices, Indices, NDArray[np.float32]]]:
    whole = np.stack([look.whole for look in looks])
    content = np.stack([look.content for look in looks])
    crops = (*_CENTRE_CROPS, *_CORNER_CROPS)
    with progress.task("comparing images", 2 * (4 + len(crops))) as task:
        for pictures in (whole, content):
            own = _Prints.of(pictures, _WHOLE)
            for seen in own.turned():
                yield from _confirmed(seen, own)
                task.advance()
            for crop in crops:
                cropped = _Prints.of(pictures, crop)
                yield from _confirmed(cropped, own)
                yield from _confirmed(next(iter(cropped.mirrored())), own)
                task.advance()


def _confirmed(first: _Prints, second: _Prints) -> Iterator[tuple[Indices, Indices, NDArray[np.float32]]]:
    """Find candidates by their hashes and confirm them on the larger pictures."""
    for rows, columns in correlated(first.hashes, second.hashes, _HASH_CORRELATION):
        other = rows != columns
        rows, columns = rows[other], columns[other]
        for start in range(0, len(rows), _CONFIRM_AT_ONCE):
            row, column = rows[start : start + _CONFIRM_AT_ONCE], columns[start : start + _CONFIRM_AT_ONCE]
            correlation = np.einsum("ij,ij->i", first.details[row], second.details[column])
            near = correlation > NEAR_COPY_CORRELATION
            yield row[near], column[near], correlation[near]


@dataclass(frozen=True)
class _Prints:
    """Standardised rows of every image: a hash (N, 256) and details (N, 1024)."""

    hashes: NDArray[np.float32]
    details: NDArray[np.float32]

    @classmethod
    def of(cls, pictures: NDArray[np.uint8], crop: tuple[float, float, float]) -> _Prints:
        """Make the prints of a part of thumbnails (N, 64, 64): top, left and side, as shares."""
        return cls(_fine(pictures, crop, _HASH_SIDE), _fine(pictures, crop, _SIDE))

    def mirrored(self) -> Iterable[_Prints]:
        """Yield the prints mirrored left to right."""
        yield self._flipped(2)

    def turned(self) -> Iterable[_Prints]:
        """Yield the prints as they are, mirrored, upside down and turned by 180°."""
        yield self
        yield from (self._flipped(*axes) for axes in ((2,), (1,), (1, 2)))

    def _flipped(self, *axes: int) -> _Prints:
        return _Prints(_flip(self.hashes, _HASH_SIDE, axes), _flip(self.details, _SIDE, axes))


def _flip(rows: NDArray[np.float32], side: int, axes: tuple[int, ...]) -> NDArray[np.float32]:
    flipped = np.flip(rows.reshape(-1, side, side), axes)
    return np.ascontiguousarray(flipped).reshape(len(rows), -1)


def _fine(pictures: NDArray[np.uint8], crop: tuple[float, float, float], side: int) -> NDArray[np.float32]:
    top, left, share = crop
    down, across = _averaging(top, share, side), _averaging(left, share, side)
    small = (down @ pictures.astype(np.float32) @ across.T).astype(np.float32)
    blurred = ndimage.gaussian_filter(small, (0, 1, 1), mode="nearest")
    return standardised(small - blurred)


def _averaging(start: float, share: float, side: int) -> NDArray[np.float32]:
    """Return the matrix (side, 64) that averages a part of 64 pixels into `side` cells of equal width."""
    edges = (start + share * np.linspace(0, 1, side + 1)) * THUMBNAIL
    pixels = np.arange(THUMBNAIL)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    matrix: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix
