"""What a fit would be, before any work: what it reads of a recipe, and whether it can be."""

from __future__ import annotations

from collections.abc import Iterable

from ddad.cohorts import Cohort, Role
from ddad.detectors import DDAD, DETECTORS
from ddad.errors import CohortError, SettingError
from ddad.normals import require_images
from ddad.progress import Progress
from ddad.recipe import Recipe
from ddad.wording import counted

_MOVEMENT = "reconstruction.move_below"
_SAID_ONE_BY_ONE = 10
_LEAST_LEFT = 0.5  # of the normals that are not held out, a detector trains its networks on this share or more


def settings_read(cohort: Cohort, recipe: Recipe) -> Recipe:
    """Return the recipe with the preset's values wherever a fit on this cohort does not read them."""
    return settings_read_with(recipe, normals=len(cohort.paths(Role.NORMAL)))


def settings_read_with(recipe: Recipe, *, normals: int) -> Recipe:
    """Return the same for any cohort with so many known normal images, 0 for none."""
    read = sections_read(recipe, has_normals=normals > 0)
    if not normals:  # DDAD, which trimming fits, reads what the detector itself may not
        return recipe.keeping(read)
    unread = DETECTORS[recipe.detector].unread_with(recipe.reconstruction.backbone)
    return recipe.keeping(read, but=(*unread, *((_MOVEMENT,) if _are_many(normals, recipe) else ())))


def _are_many(normals: int, recipe: Recipe) -> bool:
    """Say whether no network is trained on so few normal images that they are moved."""
    usual = Recipe.preset(recipe.preset_name)
    limit = max(one.reconstruction.move_below for one in (recipe, usual))
    return _LEAST_LEFT * normals * (1 - recipe.holdout) >= limit


def sections_read(recipe: Recipe, *, has_normals: bool) -> set[str]:
    """Return which sections of a recipe a fit reads, with known normal images or without."""
    own = {"images", *DETECTORS[recipe.detector].sections}
    return own if has_normals else own | {"trimming", *DDAD.sections}


def check_plan(cohort: Cohort, recipe: Recipe) -> None:
    """Make sure, before any work, that a recipe can be fitted on the images that are there.

    Raises:
        CohortError: too few are left to train on, or the detector needs unlabeled images and there are none.
        SettingError: the detector does not take abnormal images and there are some, or has too few networks.
    """
    _check_detector(cohort, recipe)
    require_images(cohort, recipe)


def say_what_is_not_read(cohort: Cohort, recipe: Recipe, progress: Progress, others: Iterable[Recipe] = ()) -> None:
    """Name every setting of a recipe that a fit on this cohort passes over, and so do fits by other recipes, if any."""
    read = {field for one in (recipe, *others) for field in settings_read(cohort, one).changes_from_preset()}
    unread = [setting for setting in recipe.changes_from_preset() if setting not in read]
    why = f"a fit of {recipe.detector} on these images does not read"
    if len(unread) > _SAID_ONE_BY_ONE:  # those of a whole recipe that several detectors share
        first, more = ", ".join(unread[:_SAID_ONE_BY_ONE]), len(unread) - _SAID_ONE_BY_ONE
        progress.message(f"{first} and {counted(more, 'more setting')} have no effect: {why} them")
        return
    for setting in unread:
        progress.message(f"{setting} has no effect: {why} it")


def _check_detector(cohort: Cohort, recipe: Recipe) -> None:
    """Make sure that the detector takes the images that are there.

    Raises:
        CohortError: it needs unlabeled images and there are none.
        SettingError: it does not take abnormal images and there are some, or has too few networks.
    """
    detector = DETECTORS[recipe.detector]
    has_unlabeled, has_abnormal = bool(cohort.paths(Role.UNLABELED)), bool(cohort.paths(Role.ABNORMAL))
    if not cohort.paths(Role.NORMAL):
        if has_unlabeled and recipe.trimming.trusted < 1 and recipe.reconstruction.members < 2:
            raise SettingError(
                "reconstruction.members: 1, and which unlabeled images are trusted to be normal is told by how far "
                "several networks differ. Take --members 2 or more, or add known normal images."
            )
        has_unlabeled = has_unlabeled and recipe.trimming.trusted < 1  # otherwise all are trusted to be normal
    if detector.needs_unlabeled and not has_unlabeled:
        raise CohortError(
            f"unlabeled: none, and detector {recipe.detector} needs them. Add some, or take --detector ddad."
        )
    if detector.is_spread_alone and not has_unlabeled and recipe.reconstruction.members < 2:
        raise SettingError(
            "reconstruction.members: 1, and without unlabeled images the score is how far several networks differ. "
            "Take --members 2 or more, or add unlabeled images."
        )
    if has_abnormal and not detector.takes_abnormal:
        able = ", ".join(name for name, other in DETECTORS.items() if other.takes_abnormal)
        raise SettingError(
            f"abnormal: detector {recipe.detector} learns from no abnormal image. Take --detector {able}, or leave "
            "the abnormal images out."
        )
    if has_abnormal and not has_unlabeled:
        raise CohortError("abnormal: these images stand beside unlabeled ones, and there are none. Add --unlabeled.")
