"""Run benchmark cells: fit, score and evaluate for each backbone and seed, each stored when it is done."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ddad import __version__
from ddad.cohorts import Cohort, Role
from ddad.detectors import DETECTORS
from ddad.errors import SettingError, writing_to
from ddad.experiments.evaluation import evaluate, labelled_test_paths
from ddad.experiments.published import Benchmark, benchmark_named
from ddad.experiments.tables import summary, to_markdown
from ddad.files import write_atomically
from ddad.fitting import fit
from ddad.progress import Progress, SilentProgress
from ddad.recipe import Recipe
from ddad.training.device import DeviceName


def benchmark_recipes(recipe: Recipe, methods: Sequence[str], backbones: Sequence[str], seeds: int) -> list[Recipe]:
    """List the recipes to run: every method with `seeds` seeds, counted up from the recipe's own.

    Args:
        recipe: what all runs have in common.
        methods: detectors by name, or `all`.
        backbones: of the method `ddad`, which is run once for each.
        seeds: how many.

    Raises:
        SettingError: no seeds, an unknown method or an unknown backbone.
    """
    if seeds < 1:
        raise SettingError(f"--seeds {seeds}: give 1 or more.")
    chosen = list(DETECTORS) if "all" in methods else list(dict.fromkeys(methods))
    settings: list[dict[str, Any]] = []
    for method in chosen:
        if method == "ddad":
            settings += [
                {"detector": method, "reconstruction.backbone": backbone} for backbone in dict.fromkeys(backbones)
            ]
        else:
            settings.append({"detector": method})
    return [
        recipe.changed(setting | {"seed": seed})
        for setting in settings
        for seed in range(recipe.seed, recipe.seed + seeds)
    ]


def benchmark_cohort(
    dataset: str, data: Path, split: str, anomaly_rate: float | None
) -> tuple[Benchmark | None, Cohort]:
    """Open a benchmark folder, with the published anomaly rate and size of D_u if the data set is known.

    Raises:
        SettingError: the data set is unknown.
        CohortError: the folder is not in the form of the paper's benchmarks.
    """
    known = benchmark_named(dataset)
    if known is None:
        return None, Cohort.from_benchmark(data, split=split, anomaly_rate=anomaly_rate)
    return known, Cohort.from_benchmark(
        data,
        split=split,
        anomaly_rate=known.anomaly_rate if anomaly_rate is None else anomaly_rate,
        unlabeled_total=known.unlabeled,
    )


def run_benchmark(
    cohort: Cohort,
    benchmark: Benchmark | None,
    recipes: Sequence[Recipe],
    out: Path,
    *,
    split: str,
    anomaly_rate: float | None = None,
    device: DeviceName = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Do every run that is not stored in `out/runs` yet, and return the records of all of them.

    A run fits one recipe and evaluates its six scores. Its record has them as `cells` of Table 3, and what
    it takes to make them again: recipe, cohort fingerprint, versions, counts.

    Args:
        cohort: with labelled test images.
        benchmark: the paper's figures for it, or None for other data.
        recipes: what to fit.
        out: folder for the stored runs.
        split: name of the split, as it is written in the cells.
        anomaly_rate: of the unlabeled images, if it is another than the published one.
        device: `auto`, `cpu` or `cuda`.
        workers: networks trained side by side.
        progress: told what is being done.
    """
    progress = progress or SilentProgress()
    labelled_test_paths(cohort)
    folder = out / "runs"
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    records = []
    name = benchmark.name if benchmark else cohort.name
    for number, recipe in enumerate(recipes, start=1):
        record = _stored(folder, recipe, cohort.fingerprint(), name, split)
        if record is None:
            identity = {
                "recipe": recipe.model_dump(mode="json"),
                "cohort": cohort.fingerprint(),
                "ddad": __version__,
            }
            key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
            method = _run_name(recipe)
            stem = f"{name}-{Path(split).stem}-{recipe.preset_name}-{method}-seed{recipe.seed}-{key}"
            progress.message(f"run {number} of {len(recipes)}: {method}, seed {recipe.seed}")
            record = identity | {"anomaly_rate": anomaly_rate}
            record |= _run(cohort, recipe, folder / f"{stem}.model", device, workers, progress)
            record["cells"] = list(_cells(record, recipe, name, benchmark, split))
            write_atomically(folder / f"{stem}.json", (json.dumps(record) + "\n").encode())
        records.append(record)
    return records


def _run_name(recipe: Recipe) -> str:
    return recipe.reconstruction.backbone if recipe.detector == "ddad" else recipe.detector


def _stored(folder: Path, recipe: Recipe, cohort: str, dataset: str, split: str) -> dict[str, Any] | None:
    """Return the finished run of `recipe` on the cohort of this fingerprint, if there is one.

    Recipes are compared as they are understood now, so that a field that was added since, with a default that changes
    nothing, does not repeat hours of work.
    """
    for file in sorted(folder.glob(f"*-seed{recipe.seed}-*.json")):
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        cell = record["cells"][0]
        found = (record["cohort"], record["ddad"], cell["dataset"], cell["split"])
        if found != (cohort, __version__, dataset, split):
            continue
        try:
            if Recipe.model_validate(record["recipe"]) == recipe:
                return record
        except ValueError:
            continue  # of an earlier version, with fields that are gone
    return None


def _run(
    cohort: Cohort, recipe: Recipe, folder: Path, device: DeviceName, workers: int | None, progress: Progress
) -> dict[str, Any]:
    started = time.monotonic()
    model = fit(cohort, recipe, out=folder, overwrite=True, device=device, workers=workers, progress=progress)
    fitted = time.monotonic()
    evaluation = evaluate(model, cohort, device=device, precision=recipe.precision, progress=progress)
    done = time.monotonic()
    shutil.rmtree(folder)
    seen = model.card["cohort"]
    metrics = evaluation.to_json()
    skipped = [*seen["skipped"], *metrics.pop("skipped")]
    warnings = dict.fromkeys([*seen["warnings"], *metrics.pop("warnings")])
    return {
        "versions": {"ddad": model.card["ddad"], **model.card["versions"]},
        "compute": model.card["compute"],
        "skipped": [[_within(path, cohort), _within(reason, cohort)] for path, reason in skipped],
        "warnings": [_within(warning, cohort) for warning in warnings],
        "counts": {key: seen[key] for key in ("normal", "held_out_normal", "unlabeled")},
        # The model's own clock knows the time of a fit that was interrupted only from its last start.
        "seconds": {"fit": round(fitted - started, 1), "evaluate": round(done - fitted, 1)},
        "evaluation": metrics,
        "labels": evaluation.labels,
        "scores": {name: [round(s, 6) for s in values] for name, values in evaluation.scores.items()},
    }


def _within(text: str, cohort: Cohort) -> str:
    """Name files from the cohort's own folder on: a stored result says nothing of the machine it was made on."""
    folder = os.path.commonpath([str(path.parent) for path in cohort.paths(Role.NORMAL)])
    return re.sub(rf"(?<![\w./-]){re.escape(str(Path(folder).parent) + os.sep)}", "", text)


def _cells(
    record: dict[str, Any], recipe: Recipe, dataset: str, benchmark: Benchmark | None, split: str
) -> Iterator[dict[str, Any]]:
    method = recipe.detector
    backbone = recipe.reconstruction.backbone if method == "ddad" else None
    seconds = sum(record["seconds"].values())
    published = None if benchmark is None or _differs_from_published(record, benchmark, split) else benchmark
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


def _differs_from_published(record: dict[str, Any], benchmark: Benchmark, split: str) -> list[str]:
    """Say what keeps the paper's figures from standing beside a run; nothing if its setting is the published one."""
    counts, labels, rate = record["counts"], record["labels"], record["anomaly_rate"]
    compared = {
        "split": (split, "data.json"),
        "normal images": (counts["normal"] + counts["held_out_normal"], benchmark.normal),
        "unlabeled images": (counts["unlabeled"], benchmark.unlabeled),
        "test images, normal and abnormal": ((labels.count(0), labels.count(1)), benchmark.test),
        "anomaly rate": (benchmark.anomaly_rate if rate is None else rate, benchmark.anomaly_rate),
    }
    return [f"{what}: {own}, in the paper {theirs}" for what, (own, theirs) in compared.items() if own != theirs]


def cells_of(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cells of all records: one for each method, backbone, score and seed."""
    return [cell for record in records for cell in record["cells"]]


def write_results(records: Sequence[dict[str, Any]], benchmark: Benchmark | None, command: str, out: Path) -> None:
    """Write the cells as `results.csv`, and as `results.md` the summary table with where it comes from.

    Args:
        records: from `run_benchmark`, at least one.
        benchmark: the paper's figures for it, or None for other data.
        command: the command line that makes them again.
        out: folder for both files.
    """
    cells, first = cells_of(records), records[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    compute, counts = first["compute"], first["counts"]
    seen = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    tested = f"{first['labels'].count(0)} normal and {first['labels'].count(1)} abnormal tested"
    changes = Recipe.model_validate(first["recipe"]).changes_from_preset()
    # Method, backbone and seed stand in the table, and that all normals train is what every benchmark does.
    shown = {
        k: v
        for k, v in changes.items()
        if k not in ("detector", "reconstruction.backbone", "seed") and (k, v) != ("holdout", 0)
    }
    changed = "".join(f", {name} {value}" for name, value in shown.items())
    reasons = _differs_from_published(first, benchmark, cells[0]["split"]) if benchmark else []
    differs = "".join(f"- no figure of the paper stands here, because of the {reason}\n" for reason in reasons)
    text = f"""# {cells[0]["dataset"]}, {cells[0]["split"]}, recipe {first["recipe"]["preset_name"]}{changed}

Percent, mean ± standard deviation over seeds, of the model that training ends with; 95 % bootstrap intervals of each
run are in `results.csv`, the score of each image and the whole recipe in `runs/`.

{to_markdown(summary(cells))}
- command: `{command}`
{differs}- images: {seen}; {tested}
- data fingerprint: `{first["cohort"]}`
- computed on {compute["device"]} in {compute["precision"]}, {compute["workers"]} networks side by side
- versions: {versions}
"""
    write_atomically(out / "results.csv", pd.DataFrame(cells).to_csv(index=False).encode())
    write_atomically(out / "results.md", text.encode())
