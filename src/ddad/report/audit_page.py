"""One self-contained HTML file of an audit: what was found, with pairs of images to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ddad import __version__
from ddad.audit import DATE, Audit, Resplit, Shortcut
from ddad.audit.shortcuts import JOINT
from ddad.errors import ImageError
from ddad.files import new_file, write_atomically
from ddad.images import read_image
from ddad.progress import Progress, listener
from ddad.report.charts import histogram
from ddad.report.gallery import webp
from ddad.report.page import own_template
from ddad.report.source_image import visible_levels

_PAIRS = 6
_CHARTS = 6
_SIDE, _QUALITY = 192, 75
_CLASSES = {
    "normal": "normal",
    "unlabeled": "unknown",
    "abnormal": "abnormal",
    "test normal": "normal",
    "test abnormal": "abnormal",
}


@dataclass(frozen=True)
class Example:
    """Two images side by side, as base64 WebP, and what they have in common."""

    paths: tuple[str, str]
    parts: tuple[str, str]
    pictures: tuple[str, str]
    words: str


def write_audit_page(
    audit: Audit,
    file: Path,
    *,
    resplit: Resplit | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the page.

    Args:
        audit: what was found.
        file: HTML file to write.
        resplit: a split of its images without leaks, if there is to be one.
        overwrite: whether a file that is there may be replaced.
        progress: told of every example.

    Raises:
        OutputError: the file is there, or cannot be written.
    """
    new_file(file, "--out", overwrite=overwrite)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    examples, conflicts = _examples(audit, listener(progress))
    content = environment.from_string(own_template("audit.html.j2")).render(
        audit=audit,
        resplit=resplit,
        version=__version__,
        unreadable=[image for image in audit.skipped if not image.blank],
        blank=sum(image.blank for image in audit.skipped),
        examples=examples,
        conflicts=conflicts,
        charts=_charts(audit),
        css=Markup(own_template("report.css")),
    )
    write_atomically(file, content.encode(errors="backslashreplace"))


def _examples(audit: Audit, progress: Progress) -> tuple[list[tuple[str, int, list[Example]]], list[Example]]:
    """Return examples of near copies, with the parts that they are of and their number, and of contradicting labels."""
    parts = np.asarray(audit.parts, dtype=str)
    first, second = parts[audit.pairs.first], parts[audit.pairs.second]
    chosen = []
    for count in audit.copies:
        between = ((first == count.first) & (second == count.second)) | (
            (first == count.second) & (second == count.first)
        )
        if count.near:
            places = np.flatnonzero(between)
            chosen.append((f"{count.first} and {count.second}", len(places), _spread(audit, places)))
    conflicts = audit.conflicts[:_PAIRS].tolist()
    with progress.task("example pairs", sum(len(pairs) for *_, pairs in chosen) + len(conflicts)) as task:

        def drawn(pairs: list[int]) -> list[Example]:
            found = []
            for index in pairs:
                found.append(_example(audit, index))
                task.advance()
            return found

        return [(title, count, drawn(pairs)) for title, count, pairs in chosen], drawn(conflicts)


def _spread(audit: Audit, places: np.typing.NDArray[np.intp]) -> list[int]:
    """Choose pairs from the most alike, exact ones first, to the least, in even steps of the correlation."""
    order = places[np.lexsort((-audit.pairs.correlation[places], ~audit.pairs.exact[places]))]
    falling = np.minimum.accumulate(audit.pairs.correlation[order])
    steps = np.searchsorted(-falling, -np.linspace(falling[0], falling[-1], _PAIRS))
    ranks = np.linspace(0, len(order) - 1, _PAIRS).round().astype(int)  # where steps meet in one pair
    chosen = sorted(list(dict.fromkeys([0, len(order) - 1, *steps.tolist(), *ranks.tolist()]))[:_PAIRS])
    return [int(index) for index in order[chosen]]


def _example(audit: Audit, index: int) -> Example:
    one, other = int(audit.pairs.first[index]), int(audit.pairs.second[index])
    exact, correlation = audit.pairs.exact[index], audit.pairs.correlation[index]
    same = "the same file or pixels" if exact else f"correlation {correlation:.2f}"
    return Example(
        (audit.paths[one], audit.paths[other]),
        (audit.parts[one], audit.parts[other]),
        (_picture(audit.paths[one]), _picture(audit.paths[other])),
        same,
    )


def _picture(path: str) -> str:
    try:
        return webp(visible_levels(read_image(path)), _QUALITY, _SIDE)
    except ImageError:  # gone since the audit read it
        return ""


def _charts(audit: Audit) -> list[tuple[Shortcut, tuple[str, str], Markup]]:
    parts = np.asarray(audit.parts, dtype=str)
    charts = []
    for shortcut in audit.shortcuts:
        if not shortcut.strong or shortcut.feature in (JOINT, DATE) or audit.features[shortcut.feature].dtype == object:
            continue
        values = audit.features[shortcut.feature]
        if values.dtype.kind != "f":
            continue
        first, _, second = shortcut.comparison.partition(" against ")
        groups = {_CLASSES[part]: values[parts == part].dropna().tolist() for part in (first, second)}
        title = f"{shortcut.feature}, {shortcut.comparison}"
        drawn = histogram(groups, threshold=None, title=title, x_title=shortcut.feature)
        charts.append((shortcut, (_CLASSES[first], _CLASSES[second]), Markup(drawn)))
    return charts[:_CHARTS]
