"""Lay images upon one another: which part of the second does the first show?

By the method of Lucas and Kanade (1981): the place is moved, step by step, to where the two differ least. Compared are
their edges, freed of brightness and contrast, which may also be inverted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddad.audit.fine_structure import Pictures, Places
from ddad.audit.look import THUMBNAIL
from ddad.cohorts.near_copies import Indices

_SIDE = THUMBNAIL // 2
_GRID = 16  # points a side that are compared
_STEPS = 6
_FARTHEST = 0.04  # of a side, in one step
_FINE, _COARSE = 1.5, 6.0  # in pixels of a thumbnail: Gaussians between which edges are taken
_AT_ONCE = 4096

Edges = NDArray[np.float32]
"""(N, 1024, 3) edges at 32x32 points, and how they change downwards and across a whole side."""


def edges_of(pictures: Pictures) -> Edges:
    """Return what `registered` compares of pictures (N, 64, 64)."""
    edges = np.empty((len(pictures), _SIDE, _SIDE, 3), np.float32)
    for start in range(0, len(pictures), _AT_ONCE):
        levels = pictures[start : start + _AT_ONCE].astype(np.float32)
        band = _blurred(levels, _FINE) - _blurred(levels, _COARSE)
        spread = np.sqrt(_blurred(band**2, 1.5 * _COARSE))
        small = np.tanh(band / (spread + 1)).reshape(-1, _SIDE, 2, _SIDE, 2).mean(axis=(2, 4))
        changes = (change * _SIDE for change in np.gradient(small, axis=(1, 2)))
        edges[start : start + _AT_ONCE] = np.stack([small, *changes], axis=-1)
    return edges.reshape(len(pictures), -1, 3)


def _blurred(pictures: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(pictures, (0, reach, reach), mode="nearest")
    return blurred


def registered(edges: Edges, first: Indices, second: Indices, mirrored: NDArray[np.bool_], places: Places) -> Places:
    """Return which part of the second image the first one shows, (P, 4), also beyond its borders.

    Args:
        edges: of N images.
        first: (P,) indices of images.
        second: (P,) indices of other images.
        mirrored: (P,) whether the first is mirrored left to right.
        places: (P, 4) where to begin: within a fifteenth of a side.
    """
    found = np.empty_like(places)
    for start in range(0, len(places), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        found[some] = _moved(edges, first[some], second[some], mirrored[some], places[some])
    return found


def _moved(edges: Edges, first: Indices, second: Indices, mirrored: NDArray[np.bool_], places: Places) -> Places:
    along = ((np.arange(_GRID) + 0.5) / _GRID).astype(np.float32)
    down, across = (points.ravel() for points in np.meshgrid(along, along, indexing="ij"))
    own_across = np.where(mirrored[:, None], 1 - across, across)
    shown = _sampled(edges, first, np.broadcast_to(down, own_across.shape), own_across)[..., 0]
    for _ in range(_STEPS):
        top, left, height, width = (column[:, None] for column in places.T)
        y, x = top + height * down, left + width * across
        inside = ((y >= 0) & (y <= 1) & (x >= 0) & (x <= 1)).astype(np.float32)
        there, by_y, by_x = np.moveaxis(_sampled(edges, second, y, x), -1, 0)
        there, wanted = _centred(there, inside), _centred(shown, inside)
        # The strength of contrast between the two, negative if one is inverted.
        gain = (inside * there * wanted).sum(axis=1) / ((inside * there**2).sum(axis=1) + 1e-6)
        gain = np.sign(gain) * np.clip(np.abs(gain), 0.3, 3)
        slopes = np.stack([by_y, by_x, by_y * down, by_x * across], axis=1) * gain[:, None, None]
        slopes = _centred(slopes, inside[:, None])
        weighted = slopes * inside[:, None]
        normal = weighted @ slopes.transpose(0, 2, 1)
        # Where there is hardly an edge, the place is hardly moved.
        floor = 1e-3 * np.trace(normal, axis1=1, axis2=2) / 4 + 1e-6
        normal += floor[:, None, None] * np.eye(4, dtype=np.float32)
        missing = (wanted - gain[:, None] * there)[..., None]
        step = np.linalg.solve(normal, weighted @ missing)[..., 0]
        places = places + np.clip(step, -_FARTHEST, _FARTHEST)
    return places


def _centred(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = (weights * values).sum(axis=-1, keepdims=True) / (weights.sum(axis=-1, keepdims=True) + 1e-6)
    centred: NDArray[np.float32] = values - mean
    return centred


def _sampled(edges: Edges, images: Indices, y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (P, points, 3) at places between pixels, by bilinear interpolation; y, x are shares of the sides."""
    y, x = y * _SIDE - 0.5, x * _SIDE - 0.5
    row, column = (np.clip(np.floor(at), 0, _SIDE - 2) for at in (y, x))
    by_row, by_column = np.clip(y - row, 0, 1)[..., None], np.clip(x - column, 0, 1)[..., None]
    flat = edges.reshape(-1, edges.shape[-1])
    corner = images[:, None] * _SIDE**2 + (row * _SIDE + column).astype(np.int64)
    upper = flat[corner] + (flat[corner + 1] - flat[corner]) * by_column
    lower = flat[corner + _SIDE] + (flat[corner + _SIDE + 1] - flat[corner + _SIDE]) * by_column
    sampled: NDArray[np.float32] = upper + (lower - upper) * by_row
    return sampled
