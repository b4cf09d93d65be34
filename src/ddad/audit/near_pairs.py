"""Pairs of near copies among thumbnails: in the same frame, turned or mirrored, and one as a part of the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddad.audit.fine_structure import WHOLE, Pictures, Places, fine_structure
from ddad.audit.oriented_gradients import COMPARISONS, Candidates, likely_crops
from ddad.audit.registration import edges_of, registered
from ddad.cohorts.near_copies import Indices, correlated
from ddad.progress import Progress

# Of fine structure, a perceptual hash of 16x16 numbers finds candidates, 32x32 decide.
_HASH_SIDE, _SIDE = 16, 32
_HASH_CORRELATION = 0.6
_IN_ONE_FRAME = 0.65  # unrelated chest X-rays stay below 0.6
_LAID_UPON = 0.75  # outlines of heads, laid upon one another, reach 0.7

_TURNS: tuple[tuple[tuple[int, ...], int], ...] = (((), 1), ((2,), 1), ((1,), 1), ((1, 2), 1), ((), -1))
"""Axes along which pictures (N, H, W) are flipped, and the sign of their fine structure.

As they are, mirrored, upside down, turned by 180°, and as negatives.
"""
_LIKEST = 2
_SMALLEST_OVERLAP = 0.6
_SCALES = (0.65, 1.4)
_AT_ONCE = 4096

Pairs = tuple[Indices, Indices, NDArray[np.float32]]
"""(P,) first and second of each pair, and the correlation of their fine structure."""


def pairs_in_one_frame(pictures: Pictures, progress: Progress, title: str) -> Iterator[Pairs]:
    """Yield the pairs among pictures (N, 64, 64) that show the same, as they are, flipped, or as a negative.

    Args:
        pictures: (N, 64, 64).
        progress: told of each comparison.
        title: what the progress bar says.
    """
    own = _Prints.of(pictures)
    with progress.task(title, len(_TURNS)) as task:
        for axes, sign in _TURNS:
            flipped = own.flipped(axes, sign)
            for rows, columns in correlated(flipped.hashes, own.hashes, _HASH_CORRELATION):
                other = rows != columns
                rows, columns = rows[other], columns[other]
                for start in range(0, len(rows), _AT_ONCE):
                    row, column = rows[start : start + _AT_ONCE], columns[start : start + _AT_ONCE]
                    yield _near(row, column, flipped.details[row], own.details[column], above=_IN_ONE_FRAME)
            task.advance()


def pairs_of_parts(pictures: Pictures, part: Indices, progress: Progress) -> Iterator[Pairs]:
    """Yield the pairs of which one shows a part of the other, some three quarters of each side, or it shifted.

    Either may be mirrored, or the negative of the other. Candidates are found by their oriented gradients, laid upon
    one another, and compared where they overlap.

    Args:
        pictures: (N, 64, 64).
        part: (N,) number of the part of the cohort that each image is in.
        progress: told of each comparison.
    """
    if len(pictures) < 2:
        return
    with progress.task("comparing crops", COMPARISONS) as task:
        likely = likely_crops(pictures, part, _LIKEST, task.advance)
    edges = edges_of(pictures)
    with progress.task("laying likely crops upon images", len(likely.first)) as task:
        for start in range(0, len(likely.first), _AT_ONCE):
            some = likely.some(slice(start, start + _AT_ONCE))
            yield _confirmed(pictures, some, registered(edges, some.first, some.second, some.mirrored, some.places))
            task.advance(len(some.first))


def _confirmed(pictures: Pictures, pairs: Candidates, places: Places) -> Pairs:
    """Keep the pairs whose fine structure agrees where both show the same; the first shows `places` of the second."""
    start, size = places[:, :2], places[:, 2:]
    # Of the first, what lies within the second.
    begin, end = np.clip(-start / size, 0, 1), np.clip((1 - start) / size, 0, 1)
    usable = (end - begin >= _SMALLEST_OVERLAP).all(axis=1)
    usable &= ((size >= _SCALES[0]) & (size <= _SCALES[1])).all(axis=1)
    first, second, mirrored = pairs.first[usable], pairs.second[usable], pairs.mirrored[usable]
    start, size, begin, end = (values[usable] for values in (start, size, begin, end))
    shown = pictures[first]
    shown[mirrored] = shown[mirrored][..., ::-1]
    own = fine_structure(shown, np.hstack([begin, end - begin]), _SIDE)
    other = fine_structure(pictures[second], np.hstack([start + size * begin, size * (end - begin)]), _SIDE)
    own[np.einsum("ij,ij->i", own, other) < 0] *= -1  # one may be the negative of the other
    return _near(first, second, own, other, above=_LAID_UPON)


def _near(
    first: Indices, second: Indices, own: NDArray[np.float32], other: NDArray[np.float32], *, above: float
) -> Pairs:
    correlation = np.einsum("ij,ij->i", own, other)
    near = correlation > above
    return first[near], second[near], correlation[near]


@dataclass(frozen=True)
class _Prints:
    """Standardised rows of every image: a hash (N, 256) and details (N, 1024)."""

    hashes: NDArray[np.float32]
    details: NDArray[np.float32]

    @classmethod
    def of(cls, pictures: Pictures) -> _Prints:
        """Make the prints of thumbnails (N, 64, 64)."""
        return cls(fine_structure(pictures, WHOLE, _HASH_SIDE), fine_structure(pictures, WHOLE, _SIDE))

    def flipped(self, axes: tuple[int, ...], sign: int) -> _Prints:
        """Return the prints of the flipped pictures, or of their negatives."""
        return _Prints(sign * _flip(self.hashes, _HASH_SIDE, axes), sign * _flip(self.details, _SIDE, axes))


def _flip(rows: NDArray[np.float32], side: int, axes: tuple[int, ...]) -> NDArray[np.float32]:
    flipped = np.flip(rows.reshape(-1, side, side), axes)
    return np.ascontiguousarray(flipped).reshape(len(rows), -1)
