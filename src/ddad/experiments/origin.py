"""Where tables of stored runs come from, as lines above and under them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ddad.cohorts.rows import listed
from ddad.wording import counted

_WARNINGS = 5


def so_far(done: int, planned: int | None, brief: bool) -> str:
    """Say in a paragraph how many of the planned runs a table holds; nothing if it holds all."""
    if planned is None or done == planned:
        return ""
    later = " Intervals over all runs, and tests, are computed when all are." if brief else ""
    return f"\n**{done} of {planned} runs are done.**{later}\n"


def skipped_files(records: Sequence[dict[str, Any]]) -> str:
    """Name in a line of Markdown the first files that the runs could not use; nothing without any."""
    files = list(dict.fromkeys(path for record in records for path, _ in record.get("skipped", ())))
    return f"- skipped: {counted(len(files), 'file')} that cannot be used: {listed(files)}\n" if files else ""


def noted(records: Sequence[dict[str, Any]]) -> str:
    """Say in lines of Markdown the first warnings of the runs, with how many of them have each; nothing without any."""
    found = Counter(warning for record in records for warning in dict.fromkeys(record.get("warnings", ())))
    lines = [
        f"- warning{f' of {count} of the runs' if count < len(records) else ''}: {warning}\n"
        for warning, count in found.most_common(_WARNINGS)
    ]
    more = len(found) - len(lines)
    return "".join(lines) + (f"- and {counted(more, 'more warning')}, in `runs/`\n" if more else "")


def computed_by(records: Sequence[dict[str, Any]]) -> str:
    """Say in lines of Markdown what the runs were computed on, and with which versions."""
    ways = Counter((_computed_on(record), _versions(record)) for record in records)
    if len(ways) == 1:
        return "".join(f"- {line}\n" for way in ways for line in way)
    return "".join(f"- {count} of the runs {'; '.join(way)}\n" for way, count in ways.most_common())


def _computed_on(record: dict[str, Any]) -> str:
    compute = record["compute"]
    workers, jobs = compute["workers"], compute.get("jobs", 1)  # records of earlier versions do not have all
    beside = f", {counted(workers, 'network')} side by side"
    if compute["device"] == "cuda":  # there, networks of an ensemble learn together
        beside = f" on {compute['gpu']}" if "gpu" in compute else ""
    at_once = f", {jobs} runs at once" if jobs > 1 else ""
    return f"computed on {compute['device']} in {compute['precision']}{beside}{at_once}"


def _versions(record: dict[str, Any]) -> str:
    return f"versions: {', '.join(f'{name} {version}' for name, version in record['versions'].items())}"
