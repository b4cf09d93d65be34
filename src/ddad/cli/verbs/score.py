"""`ddad score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, passed_over, print_json, warn
from ddad.wording import counted, percent


def score(
    model: Annotated[Path, typer.Argument(help="Folder of a fitted model.")],
    paths: Annotated[list[Path], typer.Argument(readable=False, help="Images, folders or ZIP archives of images.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the findings.")],
    heatmaps: Annotated[
        bool, typer.Option("--heatmaps", help="Write heat maps and overlays as PNG, on one scale for all.")
    ] = False,
    dicom_results: Annotated[
        Path | None,
        typer.Option(
            "--dicom-results", help="Folder for a DICOM map, overlay and report of each DICOM image, for a PACS."
        ),
    ] = None,
    nifti_maps: Annotated[
        Path | None,
        typer.Option("--nifti-maps", help="Folder for a NIfTI volume of maps of each NIfTI image, of the same affine."),
    ] = None,
    keep_identifiers: Annotated[
        bool,
        typer.Option(
            "--keep-identifiers",
            help="Add patient, accession number and UIDs of DICOM images to the findings; left out otherwise.",
        ),
    ] = False,
    false_alarm_rate: options.FalseAlarmRate = None,
    false_discovery_rate: Annotated[
        float | None,
        typer.Option(
            "--false-discovery-rate",
            help="Also write discoveries.csv: images taken together so that this share of them, at most, is normal "
            "(Benjamini-Hochberg).",
        ),
    ] = None,
    slices: options.Slices = "all",
    volume: options.Volume = 1,
    device: options.Device = "auto",
    precision: options.PrecisionName = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Score images: findings.csv and findings.parquet, with heat maps on request."""
    from ddad.cli.terminal import say, terminal_progress
    from ddad.errors import SettingError
    from ddad.evaluation.calibration import NOT_CALIBRATED
    from ddad.files import check_apart
    from ddad.images import Selection
    from ddad.model import Model
    from ddad.report.findings import write_findings

    selection = Selection(slices, volume)
    for place in filter(None, (out, dicom_results, nifti_maps)):
        check_apart(place, [model])
    fitted = Model.load(model)
    if false_alarm_rate is not None:
        if fitted.calibration is None:
            raise SettingError(f"--false-alarm-rate: {NOT_CALIBRATED}")
        fitted.calibration = fitted.calibration.at(false_alarm_rate)
    with terminal_progress() as progress:
        summary = write_findings(
            fitted,
            paths,
            out,
            heatmaps=heatmaps,
            model_name=model.resolve().name,
            overwrite=overwrite,
            device=device,
            precision=precision,
            progress=progress,
            selection=selection,
            dicom_results=dicom_results,
            nifti_maps=nifti_maps,
            keep_identifiers=keep_identifiers,
            false_discovery_rate=false_discovery_rate,
        )
    calibration = fitted.calibration
    if as_json:
        print_json(
            {
                "findings": str(out / "findings.csv"),
                "score": fitted.primary_score,
                "scored": summary.scored,
                "calibration": None if calibration is None else calibration.summary(),
                "flagged": None if calibration is None or calibration.caution() else summary.flagged,
                "discovered": summary.discovered,
                "skipped": [{"path": str(image.path), "reason": image.reason} for image in summary.skipped],
                "passed_over": [
                    {"path": str(file.path), "reason": file.reason} for file in summary.blank + summary.passed_over
                ],
            }
        )
    else:
        doubtful = f" ({summary.doubtful} with a warning, see the column)" if summary.doubtful else ""
        say(f"{out / 'findings.csv'}: {counted(summary.scored, 'image', 'images')} scored{doubtful}.")
        if calibration is not None:
            flagged = "" if calibration.caution() else f"{summary.flagged} of {summary.scored} flagged. "
            say(f"{flagged}{calibration.promise()}")
        if calibration is not None and false_discovery_rate is not None and summary.discovered is not None:
            taken = counted(summary.discovered, "image", "images")
            rate = f"a false discovery rate of {percent(false_discovery_rate)}"
            fewest = calibration.fewest_discoveries(summary.scored, false_discovery_rate)
            none = (
                ""
                if summary.discovered
                else f" At least {fewest} of {summary.scored} would have to score above all normals."
            )
            say(f"{out / 'discoveries.csv'}: {taken} taken together at {rate}.{none}")
        if summary.blank:
            blank = counted(len(summary.blank), "blank slice or frame was", "blank slices or frames were")
            say(f"{out / 'skipped.csv'}: {blank} passed over.")
        if summary.without_dicom:
            without = counted(summary.without_dicom, "DICOM image has", "DICOM images have")
            say(f"{without} no DICOM results: the column warnings says why.")
        if summary.without_nifti:
            without = counted(summary.without_nifti, "NIfTI slice has", "NIfTI slices have")
            say(f"{without} no map in --nifti-maps: the column warnings says why.")
        if summary.passed_over:
            say(f"{out / 'skipped.csv'}: {passed_over(len(summary.passed_over))}.")
    doubt = NOT_CALIBRATED if calibration is None else calibration.caution()
    doubts = [f"p_value and flagged are empty: {doubt}" if calibration is None else doubt]
    if calibration is not None and false_discovery_rate is not None:
        doubts.append(calibration.caution_of_discoveries(false_discovery_rate))
    warn(list(filter(None, doubts)))
    exit_if_skipped([(str(image.path), image.reason) for image in summary.skipped])
