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
from ddad.cohorts import Cohort, ImageWarning, Role, SkippedImage, decode, hold_out
from ddad.cohorts.split import Indices
from ddad.detectors import DETECTORS, FitContext
from ddad.errors import CohortError, SettingError
from ddad.files import Workspace, output_folder
from ddad.model import Model
from ddad.progress import Progress, SilentProgress
from ddad.recipe import Recipe
from ddad.training.device import Compute, DeviceName
from ddad.trimming import NOT_CALIBRATED, divide_pile

MINIMUM_NORMALS = 8
FEW_NORMALS = 100
_LEARNED_FROM = (Role.NORMAL, Role.UNLABELED, Role.ABNORMAL)
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
        SettingError: the device is not there, or the detector takes no abnormal images and there are some.
        OutputError: `out` exists, other unfinished work lies there, or the disk is full.
    """
    recipe = recipe or Recipe()
    progress = progress or SilentProgress()
    compute = Compute.choose(device, recipe.precision)
    if workers is None:
        workers = os.cpu_count() or 1
    if compute.device == "cuda":
        workers = 0
    _check_detector(cohort, recipe)
    images = _images(cohort, recipe)
    plan = {
        # Training draws images by their place in the list, so another order is other work.
        "order": [path.name for role in _LEARNED_FROM for path in cohort.paths(role)],
        "recipe": recipe.model_dump(mode="json"),
        "cohort": cohort.fingerprint(),
        "compute": compute.to_json(),
        "ddad": __version__,
        "torch": torch.__version__,
    }
    if out is None:
        workspace = Workspace.temporary()
        try:
            with workspace.claimed(plan, overwrite=True) as folder:
                return _fit(cohort, images, recipe, folder, compute, workers, progress, notes or {})
        finally:
            workspace.remove()
    workspace = Workspace.beside(Path(out).resolve())
    if workspace.holds(plan) and (finished := _finished_model(Path(out), plan)) is not None:
        workspace.remove()
        return finished
    target = output_folder(out, overwrite=overwrite)
    with workspace.claimed(plan, overwrite=overwrite) as folder:
        try:
            model = _fit(cohort, images, recipe, folder, compute, workers, progress, notes or {})
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
    notes: dict[str, Any],
) -> Model:
    started = time.monotonic()
    skipped: list[SkippedImage] = []
    warnings: list[ImageWarning] = []

    pixels: dict[str, NDArray[np.float32]] = {}
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
        pixels[name] = result.pixels
        if name in ("unlabeled", "abnormal") and not result.kept:
            raise CohortError(f"{name}: no usable image. Skipped: {len(skipped)}{_first_reason(skipped)}.")
        if name == "pile":
            _require_pile(len(result.kept), recipe)
            pile = cohort.of(Role.UNLABELED).iloc[result.kept]
    abnormal = workspace / "abnormal.npy" if "abnormal" in pixels else None
    context = FitContext(workspace, compute, workers, progress, abnormal)
    held_out_of = "held-out normals"
    if "pile" in pixels:
        divided = divide_pile(workspace / "pile.npy", pile["path"].tolist(), pile["group"].tolist(), recipe, context)
        progress.message(divided.describe())
        pixels |= divided.pixels
        notes = {**notes, "unsupervised": divided.to_json()}
        held_out_of = "held-out trusted images"
    normal, held_out, unlabeled = (pixels.get(name) for name in ("normal", "held-out normal", "unlabeled"))
    assert normal is not None
    if len(normal) < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: only {len(normal)} usable images, at least {MINIMUM_NORMALS} are needed to fit. "
            f"Skipped: {len(skipped)}{_first_reason(skipped)}."
        )
    if len(normal) < FEW_NORMALS:
        progress.message(f"{len(normal)} normal images are few: an epoch goes over them several times")

    detector = DETECTORS[recipe.detector](recipe)
    curves = detector.fit(
        workspace / "normal.npy",
        None if unlabeled is None else workspace / "unlabeled.npy",
        context,
    )
    reference = held_out if held_out is not None and len(held_out) else normal
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
                "normal": len(normal),
                "held_out_normal": 0 if held_out is None else len(held_out),
                "unlabeled": 0 if unlabeled is None else len(unlabeled),
                "abnormal": len(pixels.get("abnormal", ())),
                "skipped": [[str(image.path), image.reason] for image in skipped],
                "warnings": [
                    *cohort.warnings,
                    *([NOT_CALIBRATED] if "unsupervised" in notes else []),
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
        },
    )
    model.card["held_out_normals"] = _statistics(
        model,
        reference,
        compute,
        progress,
        of=held_out_of if reference is held_out else "training normals",
    )
    model.card["seconds"] = round(time.monotonic() - started, 1)
    return model


def kept_and_held_out(cohort: Cohort, recipe: Recipe) -> tuple[Indices, Indices]:
    """Return the places, among the normal images, of those that a fit trains on and of those that it holds out.

    Raises:
        CohortError: too few are left to train on.
    """
    groups = cohort.of(Role.NORMAL)["group"].tolist()
    kept, held = hold_out(groups, recipe.holdout, recipe.seed)
    if len(kept) < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: {len(groups)} images, {len(held)} of them held out; at least {MINIMUM_NORMALS} are needed to "
            "fit. Add known normal images (--normal), or hold out fewer (--set holdout=0)."
        )
    return kept, held


def _images(cohort: Cohort, recipe: Recipe) -> dict[str, list[Path]]:
    """Return the files to read, by what they are for."""
    normals, unlabeled = cohort.paths(Role.NORMAL), cohort.paths(Role.UNLABELED)
    if not normals and unlabeled:
        _require_pile(len(unlabeled), recipe)
        return {"pile": unlabeled, "abnormal": cohort.paths(Role.ABNORMAL)}
    kept, held = kept_and_held_out(cohort, recipe)
    return {
        "normal": [normals[index] for index in kept],
        "held-out normal": [normals[index] for index in held],
        "unlabeled": unlabeled,
        "abnormal": cohort.paths(Role.ABNORMAL),
    }


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


def _require_pile(count: int, recipe: Recipe) -> None:
    expected = round(recipe.trimming.trusted * (1 - recipe.holdout) * count)
    if expected < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: none, and of {count} unlabeled images only about {expected} would be trusted to be normal; at "
            f"least {MINIMUM_NORMALS} are needed to fit. Add unlabeled images, or known normal ones (--normal)."
        )


def _statistics(
    model: Model, pixels: NDArray[np.float32], compute: Compute, progress: Progress, *, of: str
) -> dict[str, Any]:
    """Describe what unseen normal images score: every score sorted, and quantiles of every map's pixels."""
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
    return {
        "of": of,
        "count": len(pixels),
        "scores": {name: sorted(listed) for name, listed in scores.items()},
        "maps": {
            name: {str(q): float(v) for q, v in zip(_QUANTILES, found, strict=True)}
            for name, found in quantiles.items()
        },
    }


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
