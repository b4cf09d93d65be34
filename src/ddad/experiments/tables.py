"""Benchmark cells as tables: the rows of Table 3 with the paper's figure beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ddad.evaluation import Interval
from ddad.experiments.evaluation import Evaluation
from ddad.experiments.published import BACKBONE_TITLES, METHOD_TITLES, SCORE_TITLES

COLUMNS = ("Method", "Backbone", "AUC", "AUC (paper)", "AP", "AP (paper)", "seeds", "time a run")


def summary(cells: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Reduce cells to one row for each method: mean ± standard deviation over seeds, in percent.

    DDAD has a row for each backbone and score; the rivals, which have one score, stand below.
    """
    table = pd.DataFrame(list(cells))
    table["backbone"] = table["backbone"].fillna("")
    own = [
        ("ddad", backbone, score, score_title, backbone_title)
        for backbone, backbone_title in BACKBONE_TITLES.items()
        for score, score_title in SCORE_TITLES.items()
    ]
    rivals = [(method, "", "image", title, "–") for method, title in METHOD_TITLES.items() if method != "ddad"]
    rows = []
    for method, backbone, score, title, backbone_title in [*own, *rivals]:
        chosen = table[(table["method"] == method) & (table["backbone"] == backbone) & (table["score"] == score)]
        if chosen.empty:
            continue
        first = chosen.iloc[0]
        rows.append(
            (
                title,
                backbone_title,
                _spread(chosen["auc"]),
                _figure(first["auc_paper"]),
                _spread(chosen["ap"]),
                _figure(first["ap_paper"]),
                len(chosen),
                _duration(chosen["seconds"].mean()),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def evaluation_table(evaluation: Evaluation) -> pd.DataFrame:
    """Show each score's image metrics with their intervals, and its map's pixel metrics, in percent."""
    rows = []
    for name, metrics in evaluation.images.items():
        row = {"score": name, "AUC": _interval(metrics.auc), "AP": _interval(metrics.ap)}
        if name in evaluation.pixels:
            pixels = evaluation.pixels[name]
            row |= {
                "pixel AP": f"{100 * pixels.ap:.1f}",
                "pixel AUROC": f"{100 * pixels.auroc:.1f}",
                "AUPRO": f"{100 * pixels.aupro:.1f}",
                "best Dice": f"{100 * pixels.best_dice:.1f}",
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _interval(interval: Interval) -> str:
    return f"{100 * interval.estimate:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def to_markdown(table: pd.DataFrame) -> str:
    """Write a table as Markdown."""
    header = "| " + " | ".join(table.columns) + " |"
    rule = "|" + "---|" * len(table.columns)
    rows = ["| " + " | ".join(str(value) for value in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join([header, rule, *rows]) + "\n"


def _spread(values: pd.Series[float]) -> str:
    if len(values) == 1:
        return f"{values.iloc[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std():.1f}"


def _figure(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
