"""One run of a grid: fit a recipe, evaluate its scores, and keep a record of both."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddad.cohorts import Cohort, Role
from ddad.errors import DdadError, OutputError
from ddad.experiments.evaluation import evaluate
from ddad.experiments.peak_memory import peak_memory
from ddad.experiments.published import Benchmark
from ddad.fitting import fit
from ddad.planning import settings_read_with
from ddad.progress import Progress
from ddad.recipe import Recipe
from ddad.training.device import DeviceName
from ddad.wording import counted, percent
from ddad.workspace import Workspace, digest

_NEEDED = ("recipe", "cohort", "cells", "scores", "labels")
_MEASURED = ("auc", "auc_low", "auc_high", "ap", "ap_low", "ap_high")


def own_settings(recipe: Recipe, *, normals: int) -> dict[str, Any]:
    """Return the settings that make a run unlike others of its preset, beyond its method, backbone and seed.

    That no normal image is held out is what every run does, whatever its preset says. What the fit does not read is
    left out: the defaults of others may have been different when a run was stored.

    Args:
        recipe: of the run.
        normals: how many images were known to be normal.
    """
    changes = settings_read_with(recipe, normals=normals).changes_from_preset()
    named = ("detector", "reconstruction.backbone", "seed", "holdout")
    held_out = {"holdout": recipe.holdout} if recipe.holdout else {}
    return {field: value for field, value in changes.items() if field not in named} | held_out


def settings_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return `own_settings` of a stored run.

    Raises:
        SettingError: its recipe is of an earlier version, with fields that are gone.
    """
    counts = record.get("counts", {})
    normals = 0 if "trusted" in record else max(1, counts.get("normal", 0) + counts.get("held_out_normal", 0))
    return own_settings(Recipe.model_validate(record.get("recipe", {})), normals=normals)


def run_once(
    cohort: Cohort, recipe: Recipe, folder: Path, device: DeviceName, workers: int | None, progress: Progress
) -> dict[str, Any]:
    """Fit and evaluate, and return the record without its cells.

    Args:
        cohort: with labelled test images.
        recipe: what to fit.
        folder: for the model; a finished one there is taken as it is, unfinished work beside it is gone on with. It
            may be removed once the record is stored.
        device: `auto`, `cpu` or `cuda`.
        workers: networks trained side by side.
        progress: told what is being done.
    """
    went_on = folder.exists() or Workspace.beside(folder).folder.exists()
    with peak_memory() as memory:
        model = fit(cohort, recipe, out=folder, overwrite=True, device=device, workers=workers, progress=progress)
        fitted = time.monotonic()
        evaluation = evaluate(model, cohort, device=device, precision=recipe.precision, progress=progress)
    done = time.monotonic()
    seen = model.card["cohort"]
    metrics = evaluation.to_json()
    left_out = {key: [*seen[key], *metrics.pop(key)] for key in ("skipped", "blank")}
    pile = model.card.get("unsupervised", {"images": []})["images"]
    trusted = [_within(path, cohort) for path, *_, is_trusted in pile if is_trusted]
    warnings = dict.fromkeys([*seen["warnings"], *metrics.pop("warnings")])
    return {
        "versions": {"ddad": model.card["ddad"], **model.card["versions"]},
        "compute": model.card["compute"],
        **{
            key: [[_within(path, cohort), _within(reason, cohort)] for path, reason in images]
            for key, images in left_out.items()
        },
        "warnings": [_within(warning, cohort) for warning in warnings],
        "counts": {key: seen[key] for key in ("normal", "held_out_normal", "unlabeled")},
        "seconds": {"fit": model.card["seconds"], "evaluate": round(done - fitted, 1)},
        # What the fit took at its most is not known where an earlier process did it, or a part of it.
        "peak_memory_mb": None if went_on else round(memory.peak_bytes / 1e6),
        "evaluation": metrics,
        "labels": evaluation.labels,
        "tested": digest([cohort.digest(path) for path in evaluation.paths]),
        **({"groups": evaluation.groups} if evaluation.groups else {}),
        # All that float32 tells apart: scores may lie as close together as they like.
        "scores": {name: [float(f"{s:.9g}") for s in values] for name, values in evaluation.scores.items()},
        **({"trusted": trusted} if trusted else {}),
    }


def run_cells(
    record: dict[str, Any], recipe: Recipe, dataset: str, benchmark: Benchmark | None, split: str
) -> Iterator[dict[str, Any]]:
    """Yield the cells of a record: one for each score, with the paper's figures if they may stand beside it."""
    method = recipe.detector
    backbone = recipe.reconstruction.backbone if method == "ddad" else None
    seconds = sum(record["seconds"].values())
    published = None if benchmark is None or differs_from_published(record, benchmark, split) else benchmark
    for score, metrics in record["evaluation"]["images"].items():
        auc_paper, ap_paper = published.figures(method, backbone, score) if published else (None, None)
        yield {
            "dataset": dataset,
            "split": split,
            "method": method,
            "backbone": backbone,
            "score": score,
            "seed": recipe.seed,
            "auc": round(100 * metrics["auc"]["estimate"], 2),
            "auc_low": round(100 * metrics["auc"]["low"], 2),
            "auc_high": round(100 * metrics["auc"]["high"], 2),
            "ap": round(100 * metrics["ap"]["estimate"], 2),
            "ap_low": round(100 * metrics["ap"]["low"], 2),
            "ap_high": round(100 * metrics["ap"]["high"], 2),
            "auc_paper": auc_paper,
            "ap_paper": ap_paper,
            "seconds": round(seconds, 1),
        }


def read_run(file: Path) -> dict[str, Any]:
    """Read a run as a grid stored it, with all that tables, figures and pages go by.

    Raises:
        OutputError: it is damaged, or no stored run.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: damaged ({error}). Remove it, and the run is done again.") from error
    if not isinstance(record, dict) or not all(record.get(key) for key in _NEEDED):
        raise OutputError(f"{file}: is no stored run. Remove it, and the run is done again.")
    if (wrong := _contradiction(record)) is not None:
        raise OutputError(f"{file}: damaged ({wrong}). Remove it, and the run is done again.")
    return record


def _contradiction(record: dict[str, Any]) -> str | None:
    """Say what keeps scores and labels of a stored run from belonging together; None if nothing does."""
    labels, scores, cells = (record[key] for key in ("labels", "scores", "cells"))
    if not (isinstance(labels, list) and all(label in (0, 1) for label in labels)):
        return "labels are not 0 and 1"
    if not (isinstance(scores, dict) and isinstance(cells, list) and all(isinstance(cell, dict) for cell in cells)):
        return "scores and cells are not lists by name"
    for name, values in scores.items():
        if not (isinstance(values, list) and all(type(value) in (int, float) for value in values)):
            return f"scores.{name} are not all numbers"
        if len(values) != len(labels):
            return f"{len(values)} scores.{name} of {counted(len(labels), 'image')}"
    return None


def told_apart(records: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Name, for each stored run, what makes it unlike others of its images, method and backbone, seeds apart.

    Returns:
        By name, in words: fields of the recipe, `anomaly rate`, `unseen`, `normal images`, `ddad`; what all have in
        common is left out, and a field where it has its usual value.
    """
    cells = [(record.get("cells") or [{}])[0] for record in records]
    kinds = [tuple(cell.get(key) for key in ("dataset", "split", "method", "backbone")) for cell in cells]
    told = [in_words(record) for record in records]
    apart = []
    for kind, own in zip(kinds, told, strict=True):
        others = [words for other, words in zip(kinds, told, strict=True) if other == kind]
        apart.append({name: word for name, word in own.items() if any(one.get(name) != word for one in others)})
    return apart


def in_words(record: dict[str, Any]) -> dict[str, str]:
    """Say with what images and settings a stored run was made, by the names of `told_apart`."""
    recipe = record.get("recipe", {})
    words = {"recipe": str(recipe.get("preset_name"))}
    with suppress(DdadError, ValueError):  # of an earlier version, with fields that are gone
        words |= {name: str(value) for name, value in settings_of(record).items()}
    rate, counts = record.get("anomaly_rate"), record.get("counts", {})
    if rate is not None:
        words["anomaly rate"] = percent(rate, digits=6)
    if record.get("unseen"):
        words["unseen"] = str(record["unseen"])
    words["normal images"] = str(counts.get("normal", 0) + counts.get("held_out_normal", 0))
    words["ddad"] = str(record.get("ddad"))
    return words


def cells_of(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells of all records: one for each method, backbone, score and seed.

    A score that is the same for every image measures nothing: its figures are None.
    """
    # Records of earlier versions do not have all.
    return [
        cell
        | (dict.fromkeys(_MEASURED) if cell["auc"] == 50 and len(set(record["scores"][cell["score"]])) == 1 else {})
        | {"memory_mb": record.get("peak_memory_mb"), "device": record.get("compute", {}).get("device")}
        for record in records
        for cell in record["cells"]
    ]


def differs_from_published(record: dict[str, Any], benchmark: Benchmark, split: str) -> list[str]:
    """Say what keeps the paper's figures from standing beside a run; nothing if its setting is the published one."""
    counts, labels, rate = record["counts"], record["labels"], record["anomaly_rate"]
    compared = {
        "split": (split, "data.json"),
        "normal images": (counts["normal"], benchmark.normal),
        "unlabeled images": (counts["unlabeled"], benchmark.unlabeled),
        "test images, normal and abnormal": ((labels.count(0), labels.count(1)), benchmark.test),
        "anomaly rate": (benchmark.anomaly_rate if rate is None else rate, benchmark.anomaly_rate),
        "unseen class": (record.get("unseen") or "none", "none"),
    }
    return [f"{what}: {own}, in the paper {theirs}" for what, (own, theirs) in compared.items() if own != theirs]


def _within(text: str, cohort: Cohort) -> str:
    """Name files from the cohort's own folder on: a stored result says nothing of the machine it was made on."""
    learned_from = cohort.paths(Role.NORMAL) or cohort.paths(Role.UNLABELED)
    folder = os.path.commonpath([str(path.parent) for path in learned_from])
    return re.sub(rf"(?<![\w./-]){re.escape(str(Path(folder).parent) + os.sep)}", "", text)
