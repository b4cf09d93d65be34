"""Which images judge the candidates: whole groups that none of them has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddad.cohorts.held_out import groups_with_copies
from ddad.cohorts.near_copies import small_images
from ddad.cohorts.split import Indices, group_folds
from ddad.errors import CohortError
from ddad.wording import counted

PARTS = 5
"""One part of so many is held out."""

LEAST_HELD_OUT, LEAST_GROUPS = 10, 2
"""Of normal and of unlabeled images: fewer would not tell any two candidates apart."""


@dataclass(frozen=True)
class Division:
    """Places of images among the normal and among the unlabeled ones.

    Attributes:
        held_groups: what belongs together (patients, near copies) among the held-out images, normal ones first.
    """

    kept_normal: Indices
    held_normal: Indices
    kept_unlabeled: Indices
    held_unlabeled: Indices
    held_groups: NDArray[np.str_]


def divide(
    normal: NDArray[np.float32],
    unlabeled: NDArray[np.float32],
    groups: tuple[Sequence[str], Sequence[str]],
    seed: int,
) -> Division:
    """Hold out about a fifth of both kinds of images, whole groups of patients and of near copies.

    A near copy on both sides would let a candidate's memory pass for knowledge.

    Args:
        normal: (N, C, S, S) in [-1, 1].
        unlabeled: (M, C, S, S).
        groups: the patient of each normal image, and of each unlabeled one.
        seed: the same seed holds out the same images.

    Raises:
        CohortError: too few groups, or too few images of a kind, would be held out.
    """
    together = np.asarray(groups_with_copies(small_images([normal, unlabeled]), [*groups[0], *groups[1]]))
    count = len(np.unique(together))
    if count < 2 * PARTS:
        raise CohortError(
            f"selection: the images are of only {counted(count, 'group')} of patients and near copies, at least "
            f"{2 * PARTS} are needed to hold some out. Add images, or fit without --select."
        )
    is_unlabeled = np.arange(len(together)) >= len(normal)
    folds = group_folds(together, is_unlabeled, PARTS, seed)
    parts = [folds == fold for fold in np.unique(folds)]
    # A large group may fill the first part alone.
    held = next((part for part in parts if _shortcoming(part, is_unlabeled, together) is None), parts[0])
    shortcoming = _shortcoming(held, is_unlabeled, together)
    if shortcoming is not None:
        raise CohortError(shortcoming)
    return Division(
        kept_normal=np.flatnonzero(~held[~is_unlabeled]),
        held_normal=np.flatnonzero(held[~is_unlabeled]),
        kept_unlabeled=np.flatnonzero(~held[is_unlabeled]),
        held_unlabeled=np.flatnonzero(held[is_unlabeled]),
        held_groups=together[held],
    )


def _shortcoming(held: NDArray[np.bool_], is_unlabeled: NDArray[np.bool_], groups: NDArray[np.str_]) -> str | None:
    """Say why a part of the images could not judge candidates, and what to do; None if it could."""
    sides = (("normal", groups[held & ~is_unlabeled]), ("unlabeled", groups[held & is_unlabeled]))
    for kind, side in sides:
        if len(side) < LEAST_HELD_OUT:
            return (
                f"selection: {counted(len(side), f'{kind} image')} would be held out to judge by, at least "
                f"{LEAST_HELD_OUT} are needed. Add {kind} images, or fit without --select."
            )
    for kind, side in sides:
        if len(np.unique(side)) < LEAST_GROUPS:
            return (
                f"selection: the {kind} images that would be held out to judge by are of fewer than {LEAST_GROUPS} "
                f"groups of patients and near copies. Add {kind} images, or fit without --select."
            )
    return None
