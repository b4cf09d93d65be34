"""`fit`: from a cohort and a recipe to a saved model, with work that is not lost when it is killed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
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
from ddad.detectors import DETECTORS, FitContext
from ddad.errors import CohortError, OutputError, writing_to
from ddad.files import refuse_existing, write_atomically
from ddad.model import Model
from ddad.progress import Progress, SilentProgress
from ddad.recipe import Recipe
from ddad.training.device import Compute, DeviceName

MINIMUM_NORMALS = 8
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
    _check_counts(cohort)
    if out is not None:
        refuse_existing(Path(out), overwrite=overwrite)
    workspace = _Workspace.beside(Path(out)) if out is not None else _Workspace.temporary()
    with writing_to(workspace.folder):
        workspace.claim(
            {
                "recipe": recipe.model_dump(mode="json"),
                "cohort": cohort.fingerprint(),
                "precision": compute.precision,
                "ddad": __version__,
                "torch": torch.__version__,
            },
            overwrite=overwrite,
        )
        model = _fit(cohort, recipe, workspace.folder, compute, workers, progress)
        if out is not None:
            model.save(out, overwrite=overwrite)
        workspace.remove()
    return model


def _fit(cohort: Cohort, recipe: Recipe, workspace: Path, compute: Compute, workers: int, progress: Progress) -> Model:
    started = time.monotonic()
    normals = cohort.paths(Role.NORMAL)
    kept, held = hold_out(cohort.of(Role.NORMAL)["group"].tolist(), recipe.holdout, recipe.seed)
    skipped: list[SkippedImage] = []
    warnings: list[ImageWarning] = []

    def decoded(name: str, paths: Sequence[Path]) -> NDArray[np.float32]:
        result = decode(
            paths,
            recipe.images,
            into=workspace / f"{name}.npy",
            workers=os.cpu_count() or 1,
            progress=progress,
            title=f"reading {name} images",
        )
        skipped.extend(result.skipped)
        warnings.extend(result.warnings)
        return result.pixels

    normal = decoded("normal", [normals[index] for index in kept])
    held_out = decoded("held-out normal", [normals[index] for index in held]) if len(held) else None
    unlabeled = decoded("unlabeled", cohort.paths(Role.UNLABELED)) if cohort.paths(Role.UNLABELED) else None
    if len(normal) < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: only {len(normal)} usable images, at least {MINIMUM_NORMALS} are needed "
            f"({len(skipped)} were skipped{_first_reason(skipped)})."
        )
    if unlabeled is not None and not len(unlabeled):
        raise CohortError(f"unlabeled: no usable image ({len(skipped)} were skipped{_first_reason(skipped)}).")

    detector = DETECTORS["ddad"](recipe)
    curves = detector.fit(
        workspace / "normal.npy",
        None if unlabeled is None else workspace / "unlabeled.npy",
        FitContext(workspace, compute, workers, progress),
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
                "normal": len(normal),
                "held_out_normal": 0 if held_out is None else len(held_out),
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
    model.card["held_out_normals"] = _statistics(
        model,
        reference,
        compute,
        progress,
        of="held-out normals" if reference is held_out else "training normals",
    )
    model.card["seconds"] = round(time.monotonic() - started, 1)
    return model


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


def _check_counts(cohort: Cohort) -> None:
    count = len(cohort.paths(Role.NORMAL))
    if count < MINIMUM_NORMALS:
        raise CohortError(
            f"normal: {count} images, at least {MINIMUM_NORMALS} are needed. Add known normal images (--normal)."
        )


def _first_reason(skipped: Sequence[SkippedImage]) -> str:
    return f", the first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""


class _Workspace:
    """The folder that holds unfinished work, and what that work is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def beside(cls, out: Path) -> _Workspace:
        return cls(out.with_name(f"{out.name}.unfinished"))

    @classmethod
    def temporary(cls) -> _Workspace:
        return cls(Path(tempfile.mkdtemp(prefix="ddad-")))

    def claim(self, plan: dict[str, Any], *, overwrite: bool) -> None:
        """Go on if the same plan lies here, start if nothing does, and refuse otherwise."""
        file = self.folder / "plan.json"
        if file.exists() and json.loads(file.read_text()) != plan:
            if not overwrite:
                raise OutputError(
                    f"{self.folder}: an unfinished fit of other data or settings lies here. Run it again with "
                    "its own settings to finish it, choose another --out, or pass --overwrite to drop it."
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(plan).encode())

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
