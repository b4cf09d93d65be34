"""Charts as SVG text. Colours are classes, so that the page's style sheet decides them for light, dark and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ddad.evaluation.curves import Curve

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 44
_BINS = 40


@dataclass(frozen=True)
class Frame:
    """The plot area: data limits, and where they lie in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """Return the horizontal place of a value of x."""
        return _LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (_WIDTH - _LEFT - _RIGHT)

    def up(self, value: float) -> float:
        """Return the vertical place of a value of y."""
        return _HEIGHT - _BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (_HEIGHT - _TOP - _BOTTOM)

    def points(self, x: Sequence[float], y: Sequence[float]) -> str:
        """Return places as SVG writes them."""
        return " ".join(f"{self.across(a):.1f},{self.up(b):.1f}" for a, b in zip(x, y, strict=True))


def histogram(
    groups: Mapping[str, Sequence[float]], *, threshold: float | None, title: str, x_title: str = "score"
) -> str:
    """Draw groups of scores as bars over one another, with a line that the page's slider moves.

    Args:
        groups: by class name (`normal`, `abnormal`, `unknown`) the scores.
        threshold: where the line stands at first; without one there is no line.
        title: what is drawn, for those who listen.
        x_title: below the horizontal axis.
    """
    everything = np.concatenate([np.asarray(values, float) for values in groups.values()])
    low, high = limits(everything if threshold is None else np.append(everything, threshold))
    edges = np.linspace(low, high, _BINS + 1)
    counts = {name: np.histogram(values, edges)[0] for name, values in groups.items()}
    frame = Frame((low, high), (0, max(1, *(int(count.max()) for count in counts.values())) * 1.05))
    bars = []
    for name, count in counts.items():
        for bin_, number in enumerate(count):
            if number:
                left, right, top = frame.across(edges[bin_]), frame.across(edges[bin_ + 1]), frame.up(int(number))
                tip = f"{edges[bin_]:.4g} to {edges[bin_ + 1]:.4g}: {number} {'images' if name == 'unknown' else name}"
                bars.append(
                    f'<rect class="bar {name}" x="{left:.1f}" y="{top:.1f}" width="{max(0.5, right - left - 0.6):.1f}" '
                    f'height="{frame.up(0) - top:.1f}"><title>{tip}</title></rect>'
                )
    line = ""
    if threshold is not None:
        at = frame.across(threshold)
        line = f'<line class="threshold" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{frame.up(0):.1f}"/>'
    ends = f'data-low="{low!r}" data-high="{high!r}" '
    ends += f'data-left="{frame.across(low):.1f}" data-right="{frame.across(high):.1f}"'
    return svg(title, axes(frame, escape(x_title), "images", whole_y=True) + "".join(bars) + line, ends)


def curve(drawn: Curve, *, x_title: str, y_title: str, chance: str, title: str, base_rate: float = 0.0) -> str:
    """Draw a curve in the unit square with its band and the line of chance.

    Args:
        drawn: from `roc_and_pr`.
        x_title: below the horizontal axis.
        y_title: beside the vertical axis.
        chance: `diagonal`, or `level` at `base_rate`.
        title: what is drawn, for those who listen.
        base_rate: share of abnormal images.
    """
    frame = Frame((0, 1), (0, 1))
    x = drawn.x.tolist()
    around = frame.points([*x, *x[::-1]], [*drawn.high.tolist(), *drawn.low.tolist()[::-1]])
    by_chance = frame.points([0, 1], [0, 1] if chance == "diagonal" else [base_rate, base_rate])
    body = (
        f'<polygon class="band" points="{around}"/><polyline class="chance" points="{by_chance}"/>'
        f'<polyline class="line" points="{frame.points(x, drawn.y.tolist())}"/>'
    )
    return svg(title, axes(frame, x_title, y_title) + body)


def training_curves(curves: Mapping[str, Sequence[float]], *, title: str) -> str:
    """Draw the mean loss of each epoch, one line a network of the same kind."""
    values = np.concatenate([np.asarray(losses, float) for losses in curves.values()])
    longest = max(len(losses) for losses in curves.values())
    frame = Frame((1, max(2, longest)), limits(values))
    lines = []
    for name, losses in curves.items():
        epochs = list(range(1, len(losses) + 1))
        if len(losses) == 1:
            lines.append(
                f'<circle class="dot" cx="{frame.across(1):.1f}" cy="{frame.up(losses[0]):.1f}" r="3">'
                f"<title>{escape(name)}: {losses[0]:.4g}</title></circle>"
            )
        else:
            tip = f"{escape(name)}: {losses[0]:.4g} at first, {losses[-1]:.4g} at last"
            points = frame.points(epochs, list(losses))
            lines.append(f'<polyline class="line thin" points="{points}"><title>{tip}</title></polyline>')
    return svg(title, axes(frame, "epoch", "mean loss", whole_x=True) + "".join(lines))


def limits(values: np.typing.NDArray[np.float64]) -> tuple[float, float]:
    """Return the least and the largest of the finite values, apart even if there is only one."""
    usable = values[np.isfinite(values)]
    low, high = (float(usable.min()), float(usable.max())) if usable.size else (0.0, 1.0)
    if high <= low:
        return low - 0.5, low + 0.5
    return low, high


def axes(
    frame: Frame,
    x_title: str,
    y_title: str,
    *,
    whole_x: bool = False,
    whole_y: bool = False,
    x_labels: Mapping[float, str] | None = None,
) -> str:
    """Return grid, ticks and titles of both axes.

    Args:
        frame: the plot area.
        x_title: below the horizontal axis; escaped.
        y_title: beside the vertical axis; escaped.
        whole_x: whether only whole numbers have ticks on the horizontal axis.
        whole_y: the same of the vertical one.
        x_labels: what stands at which places of the horizontal axis, instead of round numbers.
    """
    parts = []
    for value, label in (x_labels or {tick: f"{tick:g}" for tick in _ticks(*frame.x, whole=whole_x)}).items():
        at = frame.across(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{label}</text>')
    for value in _ticks(*frame.y, whole=whole_y):
        at = frame.up(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{x_title}</text>')
    parts.append(f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{y_title}</text>')
    return "".join(parts)


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough)))
    step = max(1.0, round(step)) if whole else step
    first = np.ceil(low / step - 1e-9)
    count = int(np.floor(high / step + 1e-9) - first) + 1
    return [float(f"{(first + number) * step:.6g}") + 0.0 for number in range(count)]


def svg(title: str, body: str, data: str = "") -> str:
    """Return a chart with its title for those who listen."""
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}" {data}>{body}</svg>'
