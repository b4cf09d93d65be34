"""Which normal images a fit trains on, and which it keeps out to see what unseen ones score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddad.cohorts import Cohort, Role, hold_out_unseen
from ddad.cohorts.held_out import alike_warning, related
from ddad.cohorts.pixels import save_rows
from ddad.cohorts.split import hold_out_groups
from ddad.detectors import FitContext
from ddad.errors import CohortError
from ddad.recipe import Recipe
from ddad.trimming import divide_pile, expected_trust
from ddad.wording import counted

MINIMUM_NORMALS = 8
_HELD_OUT = "held-out normals"
_OTHER_CALIBRATION = (
    "hold nothing out (--set holdout=0) and calibrate with other normals (ddad calibrate MODEL --normal DIR)"
)


@dataclass(frozen=True)
class Stored:
    """Images in a file.

    Attributes:
        file: `.npy` file, (N, C, S, S) in [-1, 1].
        groups: the patient of each.
        left_out: how many were there besides, which show what held-out normals do.
        warnings: what to know of that.
        alike: whether near copies of held-out normals could not be told from others.
    """

    file: Path
    groups: list[str]
    left_out: int = 0
    warnings: list[str] = field(default_factory=list)
    alike: bool = False


@dataclass(frozen=True)
class Normals:
    """The images that stand for normal ones in a fit, and what is trained on beside them.

    Attributes:
        trained: those to train on.
        held_out: (N, C, S, S), kept out of training; none of them if the recipe holds out nothing.
        of: what the held-out images are called.
        held_groups: of each held-out image, its patient joined with near copies; None where they are not known to be
            normal, so that no threshold may be taken from them.
        unlabeled: what is left of the unlabeled images; None if there are none.
        abnormal: what is left of those known to be abnormal; None if there are none.
        notes: for the model card.
        doubts: what to know of how they were found.
        alike: whether near copies among the normals could not be told from others.
    """

    trained: Stored
    held_out: NDArray[np.float32]
    of: str
    held_groups: list[str] | None
    unlabeled: Stored | None
    abnormal: Stored | None
    notes: dict[str, Any] = field(default_factory=dict)
    doubts: Sequence[str] = ()
    alike: bool = False

    @property
    def warnings(self) -> list[str]:
        """What to know of how they were divided."""
        said = [*self.doubts]
        said += [warning for stored in self.beside.values() for warning in stored.warnings]
        kinds = ["normal"] if self.alike else []
        kinds += [str(role) for role, stored in self.beside.items() if stored.alike]
        return [*said, alike_warning(kinds)] if kinds else said

    @property
    def count(self) -> int:
        """How many images are trained on as normal ones."""
        return len(self.trained.groups)

    @property
    def beside(self) -> dict[Role, Stored]:
        """The unlabeled and the abnormal images, where there are any, by role."""
        stored = {Role.UNLABELED: self.unlabeled, Role.ABNORMAL: self.abnormal}
        return {role: images for role, images in stored.items() if images is not None}


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
            f"normal: {counted(len(normals), 'image')}, {len(held)} of them held out; at least {MINIMUM_NORMALS} are "
            f"needed to fit. Add known normal images{fewer}."
        )


def known_normals(known: Stored, unlabeled: Stored | None, abnormal: Stored | None, recipe: Recipe) -> Normals:
    """Hold out a part of the images that are known to be normal, and write the rest beside their file.

    Unlabeled and abnormal images that show what held-out ones do are left out of training.

    Args:
        known: all images that are known to be normal.
        unlabeled: the unlabeled images, if there are any.
        abnormal: those known to be abnormal, if there are any.
        recipe: its `holdout` and `seed` are followed.

    Raises:
        CohortError: no unlabeled image is left, or no abnormal one.
        OutputError: the disk is full.
    """
    # An empty file cannot be mapped.
    images = np.load(known.file, mmap_mode="r" if known.groups else None, allow_pickle=False)
    kept, held, joined, can_be_told = hold_out_unseen(images, known.groups, recipe.holdout, recipe.seed)
    held_groups = [known.groups[index] for index in held]
    if not len(held):
        return Normals(known, images[:0], _HELD_OUT, [], unlabeled, abnormal)
    save_rows(images, held, known.file.with_name("held-out.npy"))
    held_out = np.load(known.file.with_name("held-out.npy"), mmap_mode="r", allow_pickle=False)
    trained = Stored(known.file.with_name("normal.npy"), [known.groups[index] for index in kept])
    save_rows(images, kept, trained.file)
    return Normals(
        trained,
        held_out,
        _HELD_OUT,
        [joined[index] for index in held],
        unlabeled and without_related(unlabeled, Role.UNLABELED, held_out, held_groups),
        abnormal and without_related(abnormal, Role.ABNORMAL, held_out, held_groups),
        alike=not can_be_told,
    )


def without_related(stored: Stored, role: Role, held: NDArray[np.float32], held_groups: Sequence[str]) -> Stored:
    """Leave out images that show what held-out normals do, which would no longer be unseen; write the rest.

    Args:
        stored: the images.
        role: of them.
        held: held-out normals, (N, C, S, S) in [-1, 1].
        held_groups: the patient of each.

    Raises:
        CohortError: no image is left.
        OutputError: the disk is full.
    """
    images = np.load(stored.file, mmap_mode="r", allow_pickle=False)
    is_related, can_be_told = related(images, stored.groups, held, held_groups)
    left = np.flatnonzero(~is_related)
    left_out = len(images) - len(left)
    why = (
        "they are copies of held-out normals, or of the same groups (patients), and the fit must not see what it is "
        "calibrated by"
    )
    if not len(left):
        raise CohortError(
            f"{role}: none of {len(images)} images is left to train on: {why}. Add other {role} images, or "
            f"{_OTHER_CALIBRATION}."
        )
    if not left_out:
        return replace(stored, alike=not can_be_told)
    file = stored.file.with_name(f"{stored.file.stem} unrelated.npy")
    save_rows(images, left, file)
    said = f"{left_out} of {len(images)} {role} images are left out of training: {why}."
    warning = f"{said} To train on them, {_OTHER_CALIBRATION}."
    return Stored(file, [stored.groups[index] for index in left], left_out, [warning], not can_be_told)


def trusted_normals(
    pile: Stored, paths: Sequence[str], abnormal: Stored | None, recipe: Recipe, context: FitContext
) -> Normals:
    """Let unlabeled images that are likely to be normal stand for normal ones: the unsupervised mode.

    Args:
        pile: all unlabeled images.
        paths: of each.
        abnormal: those known to be abnormal, if there are any.
        recipe: what `trust_likely_normals` reads of it, and `holdout`, are followed.
        context: workspace, device, workers and progress.

    Raises:
        CohortError: too few would be trusted.
        DivergenceError: a network by which they are judged did not learn.
    """
    _require_pile(len(paths), recipe)
    divided = divide_pile(pile.file, paths, pile.groups, recipe, context)
    context.progress.message(divided.describe())
    pixels = divided.pixels
    parts = {
        name: Stored(context.workspace / f"{name}.npy", [pile.groups[place] for place in places])
        for name, places in divided.places.items()
    }
    return Normals(
        parts["normal"],
        pixels.get("held-out normal", pixels["normal"][:0]),
        "held-out trusted images",
        None,
        parts["unlabeled"] if "unlabeled" in pixels else None,
        abnormal,
        {"unsupervised": divided.to_json()},
        divided.trust.doubts,
    )


def _require_pile(count: int, recipe: Recipe) -> None:
    trusted = expected_trust(count, recipe)
    expected = trusted - min(math.ceil(recipe.holdout * trusted - 0.5), trusted - 1)
    if expected < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: none, and of {count} unlabeled images only about {expected} would be trusted to be normal; at "
            f"least {MINIMUM_NORMALS} are needed to fit. Add unlabeled images, or known normal ones (--normal)."
        )
