"""`ddad evaluate`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, print_evaluation, say_blank


def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a fitted model.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the metrics and single scores.")] = None,
    test_normal: options.TestNormal = None,
    test_abnormal: options.TestAbnormal = None,
    test_masks: options.TestMasks = None,
    manifest: options.Manifest = None,
    data: options.Data = None,
    split: options.Split = options.DEFAULT_SPLIT,
    slices: options.Slices = "all",
    volume: options.Volume = 1,
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Measure a model on labelled test images: AUC and AP with intervals, pixel metrics where masks exist."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.experiments.evaluation import evaluate as evaluate_model
    from ddad.experiments.evaluation import write_evaluation
    from ddad.files import output_folder, spare
    from ddad.model import Model

    if out is not None:
        folders = [*(test_normal or []), *(test_abnormal or []), *([test_masks] if test_masks else [])]
        output_folder(out, overwrite=overwrite, apart_from=[model, *folders])
    with terminal_progress() as progress:
        cohort = options.build_cohort(
            test_normal=test_normal,
            test_abnormal=test_abnormal,
            test_masks=test_masks,
            manifest=manifest,
            data=data,
            split=split,
            slices=slices,
            volume=volume,
            progress=progress,
        )
        spare(cohort.folders(), [out])
        fitted = Model.load(model)
        evaluation = evaluate_model(fitted, cohort, device=device, precision=precision, progress=progress)
    if out is not None:
        write_evaluation(evaluation, out, model_name=model.resolve().name, overwrite=overwrite)
    print_evaluation(evaluation, as_json)
    if out is not None:
        say(f"Written to {out}. Next: ddad report {shlex.quote(str(out))}")
    metrics = evaluation.to_json()
    say_blank(len(metrics["blank"]))
    exit_if_skipped(metrics["skipped"])
