"""`fit`: from a cohort and a recipe to a saved model, with work that is not lost when it is killed."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ddad import __version__
from ddad.cohorts import Cohort, ImageWarning, Role, SkippedImage, decode
from ddad.cohorts.rows import described
from ddad.cohorts.seen import pixel_digests
from ddad.detectors import DETECTORS, Detector, FitContext
from ddad.errors import CohortError, require
from ddad.evaluation.calibration import Calibration
from ddad.machine import checked_workers, processor_cores
from ddad.making import make_model, warn_of_fit
from ddad.model import Model
from ddad.normals import MINIMUM_NORMALS, Normals, Stored, known_normals, trusted_normals
from ddad.planning import check_plan, say_what_is_not_read
from ddad.progress import Progress, listener
from ddad.recipe import Recipe
from ddad.training.device import Compute, DeviceName
from ddad.trimming import NOT_KNOWN_NORMAL
from ddad.unlabeled_share import share_estimate
from ddad.wording import counted
from ddad.workspace import Stopwatch, check_begun_with

FEW_NORMALS = 100
_LEARNED_FROM = (Role.NORMAL, Role.UNLABELED, Role.ABNORMAL)
_KNOWN, _PILE, _UNLABELED, _ABNORMAL = "known normal", "pile", "unlabeled", "abnormal"
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
_MAPS_FOR_QUANTILES = 256
_PIXELS_FOR_QUANTILES = 2_000_000


def fit(
    cohort: Cohort,
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: DeviceName = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Model:
    """Fit a detector on the normal and unlabeled images of a cohort.

    Without normal images, those of the unlabeled ones that are likely to be normal take their place (`trimming`).

    Args:
        cohort: normal images, or many unlabeled ones; unlabeled ones are used if there are any; images known to be
            abnormal go to a detector that takes them; test images are not touched.
        recipe: all settings; `Recipe()` is the `fast` preset.
        out: folder to save the model in. Unfinished work is kept beside it, and a fit that was killed goes
            on from there and ends with the same weights.
        overwrite: replace `out`, unless it is the model of this very fit, which is returned as it is; and drop
            unfinished work that belongs to other data or settings.
        device: `auto`, `cpu` or `cuda`.
        workers: networks trained side by side, 0 in this process; default: one for each processor core.
        progress: told what is being fitted; without it, doubts are issued as `FitWarning`.

    Raises:
        CohortError: too few usable images.
        DivergenceError: a network did not learn.
        SettingError: an argument cannot be used, or the detector takes no abnormal images and there are some.
        OutputError: `out` exists, other unfinished work lies there, or the disk is full.
    """
    recipe = Recipe() if recipe is None else recipe
    require("cohort", cohort, Cohort, "Cohort.from_folders(normal=FOLDER)")
    require("recipe", recipe, Recipe, "Recipe.preset('paper')")
    is_unheard, progress = progress is None, listener(progress)
    compute = Compute.choose(device, recipe.precision)
    workers = processor_cores() if workers is None else checked_workers(workers)
    check_plan(cohort, recipe)
    say_what_is_not_read(cohort, recipe, progress)
    plan = plan_of(cohort, compute, progress, recipe=recipe.model_dump(mode="json"))

    def make(folder: Path) -> Model:
        return train(cohort, recipe, FitContext(folder, compute, workers, progress))

    model = make_model(make, plan, plan, out, overwrite=overwrite, progress=progress)
    if is_unheard:
        warn_of_fit(model)
    return model


def plan_of(cohort: Cohort, compute: Compute, progress: Progress, **settings: Any) -> dict[str, Any]:
    """Return what decides how a fit ends: two of one plan end with the same weights, and go on with each other's work.

    Args:
        cohort: what is fitted on.
        compute: device and precision.
        progress: told of the reading of all files.
        settings: whatever else decides, for JSON.
    """
    return {
        # Training draws images by their place in the list, so another order is other work.
        "order": [path.name for role in _LEARNED_FROM for path in cohort.paths(role)],
        **settings,
        "cohort": cohort.fingerprint(progress),
        "compute": compute.to_json(),
        "ddad": __version__,
        "torch": torch.__version__,
    }


def train(cohort: Cohort, recipe: Recipe, context: FitContext, notes: dict[str, Any] | None = None) -> Model:
    """Go all the way from images to a calibrated model, in a workspace that may hold a part of the way.

    Args:
        cohort: what to fit on.
        recipe: all settings.
        context: workspace, device, workers and progress.
        notes: entries for the model card, e.g. how the recipe was chosen.

    Raises:
        CohortError: too few usable images.
        DivergenceError: a network did not learn.
        OutputError: the disk is full.
    """
    stopwatch = Stopwatch(context.workspace)
    _ = cohort.warnings  # files may be gone when the card needs them
    images = _decode(cohort, recipe, context)
    decoded = {f"{name} images": context.workspace / f"{name}.npy" for name in images.pixels}
    check_begun_with(context.workspace, decoded)
    normals = _choose_normals(images, recipe, context)
    beside = {str(role): stored.file for role, stored in normals.beside.items()}
    check_begun_with(context.workspace, {"normal": normals.trained.file, **beside})  # groups are divided by their names
    detector = DETECTORS[recipe.detector](recipe)
    unlabeled = None if normals.unlabeled is None else normals.unlabeled.file
    with _share(images, recipe, context) as share:
        curves = detector.fit(normals.trained.file, unlabeled, _with_groups(context, normals))
        card = _card(cohort, detector, images, normals) | {
            "compute": {**context.compute.described(), "workers": context.workers},
            "training_curves": curves,
            **(notes or {}),
            **normals.notes,
        }
        model = Model(detector, card)
        _calibrate(model, normals, context)
        if share is not None:
            model.card["prevalence"] = share()
    model.card["seconds"] = round(stopwatch.seconds(), 1)
    return model


@dataclass
class _Images:
    """The images of a fit, by what they are to it, and what to know of them.

    Attributes:
        pixels: (N, C, S, S) in [-1, 1] of those that can be used, mapped from a file of that name in the workspace.
        rows: of the cohort's table, of the same images.
        skipped: files that cannot be used.
        warnings: what to know about those that are.
        lost_colour: how many of them are in colour, where their pixels are not.
    """

    skipped: list[SkippedImage]
    pixels: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    rows: dict[str, pd.DataFrame] = field(default_factory=dict)
    warnings: list[ImageWarning] = field(default_factory=list)
    lost_colour: int = 0

    def colour_notes(self) -> list[str]:
        """Say so if all images are in colour, and none of it is kept."""
        count = sum(len(rows) for rows in self.rows.values())
        if not count or self.lost_colour < count:
            return []
        return [
            f"all {count} images are in colour; images.channels=1 keeps their brightness alone (for colour: "
            "--set images.channels=3)."
        ]

    def groups(self, name: str) -> list[str]:
        """Return the patient of each image."""
        return list(self.rows[name]["group"])

    def stored(self, name: str, context: FitContext) -> Stored | None:
        """Return the images as a file; None if there are none."""
        return Stored(context.workspace / f"{name}.npy", self.groups(name)) if name in self.pixels else None


def _decode(cohort: Cohort, recipe: Recipe, context: FitContext) -> _Images:
    """Write the pixels of each role that is learned from into a file of the workspace."""
    images = _Images(list(cohort.skipped))
    normals = {_KNOWN: Role.NORMAL, _UNLABELED: Role.UNLABELED}
    if not cohort.paths(Role.NORMAL):
        normals = {_PILE: Role.UNLABELED}
    for name, role in {**normals, _ABNORMAL: Role.ABNORMAL}.items():
        if not (paths := cohort.paths(role)):
            continue
        result = decode(
            paths,
            recipe.images,
            into=context.workspace / f"{name}.npy",
            workers=processor_cores(),
            progress=context.progress,
            title=f"reading {role} images",
        )
        images.skipped += result.skipped
        images.warnings += result.warnings
        images.lost_colour += len(result.lost_colour)
        if name != _KNOWN and not result.kept:
            raise CohortError(f"{name}: no usable image. {_skipped(images)}")
        images.pixels[name], images.rows[name] = result.pixels, cohort.of(role).iloc[result.kept]
    return images


def _choose_normals(images: _Images, recipe: Recipe, context: FitContext) -> Normals:
    """Take the images that are known to be normal, or else those of the pile that are likely to be.

    Raises:
        CohortError: they are too few, or no unlabeled image is left beside those held out.
    """
    known, pile, unlabeled, abnormal = (images.stored(name, context) for name in (_KNOWN, _PILE, _UNLABELED, _ABNORMAL))
    if pile is not None:
        normals = trusted_normals(pile, list(images.rows[_PILE]["path"]), abnormal, recipe, context)
    else:
        assert known is not None
        normals = known_normals(known, unlabeled, abnormal, recipe)
    if normals.count < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: only {counted(normals.count, 'usable image')}, at least {MINIMUM_NORMALS} are needed to fit. "
            f"{_skipped(images)}"
        )
    images_of_normals = np.load(normals.trained.file, mmap_mode="r", allow_pickle=False)
    if all((image == images_of_normals[0]).all() for image in images_of_normals):
        raise CohortError(
            f"normal: all {normals.count} usable images are the same at {images_of_normals.shape[-1]} pixels, from "
            "which nothing can be learned. Give others."
        )
    if normals.count < FEW_NORMALS:
        context.progress.message(f"{normals.count} normal images are few: an epoch goes over them several times")
    return normals


def _with_groups(context: FitContext, normals: Normals) -> FitContext:
    """Return the context with what the detector may know of the images: patients, and which are abnormal."""
    groups = {stored.file: stored.groups for stored in (normals.trained, *normals.beside.values())}
    abnormal = None if normals.abnormal is None else normals.abnormal.file
    return replace(context, abnormal=abnormal, groups=groups)


def _card(cohort: Cohort, detector: Detector, images: _Images, normals: Normals) -> dict[str, Any]:
    """Return what the model card says of the recipe, the images and the versions."""
    beside = {str(role): len(stored.groups) for role, stored in normals.beside.items()}
    unused = []
    if detector.abnormal_unused:
        count, beside[str(Role.ABNORMAL)] = beside[Role.ABNORMAL], 0
        unused = [f"the {count} known abnormal images were not learned from: {detector.abnormal_unused}."]
    return {
        "ddad": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "preset": detector.recipe.preset_name,
        "seed": detector.recipe.seed,
        "primary_score": detector.primary_score,
        "cohort": {
            "name": cohort.name,
            "fingerprint": cohort.fingerprint(),
            "digests": cohort.digests(*_LEARNED_FROM),
            "pixel_digests": pixel_digests(images.pixels.values()),
            "normal": normals.count,
            "held_out_normal": len(normals.held_out),
            **{str(role): 0 for role in (Role.UNLABELED, Role.ABNORMAL)},
            **beside,
            "left_out": {str(role): stored.left_out for role, stored in normals.beside.items()},
            **described(images.skipped),
            "warnings": [
                *cohort.warnings,
                *images.colour_notes(),
                *(_doubts_of_trust(detector) if _PILE in images.pixels else []),
                *normals.warnings,
                *unused,
                *(f"{warning.path}: {warning.text}" for warning in images.warnings),
            ],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "pillow", "safetensors")},
        },
    }


def _doubts_of_trust(detector: Detector) -> list[str]:
    """Say what to know of a model that was fitted without known normal images."""
    if not detector.sees_unlabeled:
        return [NOT_KNOWN_NORMAL]
    by_construction = (
        f"no image was known to be normal, and {detector.name} learns how the other images differ from the trusted "
        "ones: they do by construction, also where both are normal. Take --detector ddad."
    )
    return [NOT_KNOWN_NORMAL, by_construction]


def _calibrate(model: Model, normals: Normals, context: FitContext) -> None:
    """Enter into the card what unseen normal images score, and calibrate by them if they are known to be normal."""
    pixels, of = normals.held_out, normals.of
    if not len(pixels):
        pixels, of = _mapped(normals.trained.file), "training normals"
    model.card["held_out_normals"], scores = _statistics(model, pixels, context, of=of)
    if normals.held_groups:
        model.calibration = Calibration.from_scores(scores, normals.held_groups, of=of, score=model.primary_score)


def _share(
    images: _Images, recipe: Recipe, context: FitContext
) -> AbstractContextManager[Callable[[], dict[str, Any] | None] | None]:
    """Estimate the share of abnormal images among the unlabeled ones, where there are normal ones beside."""
    normal, unlabeled = (images.stored(name, context) for name in (_KNOWN, _UNLABELED))
    if normal is None or unlabeled is None:
        return nullcontext()
    return share_estimate(normal, unlabeled, recipe.seed, context)


def _statistics(
    model: Model, pixels: NDArray[np.float32], context: FitContext, *, of: str
) -> tuple[dict[str, Any], list[float]]:
    """Describe what unseen normal images score: every score sorted, and quantiles of the pixels of some maps.

    Returns:
        The description, and the main score of each image in their order.
    """
    scores: dict[str, list[float]] = {}
    values: dict[str, list[NDArray[np.float32]]] = {}
    step = max(1, len(pixels[:_MAPS_FOR_QUANTILES]) * pixels.shape[-1] ** 2 // _PIXELS_FOR_QUANTILES)
    some = np.linspace(0, len(pixels) - 1, min(len(pixels), _MAPS_FOR_QUANTILES)).round().astype(int)
    with context.progress.task(f"scoring {of}", len(pixels)) as bar:
        for image_scores, _ in model.score_pixels(pixels, context.compute, maps=False):
            for name, score in image_scores.items():
                scores.setdefault(name, []).append(score)
            bar.advance()
    with context.progress.task(f"maps of {of}", len(some)) as bar:
        for _, maps in model.score_pixels(pixels[some], context.compute):
            for name, score_map in maps.items():
                values.setdefault(name, []).append(score_map.ravel()[::step].copy())  # a view would keep the map
            bar.advance()
    quantiles = {name: np.quantile(np.concatenate(parts), _QUANTILES) for name, parts in values.items()}
    main = list(scores[model.primary_score])
    described = {
        "of": of,
        "count": len(pixels),
        "scores": {name: sorted(listed) for name, listed in scores.items()},
        "maps": {
            name: {str(q): float(v) for q, v in zip(_QUANTILES, found, strict=True)}
            for name, found in quantiles.items()
        },
    }
    return described, main


def _mapped(file: Path) -> NDArray[np.float32]:
    images: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    return images


def _skipped(images: _Images) -> str:
    first = f", the first: {images.skipped[0].path}: {images.skipped[0].reason}" if images.skipped else ""
    return f"Skipped: {len(images.skipped)}{first}."
