"""`ddad sweep`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, print_json, warn
from ddad.errors import SettingError


def sweep(
    kind: Annotated[
        Literal["anomaly-rate", "members", "normals", "latent-size"], typer.Argument(help="What is varied.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Benchmark folder: images/ and data.json.")],
    dataset: Annotated[
        str,
        typer.Option("--dataset", help="custom, or a benchmark of the paper: its anomaly rate and size of D_u."),
    ] = "custom",
    split: options.Split = options.DEFAULT_SPLIT,
    anomaly_rate: options.AnomalyRate = None,
    unseen: options.Unseen = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--value", help="Take these values instead of the usual ones; with commas, or repeated."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            help="Detectors, with commas or repeated. Default: ddad; over anomaly rates and normals "
            "normal-vs-unlabeled too.",
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
        Path | None, typer.Option("--out", help="Folder for table, plot and runs. Default: sweep-KIND.")
    ] = None,
    jobs: options.Jobs = 1,
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Vary one thing and plot the AUC over it: the anomaly rate (Fig. 5), K, normal images, or the code's length."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.experiments.grid import UnfinishedGridError, run_grid
    from ddad.experiments.run import cells_of
    from ddad.experiments.setting import Setting
    from ddad.experiments.sweep import sweep_runs
    from ddad.experiments.sweep_results import write_sweep
    from ddad.files import check_results_apart

    varied = {"anomaly-rate": anomaly_rate, "members": members}.get(kind)
    if varied is not None:
        raise SettingError(f"--{kind} {varied}: sweep {kind} varies it. Choose its values with --value.")
    base = options.build_recipe(
        recipe,
        settings,
        image_size=image_size,
        members=members,
        seed=seed,
        precision=precision,
        preset_changes={"holdout": 0.0},
    )
    own_backbones = options.each_of("--backbones", backbones) or ["ae-u"]
    planned = sweep_runs(
        kind,
        Setting(dataset, str(data), split, anomaly_rate, unseen=unseen),
        base,
        values=_numbers(values),
        methods=options.each_of("--methods", methods),
        backbones=own_backbones,
        seeds=seeds,
    )
    folder = out or Path(f"sweep-{kind}")
    check_results_apart(folder, data)
    warn(options.unread_backbones(backbones, (run.recipe.detector for _, run in planned)))
    swept = [value for value, _ in planned]
    command = shlex.join(["ddad", *sys.argv[1:]])

    def write_finished(records: list[dict[str, Any] | None], *, brief: bool = True) -> int:
        finished = [(value, record) for value, record in zip(swept, records, strict=True) if record is not None]
        if finished:
            own, there = zip(*finished, strict=True)
            write_sweep(kind, own, there, command, folder, planned=len(planned), backbones=own_backbones, brief=brief)
        return len(finished)

    try:
        with terminal_progress() as progress:
            records = run_grid(
                [run for _, run in planned],
                folder,
                jobs=jobs,
                device=device,
                workers=workers,
                progress=progress,
                on_finished=write_finished,
            )
    except UnfinishedGridError as unfinished:
        if finished := write_finished(unfinished.records, brief=False):
            say(f"{folder / 'sweep.md'}: the {finished} of {len(planned)} runs that are finished.")
        raise
    table = write_sweep(kind, swept, records, command, folder)
    if as_json:
        found = zip(swept, records, strict=True)
        print_json({"cells": [{"value": value, **cell} for value, record in found for cell in cells_of([record])]})
    else:
        typer.echo(table)
        say(f"Written to {folder}: sweep.md, sweep.csv, and the plot as sweep.pdf, .svg and .png.")
    warn(list(dict.fromkeys(warning for record in records for warning in record["warnings"])))
    exit_if_skipped(list(dict.fromkeys(tuple(pair) for record in records for pair in record["skipped"])))


def _numbers(option: list[str] | None) -> list[float]:
    numbers = []
    for value in options.each_of("--value", option):
        try:
            numbers.append(float(value))
        except ValueError:
            raise SettingError(f"--value {value}: give a number.") from None
    return numbers
