"""The plot of a sweep (Fig. 5) for the page: its colours follow the style sheet, as those of every chart there."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd
from markupsafe import Markup

from ddad.experiments.drawing import COLOURS
from ddad.experiments.sweep import SWEEPS, Kind
from ddad.report.charts import Frame, axes, limits, svg
from ddad.wording import percent

_MARKS = (
    "M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0z",  # in the order of `drawing.MARKERS`
    "M-.9,-.9H.9V.9H-.9z",
    "M0,-1.1L1.1,.9H-1.1z",
    "M0,-1.2L1.2,0L0,1.2L-1.2,0z",
    "M0,1.1L1.1,-.9H-1.1z",
    "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4z",
    "M-1,-.5L-.5,-1L0,-.5L.5,-1L1,-.5L.5,0L1,.5L.5,1L0,.5L-.5,1L-1,.5L-.5,0z",
    "M0,-1.3L.35,-.45L1.25,-.4L.55,.15L.8,1.05L0,.55L-.8,1.05L-.55,.15L-1.25,-.4L-.35,-.45z",
)


def sweep_chart(curves: pd.DataFrame, kind: Kind) -> tuple[Markup, list[tuple[str, Markup]]]:
    """Draw the mean AUC of each method over the swept values, with a band of one standard deviation over seeds.

    Args:
        curves: from `curves_of`.
        kind: what was varied.

    Returns:
        The chart, and of each curve its name and a piece of it for the legend.
    """
    sweep, in_percent = SWEEPS[kind], kind == "anomaly-rate"
    curves = curves.dropna(subset="auc")  # a score that is constant has none
    places = curves["value"] * (100 if in_percent else 1)
    at = np.log10(places) if sweep.scale == "log" else places
    spread = pd.to_numeric(curves["auc_sd"]).fillna(0.0)
    curves = curves.assign(at=at, low=(curves["auc"] - spread).clip(0), high=(curves["auc"] + spread).clip(upper=100))
    low, high = limits(curves[["low", "high"]].to_numpy(float))
    margin = 0.04 * (high - low)
    frame = Frame(_widened(limits(at.to_numpy(float))), (low - margin, high + margin))
    names = list(dict.fromkeys(curves["name"]))
    bands, lines = "", ""
    for number, name in enumerate(names):
        curve = curves[curves["name"] == name].sort_values("at")
        x = curve["at"].tolist()
        look = f'class="series series-{number % len(COLOURS)}"'
        around = frame.points([*x, *x[::-1]], [*curve["low"], *curve["high"].tolist()[::-1]])
        if (curve["high"] > curve["low"]).any():
            bands += f'<g {look}><polygon class="spread" points="{around}"/></g>'
        lines += f'<g {look}><polyline points="{frame.points(x, curve["auc"].tolist())}"/>'
        for place, value, auc, sd in curve[["at", "value", "auc", "auc_sd"]].itertuples(index=False):
            where = percent(value, digits=6) if in_percent else f"{value:g}"
            tip = f"{name} at {where}: {auc:.1f}{'' if pd.isna(sd) else f' ± {sd:.1f}'}"
            lines += _mark(number, frame.across(place), frame.up(auc), tip)
        lines += "</g>"
    title = f"{sweep.title}{' (%)' if in_percent else ''}"
    labels = {float(place): f"{value:g}" for place, value in sorted(set(zip(at, places, strict=True)))}
    chart = svg(f"AUC over {sweep.title}", axes(frame, escape(title), "AUC (%)", x_labels=labels) + bands + lines)
    return Markup(chart), [(name, _key(number)) for number, name in enumerate(names)]


def _widened(ends: tuple[float, float]) -> tuple[float, float]:
    """Leave room for the marks at both ends."""
    margin = 0.03 * (ends[1] - ends[0])
    return ends[0] - margin, ends[1] + margin


def _mark(number: int, across: float, up: float, tip: str = "") -> str:
    # Curves that coincide stay visible: later ones have smaller marks, and the style sheet makes those hollow.
    place = f"translate({across:.1f} {up:.1f}) scale({max(3.0, 5.5 - 0.5 * number):g})"
    said = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<path transform="{place}" d="{_MARKS[number % len(_MARKS)]}">{said}</path>'


def _key(number: int) -> Markup:
    look = f"series series-{number % len(COLOURS)}"
    return Markup(
        f'<svg viewBox="0 0 36 12" aria-hidden="true" class="{look}"><polyline points="0,6 36,6"/>'
        f"{_mark(number, 18, 6)}</svg>"
    )
