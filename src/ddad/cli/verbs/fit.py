"""`ddad fit`."""

from __future__ import annotations

import shlex
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, print_json, print_selection, say_blank, warn
from ddad.wording import counted, whole_percent


def fit(
    out: Annotated[Path, typer.Option("--out", help="Folder to save the model in.")],
    normal: options.Normal = None,
    unlabeled: options.Unlabeled = None,
    abnormal: options.Abnormal = None,
    test_normal: options.TestNormal = None,
    test_abnormal: options.TestAbnormal = None,
    manifest: options.Manifest = None,
    data: options.Data = None,
    split: options.Split = options.DEFAULT_SPLIT,
    slices: options.Slices = "all",
    volume: options.Volume = 1,
    anomaly_rate: options.AnomalyRate = None,
    recipe: options.RecipeName = "fast",
    settings: options.Settings = None,
    detector: options.DetectorOption = None,
    backbone: options.BackboneName = None,
    image_size: options.ImageSize = None,
    members: options.Members = None,
    seed: options.Seed = None,
    select: options.Select = None,
    budget: options.Budget = None,
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Fit a model on normal images and, if there are any, unlabeled ones.

    With --unlabeled alone, the unlabeled images that are likely to be normal stand for normal ones.

    Test images may be named too: they are not looked at, only checked not to be among the others.

    A fit that was killed goes on where it was when the same command is run again.
    """
    from ddad.cli.terminal import say, terminal_progress
    from ddad.errors import SettingError
    from ddad.evaluation.calibration import NOT_CALIBRATED
    from ddad.evaluation.prevalence import NOT_ESTIMATED
    from ddad.files import check_apart, spare
    from ddad.fitting import fit as fit_model
    from ddad.model import DIGESTS
    from ddad.selecting import fit_best, read_candidates

    if budget is not None and select is None:
        raise SettingError("--budget: goes with --select, whose candidates it limits.")
    candidates = None if select is None else read_candidates(select)
    seconds = None if budget is None else options.seconds_of(budget)
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
    check_apart(out, chain(*filter(None, (normal, unlabeled, abnormal, test_normal, test_abnormal))))
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
            slices=slices,
            volume=volume,
            anomaly_rate=anomaly_rate,
            progress=progress,
        )
        spare(cohort.folders(), [out])
        if candidates is None:
            model = fit_model(
                cohort, chosen, out=out, overwrite=overwrite, device=device, workers=workers, progress=progress
            )
        else:
            model = fit_best(
                cohort, chosen, candidates, budget=seconds, out=out, overwrite=overwrite, device=device,
                workers=workers, progress=progress,
            )  # fmt: skip
    card = model.card
    if as_json:
        seen = {key: value for key, value in card["cohort"].items() if key not in DIGESTS}
        brief = {key: value for key, value in card.items() if key != "training_curves"}
        print_json({"model": str(out), **brief, "cohort": seen})
    else:
        if "selection" in card:
            print_selection(card["selection"])
        seen, normal_ones = card["cohort"], "trusted" if "unsupervised" in card else "normal"
        known = f", with {counted(seen['abnormal'], 'known abnormal one')}" if seen["abnormal"] else ""
        say(
            f"{out}: fitted on {seen['normal']} {normal_ones} and "
            f"{counted(seen['unlabeled'], 'unlabeled image')}{known} in {card['seconds']:.0f} s; "
            f"{counted(seen['held_out_normal'], f'{normal_ones} one was', f'{normal_ones} ones were')} held out. "
            f"Main score: {card['primary_score']}."
        )
        if "prevalence" in card and (found := card["prevalence"]) is None:
            say(NOT_ESTIMATED)
        elif "prevalence" in card:
            share, low, high = (whole_percent(found[part]) for part in ("estimate", "low", "high"))
            of = (
                f"About {share} ({low} to {high})"
                if found["low"]
                else f"At most {high}, perhaps none (estimate {share}),"
            )
            say(
                f"{of} of the unlabeled images "
                "are unlike the normal ones in brightness or texture; finer findings are not counted."
            )
        elif seen["unlabeled"]:
            say("The share of abnormal images is not estimated: that takes known normal images (--normal).")
        if model.calibration is not None:
            say(f"Calibrated. {model.calibration.promise()}")
        say(f"Next: ddad score {shlex.quote(str(out))} IMAGES --out SCORES --heatmaps")
    doubt = NOT_CALIBRATED if model.calibration is None else model.calibration.caution()
    warn([*([doubt] if doubt else []), *card["cohort"]["warnings"]])
    say_blank(len(card["cohort"]["blank"]))
    exit_if_skipped(card["cohort"]["skipped"])
