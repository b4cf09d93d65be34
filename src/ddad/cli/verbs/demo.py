"""`ddad demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import print_evaluation


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the demo's data and results.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Of the phantoms and the fit.")] = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make phantom images, fit, score, evaluate and report: the whole way in under three minutes."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.demo import run_demo

    with terminal_progress() as progress:
        evaluation = run_demo(out, seed=seed, device=device, overwrite=overwrite, progress=progress)
    print_evaluation(evaluation, as_json)
    say(
        f"\nLook at:\n  {out / 'scores' / 'overlays'}  heat maps over the images\n"
        f"  {out / 'scores' / 'findings.csv'}  a score for every image\n"
        f"  {out / 'results.md'}  the table above\n  {out / 'model'}  the fitted model\n"
        f"Open in a browser:\n  {out / 'report.html'}"
    )
