"""`fit`: from a cohort and a recipe to a saved model, with work that is not lost when it is killed."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
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
from ddad.cohorts.held_out import groups_with_copies
from ddad.cohorts.near_copies import small_images
from ddad.cohorts.rows import described
from ddad.cores import processor_cores
from ddad.detectors import DETECTORS, FitContext
from ddad.errors import CohortError, SettingError
from ddad.evaluation.calibration import Calibration
from ddad.evaluation.prevalence import estimate_prevalence
from ddad.files import output_folder
from ddad.model import Model
from ddad.normals import MINIMUM_NORMALS, known_normals, require_images, trusted_normals
from ddad.progress import Progress, SilentProgress
from ddad.recipe import Recipe
from ddad.training.device import Compute, DeviceName
from ddad.training.seeds import derived_seed
from ddad.trimming import NOT_KNOWN_NORMAL
from ddad.workspace import Stopwatch, Workspace

FEW_NORMALS = 100
_LEARNED_FROM = (Role.NORMAL, Role.UNLABELED, Role.ABNORMAL)
_KNOWN, _PILE = "known normal", "pile"
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
    notes: dict[str, Any] | None = None,
) -> Model:
    """Fit a detector on the normal and unlabeled images of a cohort.

    Without normal images, those of the unlabeled ones that are likely to be normal take their place (`trimming`).

    Args:
        cohort: normal images, or many unlabeled ones; unlabeled ones are used if there are any; images known to be
            abnormal go to a detector that takes them; test images are not touched.
        recipe: all settings; `Recipe()` is the `fast` preset.
        out: folder to save the model in. Unfinished work is kept beside it, and a fit that was killed goes
            on from there and ends with the same weights.
        overwrite: replace `out`, and drop unfinished work that belongs to other data or settings.
        device: `auto`, `cpu` or `cuda`.
        workers: networks trained side by side; default: one for each processor core.
        progress: told what is being fitted.
        notes: entries for the model card, e.g. how the recipe was chosen.

    Raises:
        CohortError: too few usable images.
        DivergenceError: a network did not learn.
        SettingError: the device is not there, or the detector takes no abnormal images and there are some.
        OutputError: `out` exists, other unfinished work lies there, or the disk is full.
    """
    recipe = recipe or Recipe()
    progress = progress or SilentProgress()
    compute = Compute.choose(device, recipe.precision)
    if workers is None:
        workers = processor_cores()
    check_plan(cohort, recipe)
    read = settings_read(cohort, recipe).changes_from_preset()
    for setting in recipe.changes_from_preset():
        if setting not in read:
            progress.message(f"{setting} has no effect: a fit of {recipe.detector} on these images does not read it")
    plan = {
        # Training draws images by their place in the list, so another order is other work.
        "order": [path.name for role in _LEARNED_FROM for path in cohort.paths(role)],
        "recipe": recipe.model_dump(mode="json"),
        "cohort": cohort.fingerprint(progress),
        "compute": compute.to_json(),
        "ddad": __version__,
        "torch": torch.__version__,
    }
    if out is None:
        workspace = Workspace.temporary()
        try:
            with workspace.claimed(plan, overwrite=True) as folder:
                return _fit(cohort, recipe, folder, compute, workers, progress, notes or {})
        finally:
            workspace.remove()
    workspace = Workspace.beside(Path(out).resolve())
    if workspace.holds(plan) and (finished := _finished_model(Path(out), plan)) is not None:
        workspace.remove()
        return finished
    target = output_folder(out, overwrite=overwrite)
    going_on = workspace.holds(plan)
    with workspace.claimed(plan, overwrite=overwrite) as folder:
        if going_on:
            progress.message(f"going on with the unfinished fit in {workspace.folder}")
        model = _fit(cohort, recipe, folder, compute, workers, progress, notes or {})
        model.save(target, overwrite=overwrite)
    workspace.remove()
    return model


def settings_read(cohort: Cohort, recipe: Recipe) -> Recipe:
    """Return the recipe with the preset's values in all sections that a fit on this cohort does not read."""
    sections = {"images", *DETECTORS[recipe.detector].sections}
    if not cohort.paths(Role.NORMAL):
        sections |= {"trimming", "reconstruction"}
    return recipe.keeping(sections)


def check_plan(cohort: Cohort, recipe: Recipe) -> None:
    """Make sure, before any work, that a recipe can be fitted on the images that are there.

    Raises:
        CohortError: too few are left to train on, or the detector needs unlabeled images and there are none.
        SettingError: the detector does not take abnormal images and there are some.
    """
    _check_detector(cohort, recipe)
    require_images(cohort, recipe)


def _fit(
    cohort: Cohort,
    recipe: Recipe,
    workspace: Path,
    compute: Compute,
    workers: int,
    progress: Progress,
    notes: dict[str, Any],
) -> Model:
    stopwatch = Stopwatch(workspace)
    skipped: list[SkippedImage] = list(cohort.skipped)
    warnings: list[ImageWarning] = []

    roles = {_KNOWN: Role.NORMAL, "unlabeled": Role.UNLABELED, "abnormal": Role.ABNORMAL}
    if not cohort.paths(Role.NORMAL):
        roles = {_PILE: Role.UNLABELED, "abnormal": Role.ABNORMAL}
    pixels: dict[str, NDArray[np.float32]] = {}
    rows: dict[str, pd.DataFrame] = {}
    for name, role in roles.items():
        if not (paths := cohort.paths(role)):
            continue
        result = decode(
            paths,
            recipe.images,
            into=workspace / f"{name}.npy",
            workers=processor_cores(),
            progress=progress,
            title=f"reading {role} images",
        )
        skipped += result.skipped
        warnings += result.warnings
        if name != _KNOWN and not result.kept:
            raise CohortError(f"{name}: no usable image. Skipped: {len(skipped)}{_first_reason(skipped)}.")
        pixels[name], rows[name] = result.pixels, cohort.of(role).iloc[result.kept]
    groups = {name: table["group"].tolist() for name, table in rows.items()}

    abnormal = workspace / "abnormal.npy" if "abnormal" in pixels else None
    context = FitContext(workspace, compute, workers, progress, abnormal)
    if _PILE in pixels:
        pile = workspace / f"{_PILE}.npy"
        normals = trusted_normals(pile, rows[_PILE]["path"].tolist(), groups[_PILE], recipe, context)
    else:
        unlabeled = workspace / "unlabeled.npy" if "unlabeled" in pixels else None
        normals = known_normals(workspace / f"{_KNOWN}.npy", groups[_KNOWN], unlabeled, recipe)
    if normals.count < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: only {normals.count} usable images, at least {MINIMUM_NORMALS} are needed to fit. "
            f"Skipped: {len(skipped)}{_first_reason(skipped)}."
        )
    if normals.count < FEW_NORMALS:
        progress.message(f"{normals.count} normal images are few: an epoch goes over them several times")

    given = {workspace / f"{name}.npy": names for name, names in groups.items()}
    detector = DETECTORS[recipe.detector](recipe)
    curves = detector.fit(normals.file, normals.unlabeled, replace(context, groups={**given, **normals.groups}))
    model = Model(
        detector,
        {
            "ddad": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "preset": recipe.preset_name,
            "seed": recipe.seed,
            "primary_score": detector.primary_score,
            "cohort": {
                "name": cohort.name,
                "fingerprint": cohort.fingerprint(),
                "digests": cohort.digests(*_LEARNED_FROM),
                "normal": normals.count,
                "held_out_normal": len(normals.held_out),
                "unlabeled": 0 if normals.unlabeled is None else len(_mapped(normals.unlabeled)),
                "abnormal": len(pixels.get("abnormal", ())),
                **described(skipped),
                "warnings": [
                    *cohort.warnings,
                    *([NOT_KNOWN_NORMAL] if _PILE in pixels else []),
                    *(f"{w.path}: {w.text}" for w in warnings),
                ],
            },
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "numpy", "pillow", "safetensors")},
            },
            "compute": {**compute.to_json(), "workers": workers},
            "training_curves": curves,
            **notes,
            **normals.notes,
        },
    )
    reference, of = (
        (normals.held_out, normals.of) if len(normals.held_out) else (_mapped(normals.file), "training normals")
    )
    model.card["held_out_normals"], scores = _statistics(model, reference, compute, progress, of=of)
    if normals.held_groups:
        model.calibration = Calibration.from_scores(scores, normals.held_groups, of=of, score=model.primary_score)
    if _KNOWN in pixels and "unlabeled" in pixels:
        patients = [groups[_KNOWN], groups["unlabeled"]]
        model.card["prevalence"] = unlabeled_prevalence(pixels[_KNOWN], pixels["unlabeled"], patients, recipe, progress)
    model.card["seconds"] = round(stopwatch.seconds(), 1)
    return model


def _check_detector(cohort: Cohort, recipe: Recipe) -> None:
    """Make sure that the detector takes the images that are there.

    Raises:
        CohortError: it needs unlabeled images and there are none.
        SettingError: it does not take abnormal images and there are some.
    """
    detector = DETECTORS[recipe.detector]
    has_unlabeled, has_abnormal = cohort.paths(Role.UNLABELED), cohort.paths(Role.ABNORMAL)
    if detector.needs_unlabeled and not has_unlabeled:
        raise CohortError(
            f"unlabeled: none, and detector {recipe.detector} needs them. Add some, or take --detector ddad."
        )
    if has_abnormal and not detector.takes_abnormal:
        able = ", ".join(name for name, other in DETECTORS.items() if other.takes_abnormal)
        raise SettingError(
            f"abnormal: detector {recipe.detector} learns from no abnormal image. Take --detector {able}, or leave "
            "the abnormal images out."
        )
    if has_abnormal and not has_unlabeled:
        raise CohortError("abnormal: these images stand beside unlabeled ones, and there are none. Add --unlabeled.")


def _statistics(
    model: Model, pixels: NDArray[np.float32], compute: Compute, progress: Progress, *, of: str
) -> tuple[dict[str, Any], list[float]]:
    """Describe what unseen normal images score: every score sorted, and quantiles of the pixels of some maps.

    Returns:
        The description, and the main score of each image in their order.
    """
    scores: dict[str, list[float]] = {}
    values: dict[str, list[NDArray[np.float32]]] = {}
    step = max(1, len(pixels[:_MAPS_FOR_QUANTILES]) * pixels.shape[-1] ** 2 // _PIXELS_FOR_QUANTILES)
    some = np.linspace(0, len(pixels) - 1, min(len(pixels), _MAPS_FOR_QUANTILES)).round().astype(int)
    with progress.task(f"scoring {of}", len(pixels) + len(some)) as bar:
        for image_scores, _ in model.score_pixels(pixels, compute, maps=False):
            for name, score in image_scores.items():
                scores.setdefault(name, []).append(score)
            bar.advance()
        for _, maps in model.score_pixels(pixels[some], compute):
            for name, score_map in maps.items():
                values.setdefault(name, []).append(score_map.ravel()[::step])
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


def unlabeled_prevalence(
    normal: NDArray[np.float32],
    unlabeled: NDArray[np.float32],
    patients: Sequence[Sequence[str]],
    recipe: Recipe,
    progress: Progress,
) -> dict[str, Any] | None:
    """Estimate the share of abnormal images among the unlabeled ones; None where there are too few images.

    Args:
        normal: (N, C, S, S) in [-1, 1].
        unlabeled: (M, C, S, S).
        patients: the group of each normal and of each unlabeled image; near copies are looked for here.
        recipe: its seed.
        progress: told of the work.
    """
    with progress.task("estimating the share of abnormal images", 1) as bar:
        names = [name for side in patients for name in side]
        groups = groups_with_copies(small_images([normal, unlabeled]), names)
        found = estimate_prevalence(normal, unlabeled, groups, seed=derived_seed(recipe.seed, "prevalence"))
        bar.advance()
    return None if found is None else found.to_json()


def _mapped(file: Path) -> NDArray[np.float32]:
    images: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    return images


def _finished_model(out: Path, plan: dict[str, Any]) -> Model | None:
    """Return the model of `plan` if it was saved already, by a fit that was killed before it could clean up."""
    if not (out / "model_card.json").exists():
        return None
    model = Model.load(out)
    same = (
        model.recipe.model_dump(mode="json") == plan["recipe"] and model.card["cohort"]["fingerprint"] == plan["cohort"]
    )
    return model if same else None


def _first_reason(skipped: Sequence[SkippedImage]) -> str:
    return f", the first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
