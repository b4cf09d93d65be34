"""Which normal images a fit trains on, and which it keeps out to see what unseen ones score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddad.cohorts import Cohort, Role, hold_out_unseen
from ddad.cohorts.pixels import save_rows
from ddad.cohorts.split import hold_out_groups
from ddad.detectors import FitContext
from ddad.errors import CohortError
from ddad.recipe import Recipe
from ddad.trimming import divide_pile

MINIMUM_NORMALS = 8


@dataclass(frozen=True)
class Normals:
    """The images that stand for normal ones in a fit.

    Attributes:
        file: `.npy` file of those to train on.
        count: how many those are.
        held_out: (N, C, S, S), kept out of training; none of them if the recipe holds out nothing.
        of: what the held-out images are called.
        held_groups: of each held-out image, its patient joined with near copies; None where they are not known to be
            normal, so that no threshold may be taken from them.
        unlabeled: `.npy` file of what is left of the unlabeled images; None if there are none.
        groups: by `.npy` file, the patient of each image in it.
        notes: for the model card.
    """

    file: Path
    count: int
    held_out: NDArray[np.float32]
    of: str
    held_groups: list[str] | None
    unlabeled: Path | None
    groups: dict[Path, list[str]]
    notes: dict[str, Any]


def require_images(cohort: Cohort, recipe: Recipe) -> None:
    """Make sure, before any work, that enough normal images are left to train on.

    Raises:
        CohortError: too few are known to be normal, or, where none is, would be trusted to be.
    """
    normals, unlabeled = cohort.paths(Role.NORMAL), cohort.paths(Role.UNLABELED)
    if not normals and unlabeled:
        _require_pile(len(unlabeled), recipe)
        return
    kept, held = hold_out_groups(cohort.of(Role.NORMAL)["group"].tolist(), recipe.holdout, recipe.seed)
    if len(kept) < MINIMUM_NORMALS:
        fewer = ", or hold out fewer (--set holdout=0)" if len(held) else ""
        raise CohortError(
            f"normal: {len(normals)} images, {len(held)} of them held out; at least {MINIMUM_NORMALS} are needed to "
            f"fit. Add known normal images{fewer}."
        )


def known_normals(file: Path, groups: Sequence[str], unlabeled: Path | None, recipe: Recipe) -> Normals:
    """Hold out a part of the images that are known to be normal, and write the rest beside their file.

    Args:
        file: `.npy` file of all of them, (N, C, S, S) in [-1, 1].
        groups: the patient of each.
        unlabeled: `.npy` file of the unlabeled images, if there are any.
        recipe: its `holdout` and `seed` are followed.

    Raises:
        OutputError: the disk is full.
    """
    # An empty file cannot be mapped.
    known = np.load(file, mmap_mode="r" if groups else None, allow_pickle=False)
    kept, held, joined = hold_out_unseen(known, groups, recipe.holdout, recipe.seed)
    rest = file
    if len(held):
        rest = file.with_name("normal.npy")
        save_rows(known, kept, rest)
    names = [joined[index] for index in held]
    groups_left = {rest: [groups[index] for index in kept]}
    return Normals(rest, len(kept), known[held], "held-out normals", names, unlabeled, groups_left, {})


def trusted_normals(
    pile: Path, paths: Sequence[str], groups: Sequence[str], recipe: Recipe, context: FitContext
) -> Normals:
    """Let unlabeled images that are likely to be normal stand for normal ones: the unsupervised mode.

    Args:
        pile: `.npy` file of all unlabeled images, (N, C, S, S) in [-1, 1].
        paths: of each.
        groups: the patient of each.
        recipe: its `trimming`, `reconstruction`, `holdout` and `seed` are followed.
        context: workspace, device, workers and progress.

    Raises:
        CohortError: too few would be trusted.
    """
    _require_pile(len(paths), recipe)
    divided = divide_pile(pile, paths, groups, recipe, context)
    context.progress.message(divided.describe())
    pixels = divided.pixels
    return Normals(
        context.workspace / "normal.npy",
        len(pixels["normal"]),
        pixels.get("held-out normal", pixels["normal"][:0]),
        "held-out trusted images",
        None,
        context.workspace / "unlabeled.npy" if "unlabeled" in pixels else None,
        {
            context.workspace / f"{name}.npy": [groups[place] for place in places]
            for name, places in divided.places.items()
        },
        {"unsupervised": divided.to_json()},
    )


def _require_pile(count: int, recipe: Recipe) -> None:
    expected = round(recipe.trimming.trusted * (1 - recipe.holdout) * count)
    if expected < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: none, and of {count} unlabeled images only about {expected} would be trusted to be normal; at "
            f"least {MINIMUM_NORMALS} are needed to fit. Add unlabeled images, or known normal ones (--normal)."
        )
