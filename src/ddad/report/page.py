"""One self-contained HTML file from a results folder: no network, nothing beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from ddad import __version__
from ddad.errors import writing_to
from ddad.evaluation.curves import roc_and_pr
from ddad.experiments.published import SCORE_TITLES
from ddad.files import keep_others_file, output_file, write_atomically
from ddad.progress import Progress, listener
from ddad.report.charts import curve, histogram, training_curves
from ddad.report.facts import candidate_facts, card_facts, overview, recipe_facts
from ddad.report.gallery import PER_PAGE, Gallery, make_gallery
from ddad.report.result_text import as_html
from ddad.report.results import Results, ScoredRun, read_results
from ddad.report.run_recipes import run_recipes
from ddad.report.sweep_chart import sweep_chart
from ddad.wording import counted

_REFERENCE_QUANTILE = 0.95


@dataclass(frozen=True)
class Panel:
    """The charts of one score of one run, and what the slider counts."""

    run: int
    score: str
    histogram: Markup
    roc: Markup | None
    pr: Markup | None
    auc: str
    ap: str
    values: list[float]
    labels: list[int] | None
    threshold: float | None
    threshold_note: str
    strictly: bool


def write_report(
    folder: str | Path, out: str | Path | None = None, *, overwrite: bool = False, progress: Progress | None = None
) -> Path:
    """Make the page of a scoring, evaluation, benchmark, sweep or model folder, and return where it is.

    Args:
        folder: the results, or the model.
        out: HTML file to write; by default `report.html` in the folder.
        overwrite: whether a file that is there, and is no report of ours, may be replaced.
        progress: told of every picture.

    Raises:
        OutputError: there are no results, they are damaged, or the file cannot be written.
        ModelError: the model is damaged.
    """
    file = Path(folder) / "report.html" if out is None else Path(out)
    results = read_results(folder)
    check_target(file, overwrite=overwrite)
    content = render(results, listener(progress))
    write_atomically(file, content.encode(errors="backslashreplace"))
    return file


def check_target(file: Path, *, overwrite: bool) -> None:
    """Make sure, before any work, that a page may be written there.

    Raises:
        OutputError: it is a folder, in no folder or one that takes no file, or a file that is no page of ours.
    """
    output_file(file, "--out")
    with writing_to(file), tempfile.TemporaryFile(dir=file.parent):  # only an attempt tells
        keep_others_file(file, "--out", ours=b'name="generator" content="ddad', kind="report", overwrite=overwrite)


def render(results: Results, progress: Progress) -> str:
    """Return the page as HTML. Everything that comes from the folder is escaped."""
    gallery = make_gallery(results, progress)
    notes = [*results.missing, *_picture_notes(gallery)]
    panels = [panel for run in range(len(results.runs)) for panel in _panels(results, run, notes)]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["for_script"] = _for_script
    return environment.from_string(own_template("report.html.j2")).render(
        results=results,
        version=__version__,
        overview=overview(results),
        titles={name: SCORE_TITLES.get(name, name) for name in results.score_names},
        panels=panels,
        counts=[
            {
                "values": panel.values,
                "labels": panel.labels,
                "threshold": panel.threshold,
                "strictly": panel.strictly,
            }
            for panel in panels
        ],
        tables=as_html(results.tables) if results.tables else None,
        plot=_plot(results),
        curves=_training(results),
        card=card_facts(results),
        candidates=candidate_facts(results),
        selection=results.model.get("selection", {}),
        recipe=recipe_facts(results),
        recipes=run_recipes(results.records) if results.records else None,
        gallery=gallery,
        per_page=PER_PAGE,
        map_titles=[SCORE_TITLES.get(name, name) for name in gallery.map_names] if gallery else [],
        main_map=_main_map(results, gallery),
        colours=(colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(int).ravel().tolist(),
        notes=list(dict.fromkeys(notes)),
        css=Markup(own_template("report.css")),
        js=Markup(own_template("report.js")),
    )


def own_template(name: str) -> str:
    """Return a file of `templates/` as text."""
    return files("ddad.report").joinpath("templates", name).read_text(encoding="utf-8")


def _for_script(content: object) -> Markup:
    """Write JSON that neither ends the script element nor opens a comment, whatever a path holds."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _panels(results: Results, number: int, notes: list[str]) -> Iterator[Panel]:
    run = results.runs[number]
    for name, scores in run.scores.items():
        finite = [index for index, score in enumerate(scores) if np.isfinite(score)]
        if len(finite) < len(scores):
            notes.append(f"{len(scores) - len(finite)} scores of {name} are not finite; the charts leave them out.")
        if not finite:
            continue
        values = [scores[index] for index in finite]
        labels = None if run.labels is None else [run.labels[index] for index in finite]
        groups = None if run.groups is None else [run.groups[index] for index in finite]
        threshold, note, strictly = _threshold(results, name, run)
        roc, pr = _curves(name, values, labels, groups)
        yield Panel(
            run=number,
            score=name,
            histogram=Markup(histogram(_groups(values, labels), threshold=threshold, title=f"Histogram of {name}")),
            roc=roc,
            pr=pr,
            auc=_interval(run, name, "auc"),
            ap=_interval(run, name, "ap"),
            values=values,
            labels=labels,
            threshold=threshold,
            threshold_note=note,
            strictly=strictly,
        )


def _groups(values: Sequence[float], labels: Sequence[int] | None) -> dict[str, list[float]]:
    if labels is None:
        return {"unknown": list(values)}
    return {
        name: [value for value, label in zip(values, labels, strict=True) if label == wanted]
        for wanted, name in ((0, "normal"), (1, "abnormal"))
    }


def _threshold(results: Results, name: str, run: ScoredRun) -> tuple[float | None, str, bool]:
    """Return where the line of a score stands first, what it is, and whether only scores strictly above it count."""
    calibration = results.model.get("calibration") or {}
    if name == calibration.get("score") and calibration.get("flagged_above") is not None:
        return float(calibration["flagged_above"]), str(calibration["promise"]), True
    if name == results.primary and results.findings is not None and "flagged" in results.findings:
        known = results.findings.dropna(subset=["flagged"])
        flagged = known["flagged"].str.lower().isin(("true", "1", "1.0"))
        if len(known) and flagged.any():
            return (
                float(known.loc[flagged, "score"].min()),
                "The line stands at the lowest score that was flagged.",
                False,
            )
    reference = results.model.get("held_out_normals", {})
    scores, of = reference.get("scores", {}).get(name), reference.get("of", "held-out normals")
    if results.kind == "model":
        scores, of = run.scores[name], run.title  # a model's page draws such normals themselves
    if scores:
        none = f"{calibration['promise']} " if name == calibration.get("score") else ""
        where = f"the line first stands at the 95 % quantile of {len(scores)} {of}, as a guide."
        note = f"{none}Not a calibrated threshold: {where}"
        return float(np.quantile(scores, _REFERENCE_QUANTILE)), note, False
    return None, "There is no threshold: no image is flagged by this score, and no held-out normals are known.", False


def _curves(
    name: str, values: Sequence[float], labels: Sequence[int] | None, groups: Sequence[int] | None
) -> tuple[Markup | None, Markup | None]:
    if labels is None or len(set(labels)) < 2:
        return None, None
    roc, pr = roc_and_pr(labels, values, groups)
    return (
        Markup(
            curve(
                roc,
                x_title="false positive rate",
                y_title="sensitivity",
                chance="diagonal",
                title=f"ROC curve of {name}",
            )
        ),
        Markup(
            curve(
                pr,
                x_title="recall",
                y_title="precision",
                chance="level",
                base_rate=sum(labels) / len(labels),
                title=f"Precision-recall curve of {name}",
            )
        ),
    )


def _interval(run: ScoredRun, name: str, metric: str) -> str:
    found = run.metrics.get(name, {}).get(metric)
    if not found:
        return ""
    return f"{100 * found['estimate']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _training(results: Results) -> list[tuple[str, Markup]]:
    """Group the networks' curves by module: those of NDM, of UDM, and each ASR-Net."""
    groups: dict[str, dict[str, list[float]]] = {}
    curves: Mapping[str, Sequence[float]] = results.model.get("training_curves", {})
    for name, losses in curves.items():
        if losses and np.isfinite(losses).all():
            groups.setdefault(name.split(".")[0], {})[name] = list(losses)
    return [
        (module, Markup(training_curves(lines, title=f"Training curves of {module}")))
        for module, lines in groups.items()
    ]


def _plot(results: Results) -> tuple[Markup, list[tuple[str, Markup]]] | None:
    if results.swept is None or results.curves is None or results.curves.empty:
        return None
    return sweep_chart(results.curves, results.swept)


def _main_map(results: Results, gallery: Gallery | None) -> int:
    names = gallery.map_names if gallery else []
    return names.index(results.primary) if results.primary in names else max(0, len(names) - 1)


def _picture_notes(gallery: Gallery | None) -> list[str]:
    if gallery is None:
        return []
    notes = []
    if gallery.left_out:
        notes.append(
            f"Pictures of the {gallery.left_out:,} findings with the lowest scores are left out: "
            "the file would grow too large."
        )
    if gallery.damaged_maps:
        images = counted(gallery.damaged_maps, "image")
        notes.append(f"Pictures of the maps of {images} are damaged. Score again to have them.")
    without = len(gallery.items) - gallery.pictured - gallery.left_out
    if without:
        notes.append(
            f"{counted(without, 'image has', 'images have')} no picture: the files cannot be read from here. "
            "Make the report where the images lie."
        )
    if gallery.from_network:
        notes.append(
            f"{counted(gallery.from_network, 'image is', 'images are')} shown as seen by the network: the files cannot "
            "be read from here."
        )
    return notes
