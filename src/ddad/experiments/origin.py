"""Where tables of stored runs come from, as lines under them."""

from __future__ import annotations

from typing import Any


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
