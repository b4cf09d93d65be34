"""Sweeps: one thing is varied, all else stays; a table and a plot of the AUC over it (Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from ddad.cohorts import Role
from ddad.detectors import DETECTORS
from ddad.errors import CohortError, SettingError
from ddad.experiments import drawing
from ddad.experiments.benchmark import benchmark_recipes
from ddad.experiments.comparisons import Contender
from ddad.experiments.grid import Run
from ddad.experiments.run import cells_of
from ddad.experiments.setting import Setting
from ddad.experiments.tables import summary, to_markdown
from ddad.files import write_atomically
from ddad.normals import MINIMUM_NORMALS
from ddad.recipe import Recipe

Kind = Literal["anomaly-rate", "members", "normals", "latent-size"]


@dataclass(frozen=True)
class Sweep:
    """What is varied.

    Attributes:
        title: of the axis.
        values: what is taken if nothing else is said.
        methods: the same.
        field: of the recipe; none if the images are varied.
        scale: of the axis.
    """

    title: str
    values: tuple[float, ...]
    methods: tuple[str, ...]
    field: str | None = None
    scale: Literal["linear", "log"] = "linear"


SWEEPS: dict[Kind, Sweep] = {
    "anomaly-rate": Sweep(
        "anomaly rate of the unlabeled images", (0, 0.2, 0.4, 0.6, 0.8, 1), ("ddad", "normal-vs-unlabeled")
    ),
    "members": Sweep("K, networks in each ensemble", (1, 2, 3, 5, 7, 10), ("ddad",), "reconstruction.members"),
    "normals": Sweep("normal images", (10, 20, 50, 100, 200, 500, 1000), ("ddad", "normal-vs-unlabeled"), scale="log"),
    "latent-size": Sweep("length of the code", (4, 8, 16, 32, 64, 128), ("ddad",), "reconstruction.latent_size", "log"),
}
_SHOWN = ("r_dual", "r_intra", "a_inter", "a_intra", "rec")
"""DDAD's curves in Fig. 5, in its order."""


def sweep_runs(
    kind: Kind,
    setting: Setting,
    recipe: Recipe,
    *,
    values: Sequence[float] = (),
    methods: Sequence[str] = (),
    backbones: Sequence[str] = ("ae-u",),
    seeds: int = 3,
) -> list[tuple[float, Run]]:
    """List the runs of a sweep with the value of each.

    Over anomaly rates the number of unlabeled images stays the same: the largest that the lists give at every rate.
    Normal images are drawn anew for each seed; of one seed, fewer are part of more.

    Args:
        kind: what is varied.
        setting: the images.
        recipe: what all runs have in common.
        values: instead of the usual ones; of `normals`, those above the number of normal images are left out.
        methods: detectors, instead of the usual ones.
        backbones: of the method `ddad`.
        seeds: how many, counted up from the recipe's own.

    Raises:
        SettingError: a value, method or backbone cannot be used, or a method does not read what is varied.
        CohortError: the images cannot be assembled, or are fewer normal ones than the smallest usual value.
    """
    sweep = SWEEPS[kind]
    recipes = benchmark_recipes(recipe, methods or sweep.methods, backbones, seeds)
    if sweep.field is not None:
        _check_read(kind, sweep.field, [each.detector for each in recipes])
    chosen = list(dict.fromkeys(values or sweep.values))
    if kind == "anomaly-rate":
        rated = [replace(setting, anomaly_rate=rate) for rate in chosen]
        size = min(len(one.open()[1].of(Role.UNLABELED)) for one in rated)
        return [(one.anomaly_rate or 0.0, Run(replace(one, unlabeled=size), each)) for one in rated for each in recipes]
    counts = [_count(kind, value) for value in chosen]
    if kind == "normals":
        there = len(setting.open()[1].of(Role.NORMAL))
        if not values and min(counts) > there:
            raise CohortError(
                f"normal: {there} images are there, and the smallest usual value is {min(counts)}. Give --value, from "
                f"{MINIMUM_NORMALS} on."
            )
        return [
            (count, Run(replace(setting, normals=count, normals_seed=each.seed), each))
            for count in counts
            if values or count <= there
            for each in recipes
        ]
    assert sweep.field is not None
    return [(count, Run(setting, each.changed({sweep.field: count}))) for count in counts for each in recipes]


def write_sweep(kind: Kind, values: Sequence[float], records: Sequence[dict[str, Any]], command: str, out: Path) -> str:
    """Write `sweep.csv`, `sweep.md` and the plot `sweep.pdf`, `.svg`, `.png`; return the table as Markdown.

    Args:
        kind: what was varied.
        values: of each record.
        records: from `run_grid`.
        command: the command line that makes them again.
        out: folder for the files.
    """
    by_value: dict[float, list[dict[str, Any]]] = {}
    for value, record in zip(values, records, strict=True):
        by_value.setdefault(value, []).append(record)
    rows = pd.concat(
        [summary(cells_of(found)).assign(value=value) for value, found in by_value.items()], ignore_index=True
    )
    # DDAD's curves in the order of Fig. 5, then the others.
    rank = rows["score"].map({score: number for number, score in enumerate(_SHOWN)})
    own = rows["method"] == "ddad"
    rows = rows.assign(rank=rank.where(own, len(_SHOWN))).dropna(subset=["rank"])
    rows = rows.sort_values(["rank", "value"], kind="stable").reset_index(drop=True)
    rows["name"] = _names(rows)
    cells = [
        {"value": value, **cell} for value, record in zip(values, records, strict=True) for cell in cells_of([record])
    ]
    table = to_markdown(_table(rows, kind))
    first = records[0]
    unseen = f"; unseen: {first['unseen']}" if first.get("unseen") else ""
    text = f"""# AUC over {SWEEPS[kind].title}

{first["cells"][0]["dataset"]}, {first["cells"][0]["split"]}{unseen}; percent, mean ± standard deviation over seeds.

{table}
- command: `{command}`
- unlabeled images: {", ".join(f"{value:g}: {found[0]['counts']['unlabeled']}" for value, found in by_value.items())}
"""
    write_atomically(out / "sweep.csv", pd.DataFrame(cells).to_csv(index=False).encode())
    write_atomically(out / "sweep.md", text.encode())
    with drawing.style():
        drawing.save(draw_sweep(rows, kind), out, "sweep")
    return table


def draw_sweep(rows: pd.DataFrame, kind: Kind) -> Figure:
    """Draw the mean AUC of each method over the swept values, with a band of one standard deviation over seeds."""
    sweep = SWEEPS[kind]
    figure = Figure(figsize=(drawing.COLUMN_INCHES, 2.7))
    axes = figure.add_subplot()
    for number, name in enumerate(dict.fromkeys(rows["name"])):
        curve = rows[rows["name"] == name].sort_values("value")
        x = curve["value"] * (100 if kind == "anomaly-rate" else 1)
        look = number % len(drawing.COLOURS)
        colour = drawing.COLOURS[look]
        # Curves that coincide stay visible: later ones are thinner, with smaller and hollow marks.
        axes.plot(
            x, curve["auc"], drawing.LINES[look], marker=drawing.MARKERS[look], color=colour, label=name,
            ms=max(3.0, 6 - 0.6 * number), lw=max(0.9, 2 - 0.25 * number), mfc="none" if number else colour,
        )  # fmt: skip
        spread = pd.to_numeric(curve["auc_sd"]).fillna(0)
        axes.fill_between(x, curve["auc"] - spread, curve["auc"] + spread, color=colour, alpha=0.15, lw=0)
    axes.set_xlabel(f"{sweep.title}{' (%)' if kind == 'anomaly-rate' else ''}")
    axes.set_ylabel("AUC (%)")
    axes.set_xscale(sweep.scale)
    ticks = sorted(rows["value"].unique() * (100 if kind == "anomaly-rate" else 1))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return figure


def _check_read(kind: Kind, field: str, methods: Sequence[str]) -> None:
    readers = [
        name
        for name, detector in DETECTORS.items()
        if field.partition(".")[0] in detector.sections and field not in detector.unread
    ]
    for method in methods:
        if method not in readers:
            raise SettingError(
                f"--methods {method}: it does not read {field}, which sweep {kind} varies, and would give the same at "
                f"every value. Take {' or '.join(readers)}."
            )


def _count(kind: Kind, value: float) -> int:
    fewest = MINIMUM_NORMALS if kind == "normals" else 1
    if not float(value).is_integer() or value < fewest:
        raise SettingError(f"--value {value:g}: {kind} takes whole numbers from {fewest} on.")
    return int(value)


def _names(rows: pd.DataFrame) -> list[str]:
    """Name each curve, with its backbone only if there are several."""
    several = rows.loc[rows["method"] == "ddad", "backbone"].nunique() > 1
    names = []
    for method, backbone, score in zip(rows["method"], rows["backbone"], rows["score"], strict=True):
        title = Contender(method, backbone, score).title
        names.append(title if several or method != "ddad" else title.partition(") ")[2])
    return names


def _table(rows: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    texts = [
        f"{auc:.1f}" if pd.isna(spread) else f"{auc:.1f} ± {spread:.1f}"
        for auc, spread in zip(rows["auc"], rows["auc_sd"], strict=True)
    ]
    table = rows.assign(text=texts).pivot_table(index="value", columns="name", values="text", aggfunc="first")
    table = table[list(dict.fromkeys(rows["name"]))].fillna("–")
    head = [f"{value:.0%}" if kind == "anomaly-rate" else f"{value:g}" for value in table.index]
    table.insert(0, SWEEPS[kind].title, head)
    return table
