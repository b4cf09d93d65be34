"""`ddad audit`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import EXIT_FOUND, EXIT_SKIPPED, print_audit, print_json, say_skipped, warn


class FailOn(StrEnum):
    """What `--fail-on` takes."""

    COPIES = "copies"
    SHORTCUTS = "shortcuts"


def audit(
    normal: options.Normal = None,
    unlabeled: options.Unlabeled = None,
    abnormal: options.Abnormal = None,
    test_normal: options.TestNormal = None,
    test_abnormal: options.TestAbnormal = None,
    manifest: options.Manifest = None,
    data: options.Data = None,
    split: options.Split = options.DEFAULT_SPLIT,
    anomaly_rate: options.AnomalyRate = None,
    slices: options.Slices = "all",
    volume: options.Volume = 1,
    out: Annotated[Path | None, typer.Option("--out", help="HTML file to write, with example pairs.")] = None,
    write_split: Annotated[
        Path | None,
        typer.Option("--write-split", help="JSON file to write: a split of the same images without leaks."),
    ] = None,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option("--fail-on", help="End with exit code 4 if these are found. Repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads that decode; default: one a processor core.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files at --out and --write-split that are there.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Find what would fool a detector: copies across roles, and shortcuts. Takes the same images as fit."""
    from ddad.audit import audit_cohort, leak_free_split, source_lists
    from ddad.cli.terminal import say, terminal_progress
    from ddad.files import new_file
    from ddad.report.audit_page import write_audit_page

    with terminal_progress() as progress:
        cohort = options.build_cohort(
            normal=normal,
            unlabeled=unlabeled,
            abnormal=abnormal,
            test_normal=test_normal,
            test_abnormal=test_abnormal,
            manifest=manifest,
            data=data,
            split=split,
            anomaly_rate=anomaly_rate,
            slices=slices,
            volume=volume,
            allow_torn=True,
            progress=progress,
        )
        for file, option in ((out, "--out"), (write_split, "--write-split")):
            if file is not None:
                new_file(file, option, overwrite=overwrite)
        found = audit_cohort(cohort, workers=workers, progress=progress)
        dealt = None
        if write_split is not None:
            images = None if data is None else data / "images"
            dealt = leak_free_split(found, source_lists(found, data, split), images)
        if out is not None:
            write_audit_page(found, out, resplit=dealt, overwrite=overwrite, progress=progress)
    content = found.to_json()
    if not as_json:
        print_audit(found)
    if out is not None:
        say(f"{out}: open it in a browser. It holds pictures and paths of the images: pass it on with the same care.")
    warn(found.notes)
    skipped = [(str(image.path), image.reason) for image in found.skipped if not image.blank]
    say_skipped(skipped)
    if write_split and dealt:
        dealt.write(write_split)
        after = {key: len(names) for key, names in dealt.lists.items()}
        say(f"{write_split}: {', '.join(f'{key} {after[key]} (was {dealt.before[key]})' for key in after)}")
        if dealt.note:
            say(f"{write_split}: {dealt.note}.")
        content["split"] = {
            "file": str(write_split),
            "before": dealt.before,
            "after": after,
            "contradicted": dealt.contradicted,
        }
    if as_json:
        print_json(content)
    met = {"copies": found.leaks, "shortcuts": found.has_shortcuts}
    failed = [name for name in fail_on or [] if met[name]]
    if failed:
        say(f"found: {', '.join(failed)}", style="red")
        raise typer.Exit(EXIT_FOUND)
    if skipped:
        raise typer.Exit(EXIT_SKIPPED)
