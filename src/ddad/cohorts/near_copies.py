"""Near copies among decoded images: the same picture again, with another contrast or mirrored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_SIDE = 16
_BLOCK = 2048


def near_copy_groups(images: NDArray[np.float32], correlation: float = 0.97) -> NDArray[np.int64]:
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
    upright, mirrored = _standardised(thumbnails), _standardised(thumbnails[:, :, ::-1])
    rows, columns = [np.arange(count)], [np.arange(count)]
    for start in range(0, count, _BLOCK):
        block = upright[start : start + _BLOCK]
        row, column = np.nonzero(np.maximum(block @ upright.T, block @ mirrored.T) > correlation)
        rows.append(row + start)
        columns.append(column)
    row, column = np.concatenate(rows), np.concatenate(columns)
    links = coo_array((np.ones(len(row), bool), (row, column)), shape=(count, count))
    groups: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def _standardised(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    # A picture without contrast is like no other.
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (flat / np.maximum(length, 1e-6)).astype(np.float32)
    return unit
