"""Near copies among decoded images: the same picture again, with another contrast or mirrored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ddad.files import let_go

_SIDE = 16
_VALUES_AT_ONCE = 2**22

Indices = NDArray[np.int64]


def near_copy_groups(images: NDArray[np.float32], correlation: float = 0.97) -> Indices:
    """Number the groups of near copies: images linked by a correlation above `correlation` share a number.

    Thumbnails of 16x16 pixels are compared, upright and mirrored left to right.

    Args:
        images: (N, C, S, S), S a multiple of 16.
        correlation: of two thumbnails that count as copies.

    Returns:
        (N,) group numbers from 0.
    """
    count = len(images)
    small = thumbnails(images)
    upright, mirrored = standardised(small), standardised(small[:, :, ::-1])
    groups = np.arange(count)
    for other in (upright, mirrored):
        for first, second in correlated(upright, other, correlation):
            # Joined block by block: where all images are alike, their links would fill the memory.
            groups = linked_further(groups, first, second)
    return groups


def near_copies_of(
    originals: NDArray[np.float32], images: NDArray[np.float32], correlation: float = 0.97
) -> NDArray[np.bool_]:
    """Tell which images (N, C, S, S) are near copies of one of the originals (M, C, S, S), S a multiple of 16."""
    small, rows = thumbnails(images), standardised(thumbnails(originals))
    found = np.zeros(len(images), bool)
    for pictures in (small, small[:, :, ::-1]):
        for _, places in correlated(rows, standardised(pictures), correlation):
            found[places] = True
    return found


def standardised(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return pictures (N, H, W) as rows (N, H·W) of mean 0 and length 1: their products are correlations."""
    flat = pictures.reshape(len(pictures), math.prod(pictures.shape[1:]))
    flat = flat - flat.mean(axis=1, keepdims=True)
    # A picture without contrast is like no other.
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (flat / np.maximum(length, 1e-6)).astype(np.float32)
    return unit


def correlated(
    first: NDArray[np.float32], second: NDArray[np.float32], correlation: float
) -> Iterator[tuple[Indices, Indices]]:
    """Yield, block by block, the places in two sets of standardised rows whose correlation is above a value."""
    rows = max(1, _VALUES_AT_ONCE // max(1, len(second)))
    for start in range(0, len(first), rows):
        row, column = np.nonzero(first[start : start + rows] @ second.T > correlation)
        yield row + start, column


def linked_groups(first: Indices, second: Indices, count: int) -> Indices:
    """Number the groups that links between `count` things make, from 0; links chain."""
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    groups: Indices = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def linked_further(groups: Indices, first: Indices, second: Indices) -> Indices:
    """Join the groups (N,) of things that further links connect, and number them from 0."""
    if (groups[first] == groups[second]).all():
        return groups
    # A group found before is a node of its own, behind those of the things.
    count = len(groups)
    links = np.concatenate([first, np.arange(count)]), np.concatenate([second, count + groups])
    return linked_groups(*links, 2 * count)[:count]


def joined_groups(*partitions: Sequence[str] | Indices) -> Indices:
    """Number the groups that several divisions of the same images make together, from 0.

    Images that share a group in one division share one in the result; links chain.
    """
    links = []
    for groups in partitions:
        _, leader, member = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
        links.append(leader[member])
    count = len(links[0])
    return linked_groups(np.tile(np.arange(count), len(links)), np.concatenate(links), count)


def thumbnails(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average images (N, C, S, S) over channels and cells to (N, 16, 16), block by block: they may lie on disk."""
    cell = images.shape[-1] // _SIDE
    small = np.empty((len(images), _SIDE, _SIDE), np.float32)
    block = max(1, _VALUES_AT_ONCE // max(1, images[0].size)) if len(images) else 1
    for start in range(0, len(images), block):
        grey = images[start : start + block].mean(axis=1)
        small[start : start + block] = grey.reshape(-1, _SIDE, cell, _SIDE, cell).mean(axis=(2, 4))
        let_go(images)
    return small


def small_images(arrays: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return thumbnails of the images of several arrays as images, (N, 1, 16, 16): they have the same near copies."""
    return np.concatenate([thumbnails(images) for images in arrays])[:, None]
