"""Exact and near copies within and across the parts of a cohort: pairs, groups and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddad.audit.look import Look
from ddad.audit.near_pairs import Pairs, pairs_in_one_frame, pairs_of_parts
from ddad.cohorts.near_copies import Indices, joined_groups, linked_further
from ddad.progress import Progress

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

    Compared are images with every other image as they are, mirrored, upside down, turned by 180° and as negatives; the
    same without dark margins; and, without these, as a part of the other, down to about three quarters of each side,
    or shifted, also mirrored.

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
    for first, second, correlation in _near([looks[index] for index in alone], part[alone], progress):
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


def _near(looks: Sequence[Look], part: Indices, progress: Progress) -> Iterator[Pairs]:
    whole, content = (np.stack([getattr(look, name) for look in looks]) for name in ("whole", "content"))
    yield from pairs_in_one_frame(whole, progress, "comparing images")
    yield from pairs_in_one_frame(content, progress, "comparing images without dark margins")
    yield from pairs_of_parts(content, part, progress)
