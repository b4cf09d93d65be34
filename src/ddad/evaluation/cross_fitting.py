"""Scores of normal and unlabeled images by classifiers that saw neither them nor a copy of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

_BRIGHTNESS_GRID = 16
_TEXTURE_GRID = 8
_COMPONENTS = 100
_BLOCK = 256


def cross_fitted_scores(
    features: NDArray[np.float32],
    is_unlabeled: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    folds: int,
    seed: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield, fold by fold, the places of its images and their scores: higher is more like the unlabeled images.

    The classifier (principal components, then a support vector machine with a radial kernel) is trained on the other
    folds. Within a fold it has seen no image, so its normal images and the normal ones among its unlabeled images are
    exchangeable.

    Args:
        features: (N, F), as `appearance` makes them.
        is_unlabeled: (N,).
        groups: of each image; a group lies in one fold.
        folds: how many.
        seed: of the division into folds.
    """
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    for rest, own in splitter.split(features, is_unlabeled, groups):
        components = min(_COMPONENTS, len(rest) - 1, features.shape[1])
        classifier = make_pipeline(
            StandardScaler(), PCA(components, svd_solver="full"), SVC(class_weight="balanced", cache_size=500)
        )
        classifier.fit(features[rest], is_unlabeled[rest])
        yield own, classifier.decision_function(features[own])


def appearance(images: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Describe some images by their coarse brightness (16x16) and their local contrast and sharpness (8x8 each).

    Args:
        images: (N, C, S, S), S a multiple of 16; they may lie on disk.
        rows: (M,) which of them.

    Returns:
        (M, 384).
    """
    blocks = [_appearance(images[rows[start : start + _BLOCK]]) for start in range(0, len(rows), _BLOCK)]
    return np.concatenate(blocks)


def _appearance(images: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = images.mean(axis=1)
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    parts = [
        _cells(grey, _BRIGHTNESS_GRID).mean(axis=(2, 4)),
        _cells(grey, _TEXTURE_GRID).std(axis=(2, 4)),
        _cells(np.abs(4 * grey - around), _TEXTURE_GRID).mean(axis=(2, 4)),
    ]
    described: NDArray[np.float32] = np.concatenate([part.reshape(len(grey), -1) for part in parts], axis=1)
    return described.astype(np.float32)


def _cells(pictures: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """View pictures (N, S, S) as (N, side, S / side, side, S / side)."""
    count, size, _ = pictures.shape
    return pictures.reshape(count, side, size // side, side, size // side)
