"""The verbs of the command line."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddad.cli import options

if TYPE_CHECKING:
    from ddad.experiments.evaluation import Evaluation

EXIT_SKIPPED = 3
"""Exit code of a run that finished, but had to skip some files."""

app = typer.Typer(
    name="ddad",
    help="Anomaly detection in medical images without annotated abnormalities. Not a medical device.",
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 done but some files were skipped, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from ddad import __version__

        typer.echo(f"ddad {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the demo's data and results.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Of the phantoms and the fit.")] = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make phantom images, fit, score and evaluate: the whole way in under three minutes."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.demo import run_demo

    with terminal_progress() as progress:
        evaluation = run_demo(out, seed=seed, device=device, overwrite=overwrite, progress=progress)
    _print_evaluation(evaluation, as_json)
    say(
        f"\nLook at:\n  {out / 'scores' / 'overlays'}  heat maps over the images\n"
        f"  {out / 'scores' / 'findings.csv'}  a score for every image\n"
        f"  {out / 'results.md'}  the table above\n  {out / 'model'}  the fitted model"
    )


@app.command()
def fit(
    out: Annotated[Path, typer.Option("--out", help="Folder to save the model in.")],
    normal: options.Normal = None,
    unlabeled: options.Unlabeled = None,
    test_normal: options.TestNormal = None,
    test_abnormal: options.TestAbnormal = None,
    manifest: options.Manifest = None,
    data: options.Data = None,
    split: options.Split = "data.json",
    anomaly_rate: options.AnomalyRate = None,
    recipe: options.RecipeName = "fast",
    settings: options.Settings = None,
    detector: options.DetectorOption = None,
    backbone: options.BackboneName = None,
    image_size: options.ImageSize = None,
    members: options.Members = None,
    seed: options.Seed = None,
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Fit a model on normal images and, if there are any, unlabeled ones.

    Test images may be named too: they are not looked at, only checked not to be among the others.

    A fit that was killed goes on where it was when the same command is run again.
    """
    from ddad.cli.terminal import say, terminal_progress
    from ddad.fitting import fit as fit_model

    chosen = options.build_recipe(
        recipe,
        settings,
        detector=detector,
        backbone=backbone,
        image_size=image_size,
        members=members,
        seed=seed,
        precision=precision,
    )
    cohort = options.build_cohort(
        normal=normal,
        unlabeled=unlabeled,
        test_normal=test_normal,
        test_abnormal=test_abnormal,
        manifest=manifest,
        data=data,
        split=split,
        anomaly_rate=anomaly_rate,
    )
    with terminal_progress() as progress:
        model = fit_model(
            cohort, chosen, out=out, overwrite=overwrite, device=device, workers=workers, progress=progress
        )
    card = model.card
    if as_json:
        _print_json({"model": str(out), **{key: value for key, value in card.items() if key != "training_curves"}})
    else:
        seen = card["cohort"]
        say(
            f"{out}: fitted on {seen['normal']} normal and {seen['unlabeled']} unlabeled images in "
            f"{card['seconds']:.0f} s; {seen['held_out_normal']} normals were held out. "
            f"Main score: {card['primary_score']}."
        )
        say(f"Next: ddad score {out} IMAGES --out SCORES --heatmaps")
    _warn(card["cohort"]["warnings"])
    _exit_if_skipped(card["cohort"]["skipped"])


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="Folder of a fitted model.")],
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the findings.")],
    heatmaps: Annotated[
        bool, typer.Option("--heatmaps", help="Write heat maps and overlays as PNG, on one scale for all.")
    ] = False,
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Score images: findings.csv and findings.parquet, with heat maps on request."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.model import Model
    from ddad.report.findings import write_findings

    fitted = Model.load(model)
    with terminal_progress() as progress:
        summary = write_findings(
            fitted,
            paths,
            out,
            heatmaps=heatmaps,
            overwrite=overwrite,
            device=device,
            precision=precision or "auto",
            progress=progress,
        )
    if as_json:
        _print_json(
            {
                "findings": str(out / "findings.csv"),
                "score": fitted.primary_score,
                "scored": summary.scored,
                "skipped": [{"path": str(image.path), "reason": image.reason} for image in summary.skipped],
            }
        )
    else:
        doubtful = f" ({summary.doubtful} with a warning, see the column)" if summary.doubtful else ""
        say(f"{out / 'findings.csv'}: {summary.scored} images scored{doubtful}.")
    _exit_if_skipped([(str(image.path), image.reason) for image in summary.skipped])


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a fitted model.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the metrics and single scores.")] = None,
    test_normal: options.TestNormal = None,
    test_abnormal: options.TestAbnormal = None,
    test_masks: options.TestMasks = None,
    manifest: options.Manifest = None,
    data: options.Data = None,
    split: options.Split = "data.json",
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Measure a model on labelled test images: AUC and AP with intervals, pixel metrics where masks exist."""
    from ddad.cli.terminal import terminal_progress
    from ddad.experiments.evaluation import evaluate as evaluate_model
    from ddad.experiments.evaluation import write_evaluation
    from ddad.files import output_folder
    from ddad.model import Model

    if out is not None:
        output_folder(out, overwrite=overwrite)
    cohort = options.build_cohort(
        test_normal=test_normal,
        test_abnormal=test_abnormal,
        test_masks=test_masks,
        manifest=manifest,
        data=data,
        split=split,
    )
    fitted = Model.load(model)
    with terminal_progress() as progress:
        evaluation = evaluate_model(fitted, cohort, device=device, precision=precision or "auto", progress=progress)
    if out is not None:
        write_evaluation(evaluation, out, overwrite=overwrite)
    _print_evaluation(evaluation, as_json)
    _exit_if_skipped(evaluation.to_json()["skipped"])


@app.command()
def benchmark(
    dataset: Annotated[
        str, typer.Argument(help="brain-tumor, rsna, vindr-cxr, cxad, lag, or custom for any other folder.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Benchmark folder: images/ and data.json.")],
    split: options.Split = "data.json",
    anomaly_rate: options.AnomalyRate = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            help="ddad, ae, memae, ae-u, vae, draem, fpi, pii, normal-vs-unlabeled, or all; repeatable. Default: ddad.",
        ),
    ] = None,
    backbones: Annotated[
        list[str] | None,
        typer.Option("--backbone", help="Of ddad: ae, memae, ae-u or vae; repeatable. Default: ae-u."),
    ] = None,
    recipe: options.RecipeName = "fast",
    settings: options.Settings = None,
    image_size: options.ImageSize = None,
    members: options.Members = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Fits with different seeds.")] = 3,
    seed: options.Seed = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the tables; finished runs in it are not repeated.")
    ] = Path("benchmark"),
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Fit and evaluate on a benchmark folder; print Table 3 with the paper's figures beside ours."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.experiments.benchmark import (
        benchmark_cohort,
        benchmark_recipes,
        cells_of,
        run_benchmark,
        write_results,
    )
    from ddad.experiments.tables import summary, to_markdown

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
    recipes = benchmark_recipes(base, methods or ["ddad"], backbones or ["ae-u"], seeds)
    known, cohort = benchmark_cohort(dataset, data, split, anomaly_rate)
    with terminal_progress() as progress:
        records = run_benchmark(
            cohort,
            known,
            recipes,
            out,
            split=split,
            anomaly_rate=anomaly_rate,
            device=device,
            workers=workers,
            progress=progress,
        )
    command = shlex.join(["ddad", *sys.argv[1:]])
    write_results(records, known, command, out)
    if as_json:
        _print_json({"cells": cells_of(records)})
    else:
        typer.echo(to_markdown(summary(cells_of(records))))
        say(f"Written to {out / 'results.md'} and {out / 'results.csv'}; single runs in {out / 'runs'}.")
    _warn(list(dict.fromkeys(warning for record in records for warning in record["warnings"])))
    _exit_if_skipped(list(dict.fromkeys(tuple(pair) for record in records for pair in record["skipped"])))


@app.command()
def fields(
    recipe: options.RecipeName = "fast",
    as_json: options.Json = False,
) -> None:
    """List every recipe field with its value and meaning, as --set and a recipe file take them."""
    chosen = options.build_recipe(recipe, None)
    if as_json:
        _print_json(chosen.model_dump(mode="json"))
        return
    rows = chosen.describe()
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, meaning in rows:
        typer.echo(f"{name:{widths[0]}}  {value:{widths[1]}}  {meaning}")


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content))


def _print_evaluation(evaluation: Evaluation, as_json: bool) -> None:
    _warn(evaluation.warnings)
    if as_json:
        _print_json(evaluation.to_json())
    else:
        from ddad.experiments.tables import evaluation_table, to_markdown

        typer.echo(to_markdown(evaluation_table(evaluation)))


def _warn(warnings: Sequence[str]) -> None:
    from ddad.cli.terminal import say

    for warning in warnings[:10]:
        say(f"warning: {warning}", style="yellow")
    if len(warnings) > 10:
        say(f"and {len(warnings) - 10} more warnings", style="yellow")


def _exit_if_skipped(skipped: Sequence[Sequence[str]]) -> None:
    from ddad.cli.terminal import say

    if not skipped:
        return
    say(f"Files skipped: {len(skipped)}", style="yellow")
    for path, reason in skipped[:10]:
        say(f"  {path}: {reason}")
    if len(skipped) > 10:
        say(f"  and {len(skipped) - 10} more")
    raise typer.Exit(EXIT_SKIPPED)
