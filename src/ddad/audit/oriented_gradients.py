"""Candidates for crops and shifts: images whose edges run the same way in the same places, roughly.

Histograms of oriented gradients (Dalal and Triggs 2005) of 6 orientations in 6x6 cells change slowly when an image is
shifted, scaled or cropped a little, and do not know dark from bright. So a few crops stand for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddad.audit.fine_structure import WHOLE, Pictures, Places
from ddad.audit.look import THUMBNAIL
from ddad.cohorts.near_copies import Indices

_ORIENTATIONS, _CELLS = 6, 6
_STRONG = 3.0  # grey values a pixel; a steeper edge counts as this steep
_KEPT = 96  # of the 216 numbers, after rotation
_SIDE = THUMBNAIL // 2  # of the maps of each orientation, fine enough for the cells
_IMAGES_AT_ONCE = 512
_VALUES_AT_ONCE = 2**24
_NOBODY = -1


def _one_side(cut: float) -> list[tuple[float, ...]]:
    return [(cut, 0, 1 - cut, 1), (0, 0, 1 - cut, 1), (0, cut, 1, 1 - cut), (0, 0, 1, 1 - cut)]


def _squares(cut: float, places: int) -> list[tuple[float, ...]]:
    starts = np.linspace(0, cut, places)
    return [(top, left, 1 - cut, 1 - cut) for top in starts for left in starts]


CROPS: Places = np.array(
    [
        WHOLE,
        (0.05, 0.05, 0.9, 0.9),
        *(place for cut in (0.06, 0.12, 0.2) for place in _one_side(cut)),
        *(place for cut, places in ((0.08, 2), (0.15, 2), (0.23, 3)) for place in _squares(cut, places)),
    ],
    np.float32,
)
"""(Q, 4) parts of images that are compared with whole ones: a crop or shift is not far from one of them."""

COMPARISONS = 2 * len(CROPS)
"""Each crop as it is and mirrored."""


@dataclass(frozen=True)
class Candidates:
    """Pairs that may be near copies, each once.

    Attributes:
        first: (P,) indices of images.
        second: (P,) indices of images of which the first may be a part.
        mirrored: (P,) whether the first may be mirrored.
        places: (P, 4) roughly which part of the second it may be.
    """

    first: Indices
    second: Indices
    mirrored: NDArray[np.bool_]
    places: Places

    def some(self, which: slice) -> Candidates:
        """Return some of the pairs."""
        return Candidates(self.first[which], self.second[which], self.mirrored[which], self.places[which])


def likely_crops(pictures: Pictures, part: Indices, likest: int, advance: Callable[[], None]) -> Candidates:
    """Return, for each image, those in each part of the cohort that most likely are crops of it, or it of them.

    Args:
        pictures: (N, 64, 64).
        part: (N,) number of the part of the cohort that each image is in.
        likest: how many in each part are taken for an image, either way.
        advance: called after each of `COMPARISONS`.
    """
    order = np.argsort(part, kind="stable")
    bounds = np.flatnonzero(np.diff(part[order], prepend=-1, append=-1))
    parts = [slice(start, end) for start, end in pairwise(bounds)]
    maps = _orientations(pictures[order])
    plain = _pooled(maps, WHOLE)
    common, axes = _main_axes(plain)
    whole = _unit((plain - common) @ axes)
    found = []
    for place in CROPS:
        cropped = _pooled(maps, place)
        for mirrored in (False, True):
            rows = _unit(((_mirrored(cropped) if mirrored else cropped) - common) @ axes)
            found.append(_Alike.between(whole, rows, parts, mirrored=mirrored, place=place))
            advance()
    return _best(found, order, parts, likest)


def _orientations(pictures: Pictures) -> NDArray[np.float16]:
    """Return maps (N, 6, 32, 32) of how strong the edges of each orientation are, either side of them the brighter."""
    maps = np.empty((len(pictures), _ORIENTATIONS, _SIDE, _SIDE), np.float16)
    for block in _blocks(len(pictures), _IMAGES_AT_ONCE):
        smooth = ndimage.gaussian_filter(pictures[block].astype(np.float32), (0, 1, 1), mode="nearest")
        down, across = np.gradient(smooth, axis=(1, 2))
        strength = np.tanh(np.hypot(down, across) / _STRONG)
        turn = np.arctan2(down, across) % np.pi / np.pi * _ORIENTATIONS
        for number in range(_ORIENTATIONS):
            # An edge between two orientations counts for both, by nearness.
            away = np.abs((turn - number + _ORIENTATIONS / 2) % _ORIENTATIONS - _ORIENTATIONS / 2)
            edges = strength * np.clip(1 - away, 0, None)
            maps[block, number] = edges.reshape(-1, _SIDE, 2, _SIDE, 2).mean(axis=(2, 4))
    return maps


def _pooled(maps: NDArray[np.float16], place: Places) -> NDArray[np.float32]:
    """Return rows (N, 216): the maps averaged over soft cells of a part."""
    top, left, height, width = place
    down, across = _cells(top, height), _cells(left, width).T
    rows = [down @ maps[block].astype(np.float32) @ across for block in _blocks(len(maps), _IMAGES_AT_ONCE)]
    return np.concatenate(rows).reshape(len(maps), -1)


def _mirrored(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what `_pooled` gives of the mirrored images and the mirrored part."""
    cells = rows.reshape(-1, _ORIENTATIONS, _CELLS, _CELLS)
    return cells[:, -np.arange(_ORIENTATIONS) % _ORIENTATIONS, :, ::-1].reshape(len(rows), -1)


def _main_axes(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean of rows (N, F) and the axes (F, 96) along which they vary most: fewer numbers to compare."""
    mean: NDArray[np.float32] = rows.mean(axis=0, dtype=np.float32)
    centred = rows - mean
    axes: NDArray[np.float32] = np.linalg.eigh(centred.T @ centred).eigenvectors[:, -_KEPT:].astype(np.float32)
    return mean, axes


def _cells(start: float, share: float) -> NDArray[np.float32]:
    centres = (start + share * (np.arange(_CELLS) + 0.5) / _CELLS) * _SIDE - 0.5
    reach = share * _SIDE / _CELLS / 2
    weights = np.exp(-(((np.arange(_SIDE) - centres[:, None]) / reach) ** 2) / 2)
    cells: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return cells


def _unit(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.maximum(length, 1e-6)).astype(np.float32, copy=False)
    return unit


def _blocks(count: int, at_once: int, start: int = 0) -> Iterator[slice]:
    return (slice(begin, min(begin + at_once, count)) for begin in range(start, count, at_once))


@dataclass(frozen=True)
class _Alike:
    """Of one comparison, the most alike in each of Q parts, for every whole image and for every cropped one.

    Attributes:
        mirrored: whether the cropped ones were mirrored.
        place: (4,) what was cut out of them.
        partner: (2, Q, N) the cropped image for each whole one, and the whole one for each cropped.
        similarity: (2, Q, N) of the two.
    """

    mirrored: bool
    place: Places
    partner: NDArray[np.int32]
    similarity: NDArray[np.float32]

    @classmethod
    def between(
        cls,
        whole: NDArray[np.float32],
        cropped: NDArray[np.float32],
        parts: Sequence[slice],
        *,
        mirrored: bool,
        place: Places,
    ) -> _Alike:
        """Compare rows (N, F) of whole images with rows of cropped ones, in the order of the parts."""
        count = len(whole)
        partner = np.full((2, len(parts), count), _NOBODY, np.int32)
        similarity = np.full((2, len(parts), count), -np.inf, np.float32)
        images = np.arange(count)
        for own, part in enumerate(parts):
            for rows in _blocks(part.stop, max(1, _VALUES_AT_ONCE // count), part.start):
                alike = whole[rows] @ cropped.T
                alike[images[: len(alike)], images[rows]] = -np.inf  # nobody is a copy of itself
                for other, columns in enumerate(parts):
                    best = alike[:, columns].argmax(axis=1)
                    partner[0, other, rows] = columns.start + best
                    similarity[0, other, rows] = alike[images[: len(alike)], columns.start + best]
                best = alike.argmax(axis=0)
                value = alike[best, images]
                better = value > similarity[1, own]
                partner[1, own, better] = rows.start + best[better]
                similarity[1, own, better] = value[better]
        return cls(mirrored, place, partner, similarity)


def _best(found: Sequence[_Alike], order: Indices, parts: Sequence[slice], likest: int) -> Candidates:
    """Keep each pair at the crop where it is most alike, if it is among the `likest` of one of its images."""
    count = len(order)
    everyone = np.broadcast_to(np.arange(count), (2, len(parts), count))
    by_whole = np.array([True, False])[:, None, None]
    pairs = []
    for alike in found:
        whole = np.where(by_whole, everyone, alike.partner)
        cropped = np.where(by_whole, alike.partner, everyone)
        there = np.isfinite(alike.similarity)
        pairs.append((whole[there], cropped[there], alike.similarity[there]))
    comparison = np.repeat(np.arange(len(found)), [len(values) for *_, values in pairs])
    whole, cropped, similarity = (np.concatenate(columns) for columns in zip(*pairs, strict=True))

    key = np.minimum(whole, cropped).astype(np.int64) * count + np.maximum(whole, cropped)
    ranked = np.lexsort((-similarity, key))
    ranked = ranked[np.diff(key[ranked], prepend=-1) != 0]
    whole, cropped, similarity, comparison = (column[ranked] for column in (whole, cropped, similarity, comparison))

    part = np.repeat(np.arange(len(parts)), [part.stop - part.start for part in parts])
    kept = np.zeros(len(whole), bool)
    for image, other in ((whole, cropped), (cropped, whole)):
        group = image.astype(np.int64) * len(parts) + part[other]
        ranked = np.lexsort((-similarity, group))
        starts = np.flatnonzero(np.diff(group[ranked], prepend=-1))
        rank = np.arange(len(ranked)) - np.repeat(starts, np.diff(starts, append=len(ranked)))
        kept[ranked[rank < likest]] = True
    mirrored, places = np.array([alike.mirrored for alike in found]), np.stack([alike.place for alike in found])
    chosen = comparison[kept]
    return Candidates(order[whole[kept]], order[cropped[kept]], mirrored[chosen], places[chosen])
