"""Exact and near copies: hashes first, then correlation of thumbnails, mirrored, turned and cropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddad.audit.look import THUMBNAIL, Look
from ddad.cohorts.near_copies import Indices, correlated, joined_groups, linked_further, standardised
from ddad.progress import Progress

# A perceptual hash of 16x16 numbers finds candidates, 32x32 decide. Slow changes of brightness are taken away before
# (at 32x32, what a Gaussian of one pixel leaves), because all images of one kind have these in common.
_HASH_SIDE, _SIDE = 16, 32
_HASH_CORRELATION = 0.6
NEAR_COPY_CORRELATION = 0.65
"""Evened fine structure of two images that count as near copies; unrelated chest X-rays stay below 0.6."""
# Of 255 grey values. What is stronger counts as this strong: an edge drawn into an image must not outweigh its anatomy.
_STRONG = 3.0

_WHOLE = (0.0, 0.0, 1.0)
_CENTRE_CROPS = tuple(((1 - share) / 2, (1 - share) / 2, share) for share in (0.93, 0.86, 0.8))
_CORNER_CROPS = tuple((top, left, 0.9) for top in (0.0, 0.1) for left in (0.0, 0.1))
_CONFIRM_AT_ONCE = 65536
_NOBODY = -1


@dataclass(frozen=True)
class CopyPairs:
    """Pairs of images, each once, in the order of the cohort.

    Attributes:
        first: (P,) indices of images.
        second: (P,) indices, each larger than that in `first`.
        exact: (P,) whether the pixels are the same.
        correlation: (P,) of their evened fine structure, 1 for exact copies.
    """

    first: Indices
    second: Indices
    exact: NDArray[np.bool_]
    correlation: NDArray[np.float32]


@dataclass(frozen=True)
class CopyCount:
    """How many images of one part have a copy in another, or another image in their own.

    Attributes:
        first: the part whose images are counted.
        second: where their copies are.
        exact: images of `first` with the same pixels in `second`.
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


def find_copies(looks: Sequence[Look], parts: Sequence[str], progress: Progress) -> tuple[CopyPairs, Indices]:
    """Find the copies among images.

    Compared are images with every other image as they are, mirrored, upside down and turned by 180°; the same without
    dark margins; and crops in the centre and the corners, down to 0.8 of each side.

    Args:
        looks: of the images.
        parts: (N,) the part of the cohort that each image is of.
        progress: told of each comparison.

    Returns:
        Pairs, and (N,) numbers from 0 of the groups that all copies link. Of an image with many copies, the pairs hold
        one a part: with the first of the same pixels, and with the most alike of other pixels. So their number grows
        with that of the images, even where all are alike.
    """
    pictures, picture = np.unique([look.pixel_digest for look in looks], return_inverse=True)
    names, part = np.unique(np.asarray(parts, dtype=str), return_inverse=True)
    everyone = np.arange(len(looks))
    # The first image of each picture in each part stands for all of them.
    leaders = np.full((len(pictures), len(names)), _NOBODY)
    leaders[picture[::-1], part[::-1]] = everyone[::-1]
    alone = np.sort(leaders[leaders != _NOBODY])
    near = _Nearest.among(len(alone), len(names))
    for first, second, correlation in _near([looks[index] for index in alone], progress):
        other = picture[alone[first]] != picture[alone[second]]
        near.note(first[other], second[other], correlation[other], part[alone])
    own = np.searchsorted(alone, leaders[picture, part])
    likest = np.where(near.partner == _NOBODY, _NOBODY, alone[near.partner])
    pairs = _joined(
        _listed(leaders[picture], np.ones((len(looks), len(names)), np.float32), exact=True),
        _listed(likest[own], near.correlation[own], exact=False),
    )
    return pairs, joined_groups(picture, near.groups[own])


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


@dataclass
class _Nearest:
    """The most alike so far of each of R images in each of Q parts, and the groups that all near copies make.

    Attributes:
        partner: (R, Q) its place, or `_NOBODY`.
        correlation: (R, Q) with it.
        groups: (R,) numbers from 0.
    """

    partner: Indices
    correlation: NDArray[np.float32]
    groups: Indices

    @classmethod
    def among(cls, images: int, parts: int) -> _Nearest:
        """Begin with no near copies."""
        shape = images, parts
        return cls(np.full(shape, _NOBODY), np.zeros(shape, np.float32), np.arange(images))

    def note(self, first: Indices, second: Indices, correlation: NDArray[np.float32], part: Indices) -> None:
        """Take in pairs (P,) of near copies; `part` (R,) is that of each image."""
        self.groups = linked_further(self.groups, first, second)
        order = np.argsort(correlation, kind="stable")  # where an image comes twice, the last one is kept
        for image, other in ((first[order], second[order]), (second[order], first[order])):
            better = correlation[order] > self.correlation[image, part[other]]
            place = image[better], part[other[better]]
            self.correlation[place] = correlation[order][better]
            self.partner[place] = other[better]


def _listed(partner: Indices, correlation: NDArray[np.float32], *, exact: bool) -> CopyPairs:
    """Return the pairs of a table (N, Q) of partners; an image is none of its own."""
    image, column = np.nonzero((partner != _NOBODY) & (partner != np.arange(len(partner))[:, None]))
    other = partner[image, column]
    return CopyPairs(
        np.minimum(image, other),
        np.maximum(image, other),
        np.full(len(image), exact),
        correlation[image, column],
    )


def _joined(*several: CopyPairs) -> CopyPairs:
    """Put pairs into one order; of a pair that comes twice the first stays."""
    first, second, exact, correlation = (
        np.concatenate([getattr(pairs, field.name) for pairs in several]) for field in fields(CopyPairs)
    )
    _, kept = np.unique(np.stack([first, second]), axis=1, return_index=True)
    return CopyPairs(first[kept], second[kept], exact[kept], correlation[kept])


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
    return standardised(_evened(small - blurred))


def _evened(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take away from pictures (N, H, W) what frames have: what rows and columns share, and strength."""
    fine = fine - np.median(fine, axis=2, keepdims=True)
    fine = fine - np.median(fine, axis=1, keepdims=True)
    squashed: NDArray[np.float32] = np.tanh(fine / _STRONG)
    return squashed


def _averaging(start: float, share: float, side: int) -> NDArray[np.float32]:
    """Return the matrix (side, 64) that averages a part of 64 pixels into `side` cells of equal width."""
    edges = (start + share * np.linspace(0, 1, side + 1)) * THUMBNAIL
    pixels = np.arange(THUMBNAIL)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    matrix: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix
