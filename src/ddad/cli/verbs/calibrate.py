"""`ddad calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, print_json, warn
from ddad.errors import SettingError


def calibrate(
    model: Annotated[Path, typer.Argument(help="Folder of a fitted model.")],
    normal: options.Normal = None,
    manifest: options.Manifest = None,
    slices: options.Slices = "all",
    volume: options.Volume = 1,
    false_alarm_rate: options.FalseAlarmRate = None,
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    as_json: options.Json = False,
) -> None:
    """Set which scores a model flags, by normal images that it was not fitted on; nothing is trained.

    Without images, only the false-alarm rate is changed; a threshold set by hand gives way to it.
    """
    from ddad.cli.terminal import say, terminal_progress
    from ddad.recalibration import recalibrate

    with terminal_progress() as progress:
        cohort = None
        if normal or manifest:
            cohort = options.build_cohort(
                normal=normal, manifest=manifest, slices=slices, volume=volume, progress=progress
            )
        elif (slices, volume) != ("all", 1):
            raise SettingError("--slices, --volume: go with --normal.")
        calibration, skipped, warnings = recalibrate(
            model,
            cohort,
            false_alarm_rate=false_alarm_rate,
            device=device,
            precision=precision,
            progress=progress,
        )
    if as_json:
        print_json({"calibration": str(model / "calibration.json"), **calibration.summary()})
    else:
        say(f"{model / 'calibration.json'}: {calibration.promise()}")
    doubt = calibration.caution()
    warn([*([doubt] if doubt else []), *warnings])
    exit_if_skipped([(str(image.path), image.reason) for image in skipped if not image.blank])
