"""Findings on disk: a table that grows while images are scored, and pictures on request."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ddad.cohorts import SkippedImage
from ddad.errors import CohortError
from ddad.files import whole_folder
from ddad.model import Finding, Model
from ddad.progress import Progress
from ddad.report.heatmaps import picture_name, write_pictures
from ddad.training.device import DeviceName, Precision

_FIRST_COLUMNS = ("path", "score", "p_value", "flagged")
_DIGITS = 8


@dataclass
class ScoringSummary:
    """What a scoring run did: how many images it scored, and which it had to skip."""

    scored: int = 0
    flagged: int = 0
    skipped: list[SkippedImage] = field(default_factory=list)
    doubtful: int = 0


def write_findings(
    model: Model,
    paths: Sequence[str | Path],
    out: Path,
    *,
    heatmaps: bool = False,
    overwrite: bool = False,
    device: DeviceName = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> ScoringSummary:
    """Score files and write `findings.csv`, `findings.parquet`, `skipped.csv` and, on request, pictures.

    Columns of the findings: path, score, p_value, flagged; then every score of the detector, the
    source's rows and columns, warnings, and the names of the pictures.

    Raises:
        OutputError: `out` exists and `overwrite` is False, or the disk is full.
        CohortError: no image could be scored; nothing is written then.
    """
    summary = ScoringSummary()
    with whole_folder(out, overwrite=overwrite) as folder:
        if heatmaps:
            (folder / "heatmaps").mkdir()
            (folder / "overlays").mkdir()
        table = folder / "findings.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            writer: csv.DictWriter[str] | None = None
            for number, finding in enumerate(
                model.score(
                    paths,
                    device=device,
                    precision=precision,
                    progress=progress,
                    on_skipped=summary.skipped.append,
                )
            ):
                row = _row(finding)
                if heatmaps:
                    row |= _pictures(model, finding, number, folder)
                if writer is None:
                    writer = csv.DictWriter(file, list(row))
                    writer.writeheader()
                writer.writerow(row)
                file.flush()
                summary.scored += 1
                summary.flagged += finding.flagged is True
                summary.doubtful += bool(finding.warnings)
        if not summary.scored:
            first = f" The first: {summary.skipped[0].path}: {summary.skipped[0].reason}" if summary.skipped else ""
            raise CohortError(f"score: none of the {len(summary.skipped)} files could be scored.{first}")
        pd.read_csv(table).to_parquet(folder / "findings.parquet", index=False)
        if summary.skipped:
            skipped = pd.DataFrame([(str(s.path), s.reason) for s in summary.skipped], columns=["path", "reason"])
            skipped.to_csv(folder / "skipped.csv", index=False)
    return summary


def _row(finding: Finding) -> dict[str, object]:
    rows, columns = finding.source_size
    first = (finding.path, round(finding.score, _DIGITS), finding.p_value, finding.flagged)
    return {
        **dict(zip(_FIRST_COLUMNS, first, strict=True)),
        **{name: round(value, _DIGITS) for name, value in finding.scores.items()},
        "rows": rows,
        "columns": columns,
        "warnings": "; ".join(finding.warnings),
    }


def _pictures(model: Model, finding: Finding, number: int, folder: Path) -> dict[str, object]:
    name = model.primary_score
    file = f"{picture_name(number, finding.path)}.png"
    heat, overlay = Path("heatmaps") / file, Path("overlays") / file
    write_pictures(finding, name, model.map_scale(name), folder / heat, folder / overlay)
    return {"heatmap": heat.as_posix(), "overlay": overlay.as_posix()}
