"""Holding images out, whole groups only: no patient on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from ddad.errors import SettingError

Indices = NDArray[np.int64]


def hold_out(groups: Sequence[str], share: float, seed: int) -> tuple[Indices, Indices]:
    """Choose whole groups that make up about `share` of the images.

    The choice depends on the seed and the groups' names, not on their order. At least one group is kept.

    Args:
        groups: the group of each image.
        share: what part of the images to hold out, 0 for none.
        seed: the same seed chooses the same groups.

    Returns:
        The indices of the images that are kept, and of those held out, both ascending.

    Raises:
        SettingError: the share is not in [0, 1).
    """
    _check(share)
    names, members, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    wanted = share * len(groups)
    held: list[int] = []
    count = 0
    for group in np.random.default_rng(seed).permutation(len(names)).tolist():
        size = int(sizes[group])
        # A group is taken only if it brings the count nearer; a smaller one may still fit.
        if len(held) < len(names) - 1 and abs(count + size - wanted) < abs(count - wanted):
            held.append(group)
            count += size
    out = np.isin(members, held)
    return np.flatnonzero(~out), np.flatnonzero(out)


def hold_out_groups(groups: Sequence[str], share: float, seed: int) -> tuple[Indices, Indices]:
    """Draw a share of the groups at random, whatever their sizes: held-out and new groups are then exchangeable.

    `hold_out`, which looks at sizes to hold out a share of the images, prefers small groups. Where each image is a
    group of its own, both choose the same, but for one image where the share ends in a half: 3.5 images are 3 there,
    and the even number here. At least one group is kept.

    Args:
        groups: the group of each image.
        share: what part of the groups to hold out, 0 for none.
        seed: the same seed chooses the same groups.

    Returns:
        The indices of the images that are kept, and of those held out, both ascending.

    Raises:
        SettingError: the share is not in [0, 1).
    """
    _check(share)
    names, members = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    count = min(round(share * len(names)), len(names) - 1)
    out = np.isin(members, np.random.default_rng(seed).permutation(len(names))[:count])
    return np.flatnonzero(~out), np.flatnonzero(out)


def _check(share: float) -> None:
    if not 0 <= share < 1:
        raise SettingError(f"holdout is {share:g}; it is a share of the images, at least 0 and below 1.")


def group_folds(groups: Indices, kinds: NDArray[np.int64] | NDArray[np.bool_], folds: int, seed: int) -> Indices:
    """Divide images into folds of whole groups, each with a like share of every kind.

    Where almost all images are of one group, groups cannot be kept, and every image stands alone.

    Args:
        groups: (N,) number of the group of each image.
        kinds: (N,) what is spread evenly over the folds.
        folds: how many; fewer if a kind has fewer images, but at least two.
        seed: the same seed makes the same folds.

    Returns:
        (N,) number of the fold of each image, from 0.
    """
    count = min(folds, *np.unique(kinds, return_counts=True)[1].tolist())
    if len(np.unique(groups)) < 2 * count:
        groups = np.arange(len(groups))
    found = np.empty(len(groups), np.int64)
    splitter = StratifiedGroupKFold(max(count, 2), shuffle=True, random_state=seed % 2**32)
    for number, (_, left_out) in enumerate(splitter.split(groups, kinds, groups)):
        found[left_out] = number
    return found


def even_group_folds(groups: Indices, kinds: NDArray[np.int64] | NDArray[np.bool_], folds: int, seed: int) -> Indices:
    """Divide like `group_folds`, with a like number of groups of every kind: a large group counts no more than others.

    Args:
        groups: (N,) number of the group of each image; there are at least two a fold.
        kinds: (N,) whose groups are spread evenly over the folds.
        folds: how many; fewer if a kind has fewer groups, but at least two.
        seed: the same seed makes the same folds.

    Returns:
        (N,) number of the fold of each image, from 0.
    """
    pairs: Indices = np.stack([groups, np.asarray(kinds, np.int64)], axis=1)
    once, places = np.unique(pairs, axis=0, return_inverse=True)
    return group_folds(once[:, 0], once[:, 1], folds, seed)[places.ravel()]
