"""`fit`: from a cohort and a recipe to a saved model, with work that is not lost when it is killed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddad import __version__
from ddad.cohorts import Cohort, ImageWarning, Role, SkippedImage, decode, hold_out_unseen
from ddad.cohorts.held_out import groups_with_copies
from ddad.cohorts.near_copies import thumbnails
from ddad.cohorts.pixels import save_rows
from ddad.cohorts.split import hold_out_groups
from ddad.detectors import DETECTORS, FitContext
from ddad.errors import CohortError
from ddad.evaluation.calibration import Calibration
from ddad.evaluation.prevalence import estimate_prevalence
from ddad.files import Workspace, output_folder
from ddad.model import Model
from ddad.progress import Progress, SilentProgress
from ddad.recipe import Recipe
from ddad.training.device import Compute, DeviceName
from ddad.training.seeds import derived_seed

MINIMUM_NORMALS = 8
_ROLES = {"known normal": Role.NORMAL, "unlabeled": Role.UNLABELED}
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
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

    Args:
        cohort: needs normal images; unlabeled ones are used if there are any; test images are not touched.
        recipe: all settings; `Recipe()` is the `fast` preset.
        out: folder to save the model in. Unfinished work is kept beside it, and a fit that was killed goes
            on from there and ends with the same weights.
        overwrite: replace `out`, and drop unfinished work that belongs to other data or settings.
        device: `auto`, `cpu` or `cuda`.
        workers: networks trained side by side; default: one for each processor core.
        progress: told what is being fitted.

    Raises:
        CohortError: too few usable images.
        SettingError: the device is not there.
        OutputError: `out` exists, other unfinished work lies there, or the disk is full.
    """
    recipe = recipe or Recipe()
    progress = progress or SilentProgress()
    compute = Compute.choose(device, recipe.precision)
    if workers is None:
        workers = os.cpu_count() or 1
    if compute.device == "cuda":
        workers = 0
    if DETECTORS[recipe.detector].needs_unlabeled and not cohort.paths(Role.UNLABELED):
        raise CohortError(
            f"unlabeled: none, and detector {recipe.detector} needs them. Add some, or take --detector ddad."
        )
    groups = cohort.of(Role.NORMAL)["group"].tolist()
    kept, held = hold_out_groups(groups, recipe.holdout, recipe.seed)
    if len(kept) < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: {len(groups)} images, {len(held)} of them held out; at least {MINIMUM_NORMALS} are needed to "
            "fit. Add known normal images (--normal), or hold out fewer (--set holdout=0)."
        )
    plan = {
        # Training draws images by their place in the list, so another order is other work.
        "order": [path.name for role in (Role.NORMAL, Role.UNLABELED) for path in cohort.paths(role)],
        "recipe": recipe.model_dump(mode="json"),
        "cohort": cohort.fingerprint(),
        "compute": compute.to_json(),
        "ddad": __version__,
        "torch": torch.__version__,
    }
    images = {"known normal": cohort.paths(Role.NORMAL), "unlabeled": cohort.paths(Role.UNLABELED)}
    if out is None:
        workspace = Workspace.temporary()
        try:
            with workspace.claimed(plan, overwrite=True) as folder:
                return _fit(cohort, images, recipe, folder, compute, workers, progress)
        finally:
            workspace.remove()
    workspace = Workspace.beside(Path(out).resolve())
    if workspace.holds(plan) and (finished := _finished_model(Path(out), plan)) is not None:
        workspace.remove()
        return finished
    target = output_folder(out, overwrite=overwrite)
    with workspace.claimed(plan, overwrite=overwrite) as folder:
        try:
            model = _fit(cohort, images, recipe, folder, compute, workers, progress)
        except CohortError:
            workspace.remove()  # nothing was learned from images that cannot be used
            raise
        model.save(target, overwrite=overwrite)
    workspace.remove()
    return model


def _fit(
    cohort: Cohort,
    images: dict[str, list[Path]],
    recipe: Recipe,
    workspace: Path,
    compute: Compute,
    workers: int,
    progress: Progress,
) -> Model:
    started = time.monotonic()
    skipped: list[SkippedImage] = []
    warnings: list[ImageWarning] = []

    pixels: dict[str, NDArray[np.float32]] = {}
    used: dict[str, list[int]] = {}
    for name, paths in images.items():
        if not paths:
            continue
        result = decode(
            paths,
            recipe.images,
            into=workspace / f"{name}.npy",
            workers=os.cpu_count() or 1,
            progress=progress,
            title=f"reading {name} images",
        )
        skipped += result.skipped
        warnings += result.warnings
        pixels[name], used[name] = result.pixels, result.kept
    known, unlabeled = pixels["known normal"], pixels.get("unlabeled")
    patients = {name: cohort.of(_ROLES[name])["group"].iloc[places].tolist() for name, places in used.items()}
    kept, held, groups = hold_out_unseen(known, patients["known normal"], recipe.holdout, recipe.seed)
    if len(kept) < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: only {len(kept)} usable images, at least {MINIMUM_NORMALS} are needed to fit. "
            f"Skipped: {len(skipped)}{_first_reason(skipped)}."
        )
    if unlabeled is not None and not len(unlabeled):
        raise CohortError(f"unlabeled: no usable image. Skipped: {len(skipped)}{_first_reason(skipped)}.")

    normal_file = workspace / "known normal.npy"
    if len(held):
        normal_file = workspace / "normal.npy"
        save_rows(known, kept, normal_file)

    detector = DETECTORS[recipe.detector](recipe)
    curves = detector.fit(
        normal_file,
        None if unlabeled is None else workspace / "unlabeled.npy",
        FitContext(workspace, compute, workers, progress),
    )
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
                "digests": cohort.digests(Role.NORMAL, Role.UNLABELED),
                "normal": len(kept),
                "held_out_normal": len(held),
                "unlabeled": 0 if unlabeled is None else len(unlabeled),
                "skipped": [[str(image.path), image.reason] for image in skipped],
                "warnings": [*cohort.warnings, *(f"{w.path}: {w.text}" for w in warnings)],
            },
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "numpy", "pillow", "safetensors")},
            },
            "compute": {**compute.to_json(), "workers": workers},
            "training_curves": curves,
        },
    )
    of = "held-out normals" if len(held) else "training normals"
    reference = known[held] if len(held) else known
    model.card["held_out_normals"], scores = _statistics(model, reference, compute, progress, of=of)
    if len(held):
        model.calibration = Calibration.from_scores(
            scores, [groups[index] for index in held], of=of, score=model.primary_score
        )
    if unlabeled is not None:
        model.card["prevalence"] = unlabeled_prevalence(known, unlabeled, [*patients.values()], recipe, progress)
    model.card["seconds"] = round(time.monotonic() - started, 1)
    return model


def _statistics(
    model: Model, pixels: NDArray[np.float32], compute: Compute, progress: Progress, *, of: str
) -> tuple[dict[str, Any], list[float]]:
    """Describe what unseen normal images score: every score sorted, and quantiles of every map's pixels.

    Returns:
        The description, and the main score of each image in their order.
    """
    scores: dict[str, list[float]] = {}
    values: dict[str, list[NDArray[np.float32]]] = {}
    step = max(1, len(pixels) * pixels.shape[-1] ** 2 // _PIXELS_FOR_QUANTILES)
    with progress.task(f"scoring {of}", len(pixels)) as bar:
        for image_scores, maps in model.score_pixels(pixels, compute):
            for name, score in image_scores.items():
                scores.setdefault(name, []).append(score)
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
        small = np.concatenate([thumbnails(normal), thumbnails(unlabeled)])[:, None]
        groups = groups_with_copies(small, [name for names in patients for name in names])
        found = estimate_prevalence(normal, unlabeled, groups, seed=derived_seed(recipe.seed, "prevalence"))
        bar.advance()
    return None if found is None else found.to_json()


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
