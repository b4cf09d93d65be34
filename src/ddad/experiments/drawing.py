"""What all figures have in common: colours that colour-blind readers can tell apart, print sizes, file formats."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ddad.files import write_atomically

FORMATS = ("pdf", "svg", "png")
BLUE, ORANGE = "#0072B2", "#D55E00"
COLOURS = (ORANGE, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Those of Okabe and Ito (2008)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "-", "--", "--", ":", "-.", "-", ":")
HEAT_COLOURS = "inferno"
"""Of score maps, from the lower end of their scale to the upper one."""
STRONGEST_OVERLAY = 0.65
"""Opacity of a score map over its image where it is at the upper end of its scale."""
COLUMN_INCHES, PAGE_INCHES = 3.5, 7.2
"""Widths of one column and of a whole page in print."""

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "ddad",  # the same figure gives the same file
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the project's style within the block, whatever the caller's settings are."""
    with mpl.rc_context(_STYLE):
        yield


def relative_to_scale(score_map: NDArray[np.float32], scale: tuple[float, float]) -> NDArray[np.float32]:
    """Return a map in [0, 1], 0 at the lower end of the scale and 1 at the upper end and beyond."""
    low, high = scale
    relative: NDArray[np.float32] = np.clip((score_map - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    return relative


def save(figure: Figure, out: Path, stem: str) -> list[Path]:
    """Write a figure as PDF, SVG and PNG (300 dots an inch), and return the files.

    Raises:
        OutputError: the folder may not be written to.
    """
    FigureCanvasAgg(figure)
    paths = []
    for suffix in FORMATS:
        content = io.BytesIO()
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix)
        figure.savefig(content, format=suffix, dpi=300, metadata=metadata)
        paths.append(out / f"{stem}.{suffix}")
        write_atomically(paths[-1], content.getvalue())
    return paths
