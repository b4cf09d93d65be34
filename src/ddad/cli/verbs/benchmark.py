"""`ddad benchmark`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, print_json, warn


def benchmark(
    dataset: Annotated[
        str, typer.Argument(help="brain-tumor, rsna, vindr-cxr, cxad, lag, or custom for any other folder.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Benchmark folder: images/ and data.json.")],
    split: options.Split = options.DEFAULT_SPLIT,
    anomaly_rate: options.PublishedAnomalyRate = None,
    unseen: options.Unseen = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            help="ddad, ddad+, ae, memae, ganomaly, cutpaste, draem, f-anogan, igd, ae-u, vae, fpi, pii, "
            "normal-vs-unlabeled, or all; several with commas, or repeated. Default: ddad.",
        ),
    ] = None,
    backbones: options.BackboneNames = None,
    recipe: options.RecipeName = "fast",
    settings: options.Settings = None,
    image_size: options.ImageSize = None,
    members: options.Members = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Fits with different seeds.")] = 3,
    seed: options.Seed = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the tables; finished runs in it are not repeated.")
    ] = Path("benchmark"),
    jobs: options.Jobs = 1,
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Fit and evaluate on a benchmark folder; print Tables 2 and 3 with the paper's figures beside ours."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.experiments.benchmark import benchmark_recipes, write_results
    from ddad.experiments.grid import Run, UnfinishedGridError, run_grid
    from ddad.experiments.published import benchmark_named
    from ddad.experiments.run import cells_of
    from ddad.experiments.setting import Setting
    from ddad.files import check_results_apart

    base = options.build_recipe(
        recipe,
        settings,
        image_size=image_size,
        members=members,
        seed=seed,
        precision=precision,
        # As in the paper, every normal image trains: the test set is what nobody has seen.
        preset_changes={"holdout": 0.0},
    )
    recipes = benchmark_recipes(
        base,
        options.each_of("--methods", methods) or ["ddad"],
        options.each_of("--backbones", backbones) or ["ae-u"],
        seeds,
    )
    check_results_apart(out, data)
    warn(options.unread_backbones(backbones, (each.detector for each in recipes)))
    setting = Setting(dataset, str(data), split, anomaly_rate, unseen=unseen)
    known, command = benchmark_named(dataset), shlex.join(["ddad", *sys.argv[1:]])

    def write_finished(records: list[dict[str, Any] | None], *, brief: bool = True) -> int:
        if finished := [record for record in records if record is not None]:
            write_results(finished, known, command, out, planned=len(recipes), brief=brief)
        return len(finished)

    try:
        with terminal_progress() as progress:
            records = run_grid(
                [Run(setting, each) for each in recipes],
                out,
                jobs=jobs,
                device=device,
                workers=workers,
                progress=progress,
                on_finished=write_finished,
            )
    except UnfinishedGridError as unfinished:
        if finished := write_finished(unfinished.records, brief=False):
            say(f"{out / 'results.md'}: tables of the {finished} of {len(recipes)} runs that are finished.")
        raise
    tables = write_results(records, known, command, out)
    if as_json:
        print_json({"cells": cells_of(records)})
    else:
        typer.echo(tables)
        say(f"Written to {out / 'results.md'} and {out / 'results.csv'}; single runs in {out / 'runs'}.")
    warn(list(dict.fromkeys(warning for record in records for warning in record["warnings"])))
    exit_if_skipped(list(dict.fromkeys(tuple(pair) for record in records for pair in record["skipped"])))
