"""What lies in a results folder, of whichever kind, in one form that a page can be made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddad.errors import OutputError
from ddad.experiments.run import in_words, told_apart
from ddad.files import NOTHING_BUT_EMPTY_IS_MISSING
from ddad.images.source_header import IDENTIFIERS
from ddad.report.map_strip import MAPS

_FIXED = (
    *("path", "score", "p_value", "flagged", "rows", "columns", "warnings", "heatmap", "overlay", "label", "group"),
    *IDENTIFIERS,  # never shown, and no scores, though they may be numbers
)


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
        cells: the table of a benchmark, or None.
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
    cells: pd.DataFrame | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    strips: dict[str, Path] = field(default_factory=dict)
    skipped: int = 0
    blank_or_no_image: int = 0
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_results(folder: str | Path) -> Results:
    """Read a scoring, evaluation or benchmark folder, or one that holds `scores/` and `evaluation/` as the demo's.

    Raises:
        OutputError: the folder is missing, is none of these, or holds a file that is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise OutputError(
            f"{folder}: there is no such folder. Give the --out folder of ddad score, evaluate or benchmark."
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
    raise OutputError(
        f"{folder}: holds no results (findings.csv, evaluation.json, results.csv or runs/). "
        "Give the --out folder of ddad score, evaluate or benchmark; an unfinished one has to be finished first."
    )


def _has_evaluation(folder: Path) -> bool:
    return (folder / "evaluation" / "evaluation.json").is_file()


def _scoring(folder: Path) -> Results:
    found = Results(folder, "scoring")
    table = _table(folder / "findings.csv", ("path", "score"))
    found.model = _model(folder, found)
    _take_findings(found, table, "score")
    names = [Path(str(name)).name for name in table["heatmap"]] if "heatmap" in table else []
    strips = {path: folder / MAPS / name for path, name in zip(table["path"], names, strict=False)}
    found.strips = {path: strip for path, strip in strips.items() if strip.is_file()}
    if not found.strips:
        found.missing.append("Maps: the folder holds none. Score again with --heatmaps to see them here.")
    if (folder / "skipped.csv").is_file():
        left_out = _table(folder / "skipped.csv", ("path",))
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
    found.metrics = _json(folder / "evaluation.json")
    found.model = _model(folder, found)
    found.warnings = [str(warning) for warning in found.metrics.get("warnings", ())]
    found.skipped = len(found.metrics.get("skipped", ()))
    found.blank_or_no_image = len(found.metrics.get("blank", ()))
    if not (folder / "scores.csv").is_file():
        raise OutputError(f"{folder}: scores.csv is missing. Run ddad evaluate --out again.")
    table = _table(folder / "scores.csv", ("path", "label"))
    names = [str(name) for name in table if name not in _FIXED]
    if not names:
        raise OutputError(f"{folder / 'scores.csv'}: holds no scores. Run ddad evaluate --out again.")
    primary = found.model.get("primary_score")
    primary = primary if primary in names else names[-1]
    table.insert(1, "score", table[primary])
    _take_findings(found, table, primary)
    found.missing.append("Maps: an evaluation does not keep them. ddad score --heatmaps writes them.")
    return found


def _take_findings(found: Results, table: pd.DataFrame, primary: str) -> None:
    found.findings = table
    names = [str(name) for name in table if name not in _FIXED and pd.api.types.is_numeric_dtype(table[name])]
    found.score_names = names or ["score"]
    chosen = str(found.model.get("primary_score", primary))
    found.primary = chosen if chosen in found.score_names else found.score_names[-1]
    labels = [int(label) for label in table["label"]] if "label" in table else None
    groups = [int(group) for group in table["group"]] if "group" in table else None
    scores = {name: [float(score) for score in table[name]] for name in found.score_names}
    found.runs = [ScoredRun("", scores, labels, found.metrics.get("images", {}), groups)]


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
    table = next((file for name in ("results.csv", "sweep.csv") if (file := folder / name).is_file()), None)
    found = Results(folder, "sweep" if table and table.name == "sweep.csv" else "benchmark")
    found.records = [_json(file) for file in sorted((folder / "runs").glob("*.json"))]
    settings = told_apart(found.records)
    for record, apart in zip(found.records, settings, strict=True):
        if record.get("scores") and record.get("labels"):
            images = record.get("evaluation", {}).get("images", {})
            title = _run_title(record, apart)
            found.runs.append(ScoredRun(title, record["scores"], record["labels"], images, record.get("groups")))
    if table is not None:
        found.cells = _table(table, ("dataset", "score", "auc"))
    else:
        found.cells = pd.DataFrame([cell for record in found.records for cell in record.get("cells", ())])
        # A mean over settings would pass for one over seeds.
        if any(settings) or len(found.cells.reindex(columns=["dataset", "split"]).drop_duplicates()) > 1:
            found.cells = None
            found.missing.append(
                "Table: runs/ has several settings or data sets, and no results.csv or sweep.csv yet. Run the same "
                "command again: it goes on, and ends with the table."
            )
    if not found.runs and (found.cells is None or found.cells.empty):
        raise OutputError(f"{folder}: holds no finished run. Run the same ddad benchmark again to finish it.")
    if found.runs:
        found.score_names = list(dict.fromkeys(name for run in found.runs for name in run.scores))
        # Of several methods, that with the most scores has a main one among them, its last.
        found.primary = max((list(run.scores) for run in found.runs), key=len)[-1]
    else:
        found.missing.append("Histograms and curves: runs/ holds no finished run, only the table is left.")
    warnings = (str(warning) for record in found.records for warning in record.get("warnings", ()))
    found.warnings = list(dict.fromkeys(warnings))
    found.skipped = max((len(record.get("skipped", ())) for record in found.records), default=0)
    found.missing.append("Training curves and model card: a benchmark does not keep its models.")
    found.missing.append("Gallery: a benchmark keeps scores, not the paths of images.")
    return found


def _run_title(record: dict[str, Any], apart: dict[str, str]) -> str:
    cell = (record.get("cells") or [{}])[0]
    parts = [str(part) for key in ("dataset", "split", "method", "backbone") if (part := cell.get(key))]
    words = {name: word for name, word in in_words(record).items() if name in ("anomaly rate", "unseen")}
    parts += [f"{name} {word}" for name, word in (words | apart).items()]
    return " · ".join([*parts, f"seed {record.get('recipe', {}).get('seed', '?')}"])


def _model(folder: Path, found: Results) -> dict[str, Any]:
    file = folder / "run.json"
    if not file.is_file():
        found.missing.append(
            "Model card, recipe and training curves: there is no run.json (written by an earlier ddad)."
        )
        return {}
    model = _json(file).get("model", {})
    if not isinstance(model, dict):
        raise OutputError(f"{file}: damaged ('model' is no object). Score again.")
    return model


def _table(file: Path, needed: Sequence[str]) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pd.read_csv(
            file, dtype={"path": str, "warnings": str, "heatmap": str, "flagged": str}, **NOTHING_BUT_EMPTY_IS_MISSING
        )
    except (ValueError, pd.errors.ParserError, OSError) as error:
        raise OutputError(f"{file}: cannot be read ({error}). Make the results again.") from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise OutputError(f"{file}: lacks the column {', '.join(missing)}. Make the results again.")
    return table


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: damaged ({error}). Make the results again.") from error
    if not isinstance(content, dict):
        raise OutputError(f"{file}: damaged (not a JSON object). Make the results again.")
    return content
