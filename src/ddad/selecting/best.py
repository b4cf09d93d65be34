"""Try candidates, take the one that the guide prefers, and fit it on all images."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddad.cohorts import Cohort, Role, decode
from ddad.cohorts.pixels import save_parts, save_rows
from ddad.detectors import DETECTORS, FitContext, score_held_out
from ddad.errors import CohortError, DivergenceError
from ddad.evaluation.selection import RULE, choose
from ddad.files import write_atomically
from ddad.fitting import plan_of, train
from ddad.machine import checked_workers, processor_cores
from ddad.making import make_model, warn_of_fit
from ddad.model import Model
from ddad.normals import Stored, known_normals
from ddad.planning import check_plan, say_what_is_not_read, sections_read
from ddad.progress import Progress, listener
from ddad.recipe import Recipe
from ddad.selecting.candidates import CANDIDATES, Candidate, distinct_recipes
from ddad.selecting.division import Division, divide
from ddad.training.device import Compute, DeviceName
from ddad.workspace import check_begun_with

_HELD_OUT = "held-out"


def fit_best(
    cohort: Cohort,
    recipe: Recipe | None = None,
    candidates: Sequence[Candidate] = CANDIDATES,
    *,
    budget: float | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: DeviceName = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Model:
    """Choose among candidates without a label, then fit the chosen one on all images.

    A fifth of the normal and of the unlabeled images judges the candidates, which are fitted on the others. The
    normals that the fit holds out take no part. Test images are not touched. The card of the model holds the
    candidates under `selection`.

    Args:
        cohort: with normal and unlabeled images.
        recipe: what the candidates change; `Recipe()` if None.
        candidates: the first is the default; see `choose`.
        budget: seconds after which no further candidate is begun; the first is always tried.
        out: folder to save the model in. Candidates that were tried are kept beside it until the model is saved.
        overwrite: replace `out`, unless it is the model of this very selection, which is returned as it is; and drop
            unfinished work that belongs to other data or settings.
        device: `auto`, `cpu` or `cuda`.
        workers: networks trained side by side; default: one for each processor core.
        progress: told what is being fitted; without it, doubts are issued as `FitWarning`.

    Raises:
        CohortError: there are too few normal or unlabeled images, or images known to be abnormal.
        DivergenceError: no candidate learned.
        SettingError: a candidate or `workers` is not valid, or the device is not there.
        OutputError: `out` exists, other unfinished work lies there, or the disk is full.
    """
    recipe = recipe or Recipe()
    is_unheard, progress = progress is None, listener(progress)
    side_by_side = processor_cores() if workers is None else checked_workers(workers)
    compute = Compute.choose(device, recipe.precision)
    recipes = distinct_recipes(candidates, recipe)
    _check(cohort, recipes)
    plan = plan_of(
        cohort,
        compute,
        progress,
        recipes={name: candidate.model_dump(mode="json") for name, candidate in recipes.items()},
    )

    def make(folder: Path) -> Model:
        context = FitContext(folder, compute, side_by_side, progress)
        chosen, notes = _select(cohort, recipe, recipes, budget, context)
        progress.message(f"chosen: {chosen}; now it is fitted on all images, but for the normals that a fit holds out")
        say_what_is_not_read(cohort, recipes[chosen], progress, recipes.values())
        own = folder / f"chosen-{list(recipes).index(chosen)}"
        own.mkdir(exist_ok=True)
        precise = Compute.choose(device, recipes[chosen].precision)
        return train(cohort, recipes[chosen], replace(context, workspace=own, compute=precise), {"selection": notes})

    # With a larger budget, unfinished work goes on, but what it ends in may be another model.
    model = make_model(make, plan, {**plan, "budget": budget}, out, overwrite=overwrite, progress=progress)
    if is_unheard:
        warn_of_fit(model)
    return model


def _select(
    cohort: Cohort, recipe: Recipe, recipes: dict[str, Recipe], budget: float | None, context: FitContext
) -> tuple[str, dict[str, Any]]:
    """Try the candidates that are not stored yet; return the name of the chosen one and what the card says."""
    folder, progress = context.workspace, context.progress
    division, groups = _write_division(cohort, recipe, context)
    images = np.load(folder / f"{_HELD_OUT}.npy", mmap_mode="r", allow_pickle=False)
    tried: dict[str, dict[str, Any]] = {}
    for number, (name, candidate) in enumerate(recipes.items()):
        stored = folder / f"candidate-{number}.json"
        if stored.exists():
            progress.message(f"candidate {number + 1} of {len(recipes)}: {name}, tried before")
        else:
            spent = sum(entry["seconds"] for entry in tried.values())
            if tried and budget is not None and spent >= budget:
                progress.message(f"the budget is spent; not tried: {'; '.join(list(recipes)[len(tried) :])}")
                break
            progress.message(f"candidate {number + 1} of {len(recipes)}: {name}")
            own = folder / f"candidate-{number}"
            own.mkdir(exist_ok=True)
            started = time.monotonic()
            compute = Compute.choose("cuda" if context.compute.device == "cuda" else "cpu", candidate.precision)
            inner = FitContext(own, compute, context.workers, progress, groups=groups)
            found: dict[str, Any]
            try:
                scores = score_held_out(
                    DETECTORS[candidate.detector](candidate),
                    folder / "normal.npy",
                    folder / "unlabeled.npy",
                    images,
                    inner,
                )
                found = {"scores": scores.tolist()}
            except DivergenceError as error:
                progress.message(f"candidate {name} is left out: {error}")
                found = {"diverged": str(error)}
            entry = {"seconds": round(time.monotonic() - started, 1), **found}
            write_atomically(stored, json.dumps(entry).encode())
            shutil.rmtree(own)
        tried[name] = json.loads(stored.read_text(encoding="utf-8"))
    counts = {"normal": len(division.held_normal), "unlabeled": len(division.held_unlabeled)}
    is_unlabeled = np.repeat([0, 1], list(counts.values()))
    diverged = [name for name, entry in tried.items() if "diverged" in entry]
    if len(diverged) == len(tried):
        raise DivergenceError(f"selection: no candidate learned. The first: {tried[diverged[0]]['diverged']}")
    judged = {name: entry["scores"] for name, entry in tried.items() if "scores" in entry}
    choice = choose(is_unlabeled, judged, division.held_groups)
    rows = [
        {
            "name": judged.name,
            "changes": _changes(recipe, recipes[judged.name]),
            "guide": asdict(judged.guide),
            "ahead": judged.ahead.difference,
            "standard_error": judged.ahead.standard_error,
            "p_value": judged.ahead.p_value,
            "seconds": tried[judged.name]["seconds"],
        }
        for judged in choice.judged
    ]
    return choice.chosen, {
        "chosen": choice.chosen,
        "best": choice.best,
        "rule": RULE,
        "held_out": counts,
        "not_tried": [name for name in recipes if name not in tried],
        "diverged": diverged,
        "candidates": rows,
    }


def _write_division(cohort: Cohort, recipe: Recipe, context: FitContext) -> tuple[Division, dict[Path, list[str]]]:
    """Write the images to fit on and those to judge by.

    Returns:
        Which are which, and the patient of each image to fit on, by file.
    """
    folder = context.workspace
    stored = []
    for role in (Role.NORMAL, Role.UNLABELED):
        table, into = cohort.of(role), folder / "to-divide" / f"all-{role}.npy"
        decoded = decode(
            table["path"].tolist(),
            recipe.images,
            into=into,
            workers=processor_cores(),
            progress=context.progress,
            title=f"reading {role} images",
        )
        if not decoded.kept:
            raise CohortError(
                f"{role}: no usable image. The first: {decoded.skipped[0].path}: {decoded.skipped[0].reason}"
            )
        stored.append(Stored(into, table["group"].iloc[decoded.kept].tolist()))
    # What the winner will hold out to be calibrated by must not have chosen it.
    parts = known_normals(stored[0], stored[1], None, recipe)
    assert parts.unlabeled is not None
    sides = (parts.trained, parts.unlabeled)
    normal, unlabeled = (np.load(side.file, mmap_mode="r", allow_pickle=False) for side in sides)
    division = divide(normal, unlabeled, (sides[0].groups, sides[1].groups), recipe.seed)
    left: dict[Path, list[str]] = {}
    for images, places, own, name in (
        (normal, division.kept_normal, sides[0].groups, "normal"),
        (unlabeled, division.kept_unlabeled, sides[1].groups, "unlabeled"),
    ):
        save_rows(images, places, folder / f"{name}.npy")
        left[folder / f"{name}.npy"] = [own[place] for place in places]
    held = [(normal, division.held_normal), (unlabeled, division.held_unlabeled)]
    save_parts(held, folder / f"{_HELD_OUT}.npy")
    check_begun_with(folder, {name: folder / f"{name}.npy" for name in ("normal", "unlabeled", _HELD_OUT)})
    return division, left


def _check(cohort: Cohort, recipes: dict[str, Recipe]) -> None:
    for role, option in ((Role.NORMAL, "--normal"), (Role.UNLABELED, "--unlabeled")):
        if not cohort.paths(role):
            raise CohortError(
                f"selection: no {role} images; candidates are judged by how they tell normal from unlabeled ones. "
                f"Add some ({option}), or fit without --select."
            )
    if cohort.paths(Role.ABNORMAL):
        raise CohortError(
            "selection: there are images known to be abnormal, which only some candidates take. Leave them out, or fit "
            "with --detector ddad+ and without --select."
        )
    for recipe in recipes.values():
        check_plan(cohort, recipe)


def _changes(given: Recipe, chosen: Recipe) -> dict[str, Any]:
    """Return the fields that a candidate changes, without those of sections that it does not read."""
    before = {name: value for name, value, _ in given.describe()}
    unread = {*dict(chosen.model_dump())} - sections_read(chosen, has_normals=True)
    return {
        name: json.loads(value)
        for name, value, _ in chosen.describe()
        if value != before[name] and not ("." in name and name.partition(".")[0] in unread)
    }
