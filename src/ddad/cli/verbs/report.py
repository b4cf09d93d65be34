"""`ddad report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import print_json


def report(
    results: Annotated[
        Path, typer.Argument(help="The --out folder of score, evaluate, benchmark, sweep, demo or fit.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write. Default: report.html in the folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is no report of ddad.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make one self-contained HTML page of results or of a model: tables, charts, and a gallery of findings."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.report.page import write_report

    with terminal_progress() as progress:
        file = write_report(results, out, overwrite=overwrite, progress=progress)
    if as_json:
        print_json({"report": str(file), "bytes": file.stat().st_size})
    else:
        size = file.stat().st_size / 2**20
        say(
            f"{file} ({size:.1f} MiB): open it in a browser. "
            "It may hold pictures and paths of images: pass it on with the same care."
        )
