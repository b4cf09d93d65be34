"""Where tables of stored runs come from, as lines above and under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddad.cohorts.rows import listed


def so_far(done: int, planned: int | None, brief: bool) -> str:
    """Say in a paragraph how many of the planned runs a table holds; nothing if it holds all."""
    if planned is None or done == planned:
        return ""
    later = " Intervals over all runs, and tests, are computed when all are." if brief else ""
    return f"\n**{done} of {planned} runs are done.**{later}\n"


def skipped_files(records: Sequence[dict[str, Any]]) -> str:
    """Name in a line of Markdown the first files that the runs could not use; nothing without any."""
    files = list(dict.fromkeys(path for record in records for path, _ in record.get("skipped", ())))
    return f"- skipped, because they cannot be used: {len(files)} files: {listed(files)}\n" if files else ""


def computed_by(record: dict[str, Any]) -> str:
    """Say in two lines of Markdown what a run was computed on, and with which versions."""
    compute = record["compute"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    jobs = compute.get("jobs", 1)  # records of earlier versions do not have it
    beside = f", {jobs} runs at once" if jobs > 1 else ""
    return (
        f"- computed on {compute['device']} in {compute['precision']}, {compute['workers']} networks side by side"
        f"{beside}\n- versions: {versions}\n"
    )
