"""What lies in a results folder, of whichever kind, in one form that a page can be made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddad.errors import OutputError
from ddad.experiments.benchmark import tables_so_far
from ddad.experiments.published import METHOD_TITLES, SCORE_TITLES
from ddad.experiments.run import in_words, read_run, told_apart
from ddad.experiments.sweep import Kind
from ddad.experiments.sweep_results import curves_of, kind_of
from ddad.images.source_header import IDENTIFIERS
from ddad.model import Model
from ddad.report.map_strip import MAPS
from ddad.report.result_files import numbers, read_json, read_table, read_text
from ddad.wording import counted

_FIXED = (
    *("path", "score", "p_value", "flagged", "rows", "columns", "warnings", "heatmap", "overlay", "label", "group"),
    *IDENTIFIERS,  # never shown, and no scores, though they may be numbers
)
_CELL_KEYS = ("dataset", "split", "method", "backbone", "seed")
"""What tells the runs of a table apart, but for the value of a sweep."""
_MEASURED = ("value", "auc", "ap", "auc_paper", "ap_paper", "seconds")
"""What a plot needs as numbers of the cells of a sweep; those of a benchmark have no value."""


@dataclass(frozen=True)
class ScoredRun:
    """The scores of one run: of a scoring folder, an evaluation, or one fit of a benchmark.

    Attributes:
        title: tells it from the other runs of the page.
        scores: by name, in one order of the images.
        labels: 0 normal, 1 abnormal, in the same order; None where nobody knows.
        metrics: by score, as `images` in `evaluation.json`.
        groups: numbers of the images' groups (patients), in the same order; None where each image is its own.
    """

    title: str
    scores: dict[str, list[float]]
    labels: list[int] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    groups: list[int] | None = None


@dataclass
class Results:
    """Everything that was found, and in `missing`, in plain sentences, what was not.

    Attributes:
        folder: where it was found.
        kind: what kind of folder it is, in words.
        runs: at least one.
        findings: a row an image, where single images are known: path, score, and what else the folder has.
        score_names: columns of `findings` that hold scores.
        primary: name of the main score, or of the best known stand-in.
        model: what `run.json` says of the model; empty without it.
        metrics: `evaluation.json`; empty without it.
        tables: those of a benchmark or sweep, as `results.md` and `sweep.md` have them; empty without.
        swept: what a sweep varied.
        curves: what the plot of a sweep draws, from `curves_of`.
        records: the stored runs of a benchmark, each as its JSON file has it.
        strips: by path of the image, its strip of maps.
        skipped: files that could not be scored.
        blank_or_no_image: blank slices, and files that are no images.
        warnings: what is doubtful about the whole.
        missing: what the page leaves out, and why.
    """

    folder: Path
    kind: str
    runs: list[ScoredRun] = field(default_factory=list)
    findings: pd.DataFrame | None = None
    score_names: list[str] = field(default_factory=list)
    primary: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    tables: str = ""
    swept: Kind | None = None
    curves: pd.DataFrame | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    strips: dict[str, Path] = field(default_factory=dict)
    skipped: int = 0
    blank_or_no_image: int = 0
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_results(folder: str | Path) -> Results:
    """Read a scoring, evaluation, benchmark or model folder, or one with `scores/` and `evaluation/` as the demo's.

    Raises:
        OutputError: the folder is missing, is none of these, or holds a file that is damaged.
        ModelError: it is a model that cannot be loaded.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise OutputError(
            f"{folder}: there is no such folder. Give the --out folder of ddad score, evaluate, benchmark or fit."
        )
    if (folder / "findings.csv").is_file():
        return _scoring(folder)
    if (folder / "evaluation.json").is_file():
        return _evaluation(folder)
    if any((folder / name).exists() for name in ("runs", "results.csv", "sweep.csv")):
        return _benchmark(folder)
    if (folder / "scores" / "findings.csv").is_file():
        scored = _scoring(folder / "scores")
        scored.folder = folder
        return _joined(scored, _evaluation(folder / "evaluation")) if _has_evaluation(folder) else scored
    if (folder / "model_card.json").is_file():
        return _model_alone(folder)
    raise OutputError(
        f"{folder}: holds no results (findings.csv, evaluation.json, results.csv or runs/) and no model. Give the "
        "--out folder of ddad score, evaluate, benchmark, sweep or fit; an unfinished one has to be finished first."
    )


def _discoveries(file: Path) -> str:
    """Say what a file of discoveries holds: flags, and the order of the page, are of images one by one."""
    taken = read_table(file, ("path", "discovered"))["discovered"]
    if taken.isna().any():
        return "discoveries.csv: at its false discovery rate no image can be taken, whatever it scores."
    count = int((taken.astype(str) == "True").sum())
    return f"discoveries.csv: which {count} of {counted(len(taken), 'image')} are taken together."


def _has_evaluation(folder: Path) -> bool:
    return (folder / "evaluation" / "evaluation.json").is_file()


def _scoring(folder: Path) -> Results:
    found = Results(folder, "scoring")
    file = folder / "findings.csv"
    table = read_table(file, ("path", "score"))
    found.model = _model(folder, found)
    _take_findings(found, file, table, "score")
    _take_strips(found, folder, table)
    if (folder / "discoveries.csv").is_file():
        found.missing.append(_discoveries(folder / "discoveries.csv"))
    if (folder / "skipped.csv").is_file():
        left_out = read_table(folder / "skipped.csv", ("path",))
        if "kind" in left_out:
            found.blank_or_no_image = int((left_out["kind"] != "unreadable").sum())
        found.skipped = len(left_out) - found.blank_or_no_image
    found.missing.append(
        "ROC and precision-recall curves: nothing here says which images are abnormal. ddad evaluate measures "
        "a model on labelled images."
    )
    return found


def _evaluation(folder: Path) -> Results:
    found = Results(folder, "evaluation")
    found.metrics = read_json(folder / "evaluation.json")
    found.model = _model(folder, found)
    found.warnings = [str(warning) for warning in found.metrics.get("warnings", ())]
    found.skipped = len(found.metrics.get("skipped", ()))
    found.blank_or_no_image = len(found.metrics.get("blank", ()))
    if not (folder / "scores.csv").is_file():
        raise OutputError(f"{folder}: scores.csv is missing. Run ddad evaluate --out again.")
    file = folder / "scores.csv"
    table = read_table(file, ("path", "label"))
    names = _score_names(table, found.model)
    if not names:
        raise OutputError(f"{file}: holds no scores. Run ddad evaluate --out again.")
    primary = found.model.get("primary_score")
    primary = primary if primary in names else names[-1]
    table.insert(1, "score", numbers(file, table, primary))
    _take_findings(found, file, table, primary)
    found.missing.append("Maps: an evaluation does not keep them. ddad score --heatmaps writes them.")
    return found


def _take_findings(found: Results, file: Path, table: pd.DataFrame, primary: str) -> None:
    found.score_names = _score_names(table, found.model) or ["score"]
    for name in {"score", "p_value", "rows", "columns", *found.score_names} & set(table):
        table[name] = numbers(file, table, name)
    if "group" in table:
        table["group"] = numbers(file, table, "group", empty=False)
    if "label" in table:
        table["label"] = numbers(file, table, "label", among=(0, 1), empty=False)
    found.findings = table
    chosen = str(found.model.get("primary_score", primary))
    found.primary = chosen if chosen in found.score_names else found.score_names[-1]
    labels = [int(label) for label in table["label"]] if "label" in table else None
    groups = [int(group) for group in table["group"]] if "group" in table else None
    scores = {name: [float(score) for score in table[name]] for name in found.score_names}
    found.runs = [ScoredRun("", scores, labels, found.metrics.get("images", {}), groups)]


def _score_names(table: pd.DataFrame, model: dict[str, Any]) -> list[str]:
    """Return the columns of scores: those that are known as such, even if a value is no number, and other numbers."""
    known = {*SCORE_TITLES, "image", *model.get("held_out_normals", {}).get("scores", ())}
    others = [name for name in table if name not in _FIXED]
    return [str(name) for name in others if name in known or pd.api.types.is_numeric_dtype(table[name])]


def _take_strips(found: Results, folder: Path, table: pd.DataFrame) -> None:
    names = [Path(str(name)).name for name in table["heatmap"]] if "heatmap" in table else []
    strips = {path: folder / MAPS / name for path, name in zip(table["path"], names, strict=False)}
    found.strips = {path: strip for path, strip in strips.items() if strip.is_file()}
    lost = len(strips) - len(found.strips)
    if not found.strips:
        found.missing.append("Maps: the folder holds none. Score again with --heatmaps to see them here.")
    elif lost:
        found.missing.append(
            f"Maps of {lost:,} of {len(strips):,} images: {MAPS}/ lacks their pictures. Score again to have them."
        )


def _joined(scored: Results, measured: Results) -> Results:
    """Give a scoring folder's findings the labels that an evaluation of the same images knows."""
    assert scored.findings is not None
    assert measured.findings is not None
    label_of = dict(zip(measured.findings["path"], measured.findings["label"], strict=True))
    scored.kind = "scoring and evaluation"
    scored.metrics, scored.runs = measured.metrics, measured.runs
    scored.findings["label"] = [label_of.get(path, np.nan) for path in scored.findings["path"]]
    scored.warnings = measured.warnings
    scored.missing = [note for note in scored.missing if not note.startswith("ROC")]
    return scored


def _benchmark(folder: Path) -> Results:
    kinds = {"benchmark": "results.md", "sweep": "sweep.md"}
    there = [kind for kind, file in kinds.items() if (folder / file).is_file()]
    found = Results(folder, " and ".join(there) or "benchmark")
    for file in sorted((folder / "runs").glob("*.json")):
        try:
            found.records.append(read_run(file))
        except OutputError as error:
            found.missing.append(f"{file.relative_to(folder)}{str(error).removeprefix(str(file))}")
    settings = told_apart(found.records)
    for record, apart in zip(found.records, settings, strict=True):
        images = record.get("evaluation", {}).get("images", {})
        title = _run_title(record, apart)
        found.runs.append(ScoredRun(title, record["scores"], record["labels"], images, record.get("groups")))
    _take_tables(found, folder, any(settings))
    if not found.runs and not found.tables:
        raise OutputError(f"{folder}: holds no finished run and no tables. Run the same command again to finish it.")
    if found.runs:
        found.score_names = list(dict.fromkeys(name for run in found.runs for name in run.scores))
        # Of several methods, that with the most scores has a main one among them, its last.
        found.primary = max((list(run.scores) for run in found.runs), key=len)[-1]
    else:
        found.missing.append("Histograms and curves: runs/ holds no finished run, only the tables are left.")
    warnings = (str(warning) for record in found.records for warning in record.get("warnings", ()))
    found.warnings = list(dict.fromkeys(warnings))
    found.skipped = max((len(record.get("skipped", ())) for record in found.records), default=0)
    found.missing.append("Training curves and model card: a benchmark does not keep its models.")
    found.missing.append("Gallery: a benchmark keeps scores, not the paths of images.")
    return found


def _take_tables(found: Results, folder: Path, several_settings: bool) -> None:
    """Take the tables that commands ended with; of one that has not ended, make them if that is possible."""
    made_of = []
    for stem in ("results", "sweep"):
        cells = _cells(folder / f"{stem}.csv")
        if (folder / f"{stem}.md").is_file():
            text = read_text(folder / f"{stem}.md")
            found.tables += f"{text}\n"
            if (kind := kind_of(text)) and set(cells) > set(_MEASURED) and not cells.empty:
                found.swept, found.curves = kind, curves_of(cells, kind)
            made_of.append(len(cells.drop_duplicates([name for name in ("value", *_CELL_KEYS) if name in cells])))
    if len(made_of) == 1 and found.records and made_of[0] not in (0, len(found.records)):
        found.missing.append(
            f"Runs: the tables are made of {made_of[0]}, and runs/ holds {len(found.records)}. Tables are of those of "
            "the last command that ended, charts of those in runs/."
        )
    if made_of or not found.records:
        return
    known = all(cell.get("method") in METHOD_TITLES for record in found.records for cell in record["cells"])
    places = {tuple(cell.get(key) for key in _CELL_KEYS[:2]) for record in found.records for cell in record["cells"]}
    # A mean over settings would pass for one over seeds.
    if known and len(places) == 1 and not several_settings:
        found.tables = tables_so_far(found.records)
    else:
        found.missing.append(
            "Tables: there is no results.md or sweep.md yet, and the runs in runs/ are of several settings or data "
            "sets, or of another version. Run the same command again: it goes on, and ends with the tables."
        )


def _cells(file: Path) -> pd.DataFrame:
    cells = read_table(file, _CELL_KEYS) if file.is_file() else pd.DataFrame(columns=[*_CELL_KEYS])
    return cells.assign(**{name: numbers(file, cells, name) for name in _MEASURED if name in cells})


def _run_title(record: dict[str, Any], apart: dict[str, str]) -> str:
    cell = (record.get("cells") or [{}])[0]
    parts = [str(part) for key in ("dataset", "split", "method", "backbone") if (part := cell.get(key))]
    words = {name: word for name, word in in_words(record).items() if name in ("anomaly rate", "unseen")}
    parts += [f"{name} {word}" for name, word in (words | apart).items()]
    return " · ".join([*parts, f"seed {record.get('recipe', {}).get('seed', '?')}"])


def _model_alone(folder: Path) -> Results:
    found = Results(folder, "model")
    model = Model.load(folder)
    found.model = model.summary() | {"name": folder.resolve().name}
    found.skipped = found.model["cohort"]["skipped_count"]
    normals, calibration = model.card["held_out_normals"], model.calibration
    found.score_names, found.primary = list(normals["scores"]), model.primary_score
    found.runs = [ScoredRun(normals["of"], {name: list(values) for name, values in normals["scores"].items()})]
    if calibration is not None and calibration.of != normals["of"]:
        # The line is drawn by these; who looks at it wants to see them.
        own = [score for group in calibration.groups for score in group]
        found.runs.insert(0, ScoredRun(calibration.of, {calibration.score: own}))
    found.missing.append("Findings and ROC curves: a model has none. Give the --out folder of ddad score or evaluate.")
    return found


def _model(folder: Path, found: Results) -> dict[str, Any]:
    file = folder / "run.json"
    if not file.is_file():
        found.missing.append(
            "Model card, recipe and training curves: there is no run.json (written by an earlier ddad)."
        )
        return {}
    model = read_json(file).get("model", {})
    if not isinstance(model, dict):
        raise OutputError(f"{file}: damaged ('model' is no object). Score again.")
    return model
