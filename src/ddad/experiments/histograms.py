"""Histograms of scores of normal and abnormal test images, with their χ² distance (Fig. 6)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ddad.errors import OutputError
from ddad.experiments import drawing
from ddad.experiments.comparisons import Contender
from ddad.experiments.published import METHOD_TITLES, SCORE_TITLES
from ddad.experiments.run import read_run, told_apart

BINS = 40
_LIMITS = (0.5, 99.5)
_COLUMNS = 3


class Histogram(NamedTuple):
    """Shares of images in `BINS` equal bins over [0, 1]; both sum up to 1.

    Attributes:
        normal: (BINS,).
        abnormal: (BINS,).
    """

    normal: NDArray[np.float64]
    abnormal: NDArray[np.float64]

    @property
    def chi_square(self) -> float:
        """χ² distance ½ Σ (p - q)² / (p + q): 0 for the same histogram, 1 if no bin has images of both."""
        total = self.normal + self.abnormal
        there = total > 0
        return float(0.5 * np.sum((self.normal - self.abnormal)[there] ** 2 / total[there]))


def histogram(labels: ArrayLike, scores: ArrayLike) -> Histogram:
    """Count scores that are normalised to [0, 1]: 0 and 1 are the 0.5th and the 99.5th percentile of all images.

    What lies beyond counts in the first and the last bin, so that one extreme image does not press all others together.

    Args:
        labels: (N,), 0 for a normal image, 1 for an abnormal one.
        scores: (N,).
    """
    abnormal = np.asarray(labels).astype(bool)
    values = np.asarray(scores, dtype=float)
    low, high = np.percentile(values, _LIMITS)
    relative = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    counts = [np.histogram(relative[side], BINS, (0, 1))[0] for side in (~abnormal, abnormal)]
    return Histogram(*(one / max(one.sum(), 1) for one in counts))


def draw_histograms(panels: dict[str, Histogram]) -> Figure:
    """Draw a panel for each score, all on the same scales.

    Args:
        panels: by title.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(drawing.PAGE_INCHES * columns / _COLUMNS, 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    edges = np.linspace(0, 1, BINS + 1)
    for axes, (title, shown) in zip(grid.flat, panels.items(), strict=False):
        for name, shares, colour in (
            ("normal", shown.normal, drawing.BLUE),
            ("abnormal", shown.abnormal, drawing.ORANGE),
        ):
            axes.stairs(100 * shares, edges, fill=True, color=colour, alpha=0.35, lw=0)
            axes.stairs(100 * shares, edges, color=colour, lw=1, ls="-" if name == "normal" else "--", label=name)
        axes.set_title(f"{title}\nχ² = {shown.chi_square:.2f}")
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    for number, axes in enumerate(grid.flat):
        if number + columns >= len(panels):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("score, normalised")
    for axes in grid[:, 0]:
        axes.set_ylabel("share of images (%)")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return figure


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """Name folders by themselves, or where some share a name by their parents too, as far up as they differ."""
    parts = [folder.resolve().parts[1:] for folder in folders]
    names = [""] * len(folders)
    for depth in range(1, 1 + max(map(len, parts), default=0)):
        names = ["-".join(own[-depth:]) for own in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def write_histograms(results: Path, out: Path, name: str | None = None) -> list[Path]:
    """Draw the stored runs of a benchmark: a figure for each backbone of DDAD, one for all rivals; the first seed each.

    Args:
        results: folder that `ddad benchmark` wrote.
        out: folder for the figures.
        name: of the results in the files' names; by default the folder's own.

    Raises:
        OutputError: the folder holds no stored run, or a damaged one.
    """
    files = sorted((results / "runs").glob("*.json"))
    if not files:
        raise OutputError(f"{results}: holds no stored run (runs/*.json). Give the --out folder of ddad benchmark.")
    records = [read_run(file) for file in files]
    stem = f"histograms-{name or results.resolve().name}"
    written = []
    for own_stem, own in _by_setting(records, stem).items():
        for group, panels in _groups(own).items():
            with drawing.style():
                written += drawing.save(draw_histograms(panels), out, f"{own_stem}-{group}")
    return written


def _by_setting(records: list[dict[str, Any]], stem: str) -> dict[str, list[dict[str, Any]]]:
    """Divide runs by what makes them unlike others of their method, and by their images; by name of the file."""
    told: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record, apart in zip(records, told_apart(records), strict=True):
        words = re.sub(r"[^\w.+]+", "-", "".join(f"-{name}-{word}" for name, word in apart.items())).rstrip("-")
        told[words][record["cells"][0]["split"], record["cohort"]].append(record)
    return {
        # Images that no word tells apart (splits, cohorts) are numbered.
        f"{stem}{words}{f'-{number}' if len(images) > 1 else ''}": own
        for words, images in told.items()
        for number, own in enumerate(images.values(), start=1)
    }


def _groups(records: list[dict[str, Any]]) -> dict[str, dict[str, Histogram]]:
    """Collect the panels of each figure from the first seed of each method and backbone."""
    first: dict[tuple[str, str | None], dict[str, Any]] = {}
    for record in sorted(records, key=lambda one: one["cells"][0]["seed"]):
        cell = record["cells"][0]
        first.setdefault((cell["method"], cell["backbone"]), record)
    groups: dict[str, dict[str, Histogram]] = defaultdict(dict)
    for method in METHOD_TITLES:
        for (own_method, backbone), record in first.items():
            if own_method != method:
                continue
            group = str(backbone) if method == "ddad" else "rivals"
            for score in (*SCORE_TITLES, "image"):
                if score in record["scores"] and score != "rec_ensemble":
                    title = Contender(method, backbone, score).title
                    groups[group][title] = histogram(record["labels"], record["scores"][score])
    return groups
