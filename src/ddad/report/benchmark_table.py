"""The cells of a benchmark or a sweep as a table for the page: a row for each method, backbone and score."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ddad.experiments.comparisons import Contender
from ddad.experiments.published import BACKBONE_TITLES, METHOD_TITLES, SCORE_TITLES
from ddad.experiments.tables import summary

_NEEDED = {"method", "backbone", "score", "auc", "ap", "auc_paper", "ap_paper", "seconds"}
_KNOWN = {
    "method": {str(name) for name in METHOD_TITLES},
    "backbone": {str(name) for name in BACKBONE_TITLES},
    "score": {*(str(name) for name in SCORE_TITLES), "image"},
}


def benchmark_table(cells: pd.DataFrame | None) -> dict[str, Any] | None:
    """Return `columns` and `rows` as words; cells that this version does not know stand as they are.

    Args:
        cells: rows of `results.csv`, or of `sweep.csv`, which has a column `value` besides.
    """
    if cells is None or cells.empty:
        return None
    known = set(cells) >= _NEEDED and all(set(cells[name].dropna()) <= names for name, names in _KNOWN.items())
    if not known:
        table = cells.astype(object).where(cells.notna(), "–")
    elif "value" in cells:
        parts = [
            _summarised(part).assign(Value=f"{value:g}" if isinstance(value, float) else str(value))
            for value, part in cells.groupby("value", sort=False)
        ]
        table = pd.concat(parts)
        table = table[["Value", *(name for name in table if name != "Value")]]
    else:
        table = _summarised(cells)
    return {"columns": [str(name) for name in table], "rows": table.astype(str).to_numpy().tolist()}


def _summarised(cells: pd.DataFrame) -> pd.DataFrame:
    rows = summary([{str(key): value for key, value in row.items()} for row in cells.to_dict("records")])
    words = []
    for row in rows.to_dict("records"):
        backbone = row["backbone"] if isinstance(row["backbone"], str) else None
        words.append(
            {
                "Method": Contender(row["method"], backbone, row["score"]).title,
                "AUC": _figure(row["auc"], row["auc_sd"]),
                "AUC (paper)": _figure(row["auc_paper"]),
                "AP": _figure(row["ap"], row["ap_sd"]),
                "AP (paper)": _figure(row["ap_paper"]),
                "Seeds": str(row["seeds"]),
                "Seconds a run": f"{row['seconds']:.0f}",
            }
        )
    return pd.DataFrame(words)


def _figure(value: float | None, spread: float | None = None) -> str:
    if value is None or pd.isna(value):
        return "–"
    return f"{value:.1f}" if spread is None or pd.isna(spread) else f"{value:.1f} ± {spread:.1f}"
