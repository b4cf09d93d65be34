"""What a sweep ends in: a table of the AUC over what was varied, paired tests at each value, and a plot (Fig. 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddad.experiments import drawing
from ddad.experiments.comparisons import (
    LEAST,
    METHODS,
    Contender,
    compared,
    not_told_apart,
    pooled_scores,
    resampled,
)
from ddad.experiments.origin import computed_by, noted, skipped_files, so_far
from ddad.experiments.published import method_title
from ddad.experiments.run import cells_of
from ddad.experiments.sweep import SWEEPS, Kind
from ddad.experiments.tables import constant_note, spreads, summary, to_markdown
from ddad.files import write_atomically
from ddad.wording import percent

_SHOWN = ("r_dual", "r_intra", "a_inter", "a_intra", "rec")
"""DDAD's curves in Fig. 5, in its order."""
_SHOWN_OVER_K = (*_SHOWN[:-1], "rec_ensemble", "rec")
"""Rec. is of one network whatever K is."""
_COLUMNS = 2


def write_sweep(
    kind: Kind,
    values: Sequence[float],
    records: Sequence[dict[str, Any]],
    command: str,
    out: Path,
    *,
    planned: int | None = None,
    backbones: Collection[str] = (),
    brief: bool = False,
) -> str:
    """Write `sweep.csv`, `sweep.md` and the plot `sweep.pdf`, `.svg`, `.png`; return the table as Markdown.

    Args:
        kind: what was varied.
        values: of each record.
        records: from `run_grid`.
        command: the command line that makes them again.
        out: folder for the files.
        planned: how many records there will be, if not all are there.
        backbones: of DDAD in these, by which its curves are named from the first record on as they will be.
        brief: whether to leave out what takes long: intervals, tests, and the plot.
    """
    by_value: dict[float, list[dict[str, Any]]] = {}
    for value, record in zip(values, records, strict=True):
        by_value.setdefault(value, []).append(record)
    measured, tests = [], {}
    for value, found in by_value.items():
        means, tests[value] = _measured(found, kind, brief)
        measured.append(means.assign(value=value))
    rows = in_order(pd.concat(measured, ignore_index=True), kind, backbones)
    cells = [
        {"value": value, **cell} for value, record in zip(values, records, strict=True) for cell in cells_of([record])
    ]
    table = to_markdown(sweep_table(rows, kind))
    first = records[0]
    unseen = f"; unseen: {first['unseen']}" if first.get("unseen") else ""
    text = f"""{_heading(kind)}
{so_far(len(records), planned, brief)}
{first["cells"][0]["dataset"]}, {first["cells"][0]["split"]}{unseen}; percent, mean ± standard deviation over seeds; in
brackets the 95 % bootstrap interval of that mean over test images.

{table}{constant_note(rows)}
{_significance(rows, tests, kind)}
- command: `{command}`
- recipe {first["recipe"]["preset_name"]}; the whole of it, and the score of each image, is in `runs/`
- seeds: {", ".join(f"{value:g}: {_seeds(found)}" for value, found in by_value.items())}
- unlabeled images: {", ".join(f"{value:g}: {found[0]['counts']['unlabeled']}" for value, found in by_value.items())}
- data fingerprints: {", ".join(f"{value:g}: {_fingerprints(found)}" for value, found in by_value.items())}
{skipped_files(records)}{noted(records)}{computed_by(records)}"""
    write_atomically(out / "sweep.csv", pd.DataFrame(cells).to_csv(index=False).encode())
    write_atomically(out / "sweep.md", text.encode())
    if not brief:
        with drawing.style():
            drawing.save(draw_sweep(rows, kind), out, "sweep")
    return table


def kind_of(text: str) -> Kind | None:
    """Tell from what `sweep.md` holds what was varied; None if it is no such text."""
    return next((kind for kind in SWEEPS if text.startswith(f"{_heading(kind)}\n")), None)


def curves_of(cells: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Return what `draw_sweep` draws, from the rows of `sweep.csv`; nothing of methods that this version lacks."""
    parts = [
        summary([{str(key): cell for key, cell in row.items()} for row in part.to_dict("records")]).assign(value=value)
        for value, part in cells.groupby("value")
    ]
    rows = pd.concat(parts, ignore_index=True)
    return rows if rows.empty else in_order(rows, kind)


def in_order(rows: pd.DataFrame, kind: Kind, backbones: Collection[str] = ()) -> pd.DataFrame:
    """Name the curves of a sweep, and sort them: DDAD's in the order of Fig. 5, then the others.

    Args:
        rows: from `summary`, with a `value`; the scores of DDAD that Fig. 5 does not have are left out, but for Rec.
            (ensemble) over K.
        kind: what was varied.
        backbones: of DDAD that there will be, if not all are there.

    Returns:
        The rows with `name`, and `curve`, the name among those of one backbone; they are the same if there is only one.
    """
    shown = _shown(kind)
    rank = rows["score"].map({score: number for number, score in enumerate(shown)})
    own = rows["method"] == "ddad"
    rows = rows.assign(rank=rank.where(own, len(shown))).dropna(subset=["rank"])
    rows = rows.sort_values(["rank", "value"], kind="stable").reset_index(drop=True)
    titles = _titles(rows)
    curves = [
        title.partition(") ")[2] if method == "ddad" else title
        for method, title in zip(rows["method"], titles, strict=True)
    ]
    several = {*backbones, *rows.loc[rows["method"] == "ddad", "backbone"]}
    return rows.assign(name=titles if len(several) > 1 else curves, curve=curves)


def sweep_table(rows: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Return a table with a row for each value and a column for each curve.

    Args:
        rows: from `in_order`.
        kind: what was varied.
    """
    table = rows.assign(text=spreads(rows, "auc")).pivot(index="value", columns="name", values="text")
    table = table[list(dict.fromkeys(rows["name"]))].fillna("–")
    table.insert(0, SWEEPS[kind].title, [_value(value, kind) for value in table.index])
    return table


def draw_sweep(rows: pd.DataFrame, kind: Kind) -> Figure:
    """Draw the mean AUC of each method over the swept values, with a band of one standard deviation over seeds.

    Each backbone of DDAD has a panel, with the other methods in it if there is a colour for each, else beside it.

    Args:
        rows: from `in_order`.
        kind: what was varied.
    """
    panels = _panels(rows.dropna(subset="auc"))  # a score that is constant has none
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    legend = -(-max(shown["curve"].nunique() for shown in panels.values()) // 2)
    size = (drawing.COLUMN_INCHES * columns, (2.7 + 0.17 * legend) * lines)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (title, shown) in zip(grid.flat, panels.items(), strict=False):
        _draw_panel(axes, shown, kind)
        if len(panels) > 1:
            axes.set_title(title)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    return figure


def _panels(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Divide the curves into panels, by title, none of them with more than there are colours."""
    own = rows["method"] == "ddad"
    panels = {
        method_title("ddad", backbone): rows[own & (rows["backbone"] == backbone)]
        for backbone in dict.fromkeys(rows.loc[own, "backbone"])
    }
    others = rows[~own]
    names = list(dict.fromkeys(others["curve"]))
    most = max((shown["curve"].nunique() for shown in panels.values()), default=0)
    if panels and most + len(names) <= len(drawing.COLOURS):
        return {title: pd.concat([shown, others]) for title, shown in panels.items()}
    for number, first in enumerate(range(0, len(names), len(drawing.COLOURS)), start=1):
        title = "other methods" if number == 1 else f"other methods, {number}"
        panels[title] = others[others["curve"].isin(names[first : first + len(drawing.COLOURS)])]
    return panels


def _draw_panel(axes: Axes, rows: pd.DataFrame, kind: Kind) -> None:
    sweep = SWEEPS[kind]
    for number, name in enumerate(dict.fromkeys(rows["curve"])):
        curve = rows[rows["curve"] == name].sort_values("value")
        x = curve["value"] * (100 if kind == "anomaly-rate" else 1)
        colour = drawing.COLOURS[number]
        # Curves that coincide stay visible: later ones are thinner, with smaller and hollow marks.
        axes.plot(
            x, curve["auc"], drawing.LINES[number], marker=drawing.MARKERS[number], color=colour, label=name,
            ms=max(3.0, 6 - 0.6 * number), lw=max(0.9, 2 - 0.25 * number), mfc="none" if number else colour,
        )  # fmt: skip
        spread = pd.to_numeric(curve["auc_sd"]).fillna(0)
        band = ((curve["auc"] + side * spread).clip(0, 100) for side in (-1, 1))
        axes.fill_between(x, *band, color=colour, alpha=0.15, lw=0)
    axes.set_xlabel(f"{sweep.title}{' (%)' if kind == 'anomaly-rate' else ''}")
    axes.set_ylabel("AUC (%)")
    axes.set_xscale(sweep.scale)
    ticks = sorted(rows["value"].unique() * (100 if kind == "anomaly-rate" else 1))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(labelbottom=True)
    axes.grid(axis="y", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _shown(kind: Kind) -> tuple[str, ...]:
    return _SHOWN_OVER_K if kind == "members" else _SHOWN


def _heading(kind: Kind) -> str:
    return f"# AUC over {SWEEPS[kind].title}"


def _measured(records: Sequence[dict[str, Any]], kind: Kind, brief: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the means of the runs at one value and, unless brief, intervals and the paired tests of what is shown.

    Runs with other images are not compared: fewer normal images are drawn anew for each seed.
    """
    cells = cells_of(records)
    scores = pooled_scores(records)
    if scores.left_out or brief:
        return summary(cells), pd.DataFrame()
    measures = resampled(scores)
    shown = [one for one in scores.by_contender if one.method != "ddad" or one.score in _shown(kind)]
    tested = len(shown) > 1 and min(scores.independent()) >= LEAST
    return summary(cells, measures), compared(METHODS, shown, scores, measures) if tested else pd.DataFrame()


def _significance(rows: pd.DataFrame, tests: Mapping[float, pd.DataFrame], kind: Kind) -> str:
    """Say at each value what has the highest AUC, and what cannot be told from it."""
    rows = rows.assign(title=_titles(rows))
    names = dict(zip(rows["title"], rows["name"], strict=True))
    lines = []
    for value, pairs in sorted(tests.items()):
        if not pairs.empty:
            # What was not tested, as runs that score every image alike, beats nobody.
            tested = {*pairs["first"], *pairs["second"]}
            there = rows[(rows["value"] == value) & rows["title"].isin(tested)]
            best = there.nlargest(1, "auc")["title"].item()
            ties = not_told_apart(best, pairs)
            also = ", ".join(name for title, name in names.items() if title in ties) or "–"
            lines.append((_value(value, kind), names[best], also))
    if not lines:
        return ""
    table = pd.DataFrame(lines, columns=[SWEEPS[kind].title, "highest AUC", "not told from it"])
    return f"""## Which differences are significant

All others that vary are significantly lower than the highest: paired tests of DeLong et al. (1988) on the same test
images, 5 %, each pair by the means over the seeds that both have, with Holm's correction over the pairs of a row.

{to_markdown(table)}"""


def _fingerprints(records: Sequence[dict[str, Any]]) -> str:
    return " ".join(f"`{cohort}`" for cohort in dict.fromkeys(record["cohort"] for record in records))


def _seeds(records: Sequence[dict[str, Any]]) -> str:
    """Say how many seeds there are, and which methods have fewer."""
    seeds: dict[str, set[int]] = {}
    for cell in (record["cells"][0] for record in records):
        seeds.setdefault(method_title(cell["method"], cell["backbone"]), set()).add(cell["seed"])
    most = max(len(own) for own in seeds.values())
    fewer = ", ".join(f"{title} {len(own)}" for title, own in seeds.items() if len(own) < most)
    return f"{most} ({fewer})" if fewer else f"{most}"


def _titles(rows: pd.DataFrame) -> list[str]:
    return [
        Contender(method, backbone, score).title
        for method, backbone, score in zip(rows["method"], rows["backbone"], rows["score"], strict=True)
    ]


def _value(value: float, kind: Kind) -> str:
    return percent(value, digits=6) if kind == "anomaly-rate" else f"{value:g}"
