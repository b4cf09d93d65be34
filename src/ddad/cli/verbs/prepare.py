"""`ddad prepare`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, print_json, warn
from ddad.wording import counted


def prepare(
    dataset: Annotated[str, typer.Argument(help="Which public data set: rsna, vindr-cxr, lag or brain-tumor.")],
    source: Annotated[Path, typer.Argument(help="Folder that its download was unpacked in.")],
    out: Annotated[Path, typer.Argument(help="Benchmark folder to write.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split, if the folder has no data.json.")] = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Turn a public download into a benchmark folder, with the authors' data.json or a split with Table 1's counts."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.experiments.preparation import download_named
    from ddad.experiments.preparation import prepare as prepare_folder

    benchmark, read = download_named(dataset)
    with terminal_progress() as progress:
        prepared = prepare_folder(
            read(source), source, out, benchmark, seed=seed, overwrite=overwrite, progress=progress
        )
    if as_json:
        boxes = {"boxes_left_out": len(prepared.boxes_left_out), "boxes_cut": len(prepared.boxes_cut)}
        print_json({"out": str(out), "authors_split": prepared.authors_split, **prepared.counts, **boxes})
    else:
        split = "the authors' data.json" if prepared.authors_split else f"a split drawn with seed {seed}"
        say(f"{out}: {split}; {', '.join(f'{key}: {count}' for key, count in prepared.counts.items())}.")
        if prepared.boxes_left_out:
            say(f"{counted(len(prepared.boxes_left_out), 'box was', 'boxes were')} left out.")
        if prepared.boxes_cut:
            say(f"{counted(len(prepared.boxes_cut), 'box was', 'boxes were')} cut at the edge of the image.")
        say(f"Next: ddad benchmark {benchmark.name} --data {shlex.quote(str(out))}")
    warn([*prepared.warnings, *prepared.boxes_left_out, *prepared.boxes_cut])
    exit_if_skipped([(str(skipped.path), skipped.reason) for skipped in prepared.skipped])
