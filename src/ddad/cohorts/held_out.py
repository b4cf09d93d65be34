"""Holding normal images out of a fit, so that they are as new to the detector as an image of a new patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddad.cohorts.near_copies import joined_groups, near_copies_of, near_copy_groups
from ddad.cohorts.split import Indices, hold_out_groups

_TOO_LARGE = 0.5


def alike_warning(kinds: Sequence[str]) -> str:
    """Return what a user is told of images among which near copies cannot be told from others."""
    return (
        f"{' and '.join(kinds)} images are so alike that near copies cannot be told from others: only identical ones "
        "and those of a group (patient) are kept together. Where a patient has several images, name groups in a "
        "manifest, or more false alarms come than are promised."
    )


def hold_out_unseen(
    images: NDArray[np.float32], groups: Sequence[str], share: float, seed: int
) -> tuple[Indices, Indices, list[str], bool]:
    """Draw a share of the groups; a near copy of an image joins its group.

    A held-out image with a near copy among the training images scores as low as those do, and a threshold set by it
    lets more false alarms through than it promises.

    Args:
        images: (N, C, S, S) in [-1, 1], S a multiple of 16; they may lie on disk.
        groups: the group of each, such as the patient.
        share: what part of the groups to hold out, 0 for none.
        seed: the same seed chooses the same groups.

    Returns:
        The indices of the images that are kept, of those held out, both ascending, the group of each image, and
        whether near copies could be told from others.

    Raises:
        SettingError: the share is not in [0, 1).
    """
    joined, can_be_told = joined_with_copies(images, groups) if share else (list(groups), True)
    kept, held = hold_out_groups(joined, share, seed)
    return kept, held, joined, can_be_told


def related(
    images: NDArray[np.float32], groups: Sequence[str], held: NDArray[np.float32], held_groups: Sequence[str]
) -> tuple[NDArray[np.bool_], bool]:
    """Tell which images show what held-out ones do: near copies, and all of a group (patient) with these or with them.

    Where more than half of the images are near copies, these cannot be told from others, and only identical images
    count.

    Args:
        images: (N, C, S, S) in [-1, 1], S a multiple of 16; they may lie on disk.
        groups: the group of each, as it was given.
        held: (M, C, S, S).
        held_groups: of each, as it was given.

    Returns:
        (N,) whether an image does, and whether near copies could be told from others.
    """
    copies = near_copies_of(held, images)
    can_be_told = bool(copies.mean() <= _TOO_LARGE)
    if not can_be_told:
        identical = {_content(image) for image in held}
        copies = np.array([_content(image) in identical for image in images], bool)
    names = np.asarray(groups, dtype=str)
    return np.isin(names, [*held_groups, *names[copies]]), can_be_told


def groups_with_copies(images: NDArray[np.float32], groups: Sequence[str]) -> list[str]:
    """Return the name of the group of each image, after groups that near copies link were joined.

    Where images are so alike that near copies chain through most of them, only identical images join.

    Args:
        images: (N, C, S, S) in [-1, 1], S a multiple of 16; they may lie on disk.
        groups: the group of each, such as the patient.
    """
    return joined_with_copies(images, groups)[0]


def joined_with_copies(images: NDArray[np.float32], groups: Sequence[str]) -> tuple[list[str], bool]:
    """Do as `groups_with_copies`, and tell whether near copies could be told from others."""
    if len(images) < 2:
        return list(groups), True
    # Where near copies chain through most images, identical ones are still known, and if they are most, groups.
    largest = max(_largest(groups), _TOO_LARGE * len(images))
    joined = _named(groups, joined_groups(groups, near_copy_groups(images)))
    if _largest(joined) <= largest:
        return joined, True
    contents = [_content(image) for image in images]
    identical = _named(groups, joined_groups(groups, np.unique(contents, return_inverse=True)[1]))
    return (identical if _largest(identical) <= largest else list(groups)), False


def _content(image: NDArray[np.float32]) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def _largest(groups: Sequence[str]) -> int:
    return int(np.unique(groups, return_counts=True)[1].max())


def _named(groups: Sequence[str], numbers: Indices) -> list[str]:
    """Name each joined group for the first of its groups in alphabetical order: numbers depend on the images' order."""
    order = np.argsort(np.asarray(groups, dtype=str), kind="stable")
    _, first = np.unique(numbers[order], return_index=True)
    names = [groups[index] for index in order[first]]
    return [names[number] for number in numbers]
