"""Near copies among decoded images: the same picture again, with another contrast or mirrored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_SIDE = 16
_BLOCK = 2048

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
    count, _, size, _ = images.shape
    cell = size // _SIDE
    thumbnails = images.mean(axis=1).reshape(count, _SIDE, cell, _SIDE, cell).mean(axis=(2, 4))
    upright, mirrored = standardised(thumbnails), standardised(thumbnails[:, :, ::-1])
    found = [links for other in (upright, mirrored) for links in correlated(upright, other, correlation)]
    first, second = (np.concatenate(side) for side in zip(*found, strict=True))
    return linked_groups(first, second, count)


def standardised(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return pictures (N, H, W) as rows (N, H·W) of mean 0 and length 1: their products are correlations."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    # A picture without contrast is like no other.
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (flat / np.maximum(length, 1e-6)).astype(np.float32)
    return unit


def correlated(
    first: NDArray[np.float32], second: NDArray[np.float32], correlation: float
) -> Iterator[tuple[Indices, Indices]]:
    """Yield, block by block, the places in two sets of standardised rows whose correlation is above a value."""
    for start in range(0, max(len(first), 1), _BLOCK):
        row, column = np.nonzero(first[start : start + _BLOCK] @ second.T > correlation)
        yield row + start, column


def linked_groups(first: Indices, second: Indices, count: int) -> Indices:
    """Number the groups that links between `count` things make, from 0; links chain."""
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    groups: Indices = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


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
