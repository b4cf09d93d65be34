"""Calibrating a fitted model anew, with other normal images or another false-alarm rate, without training."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from ddad.cohorts import Cohort, Role, SkippedImage, decode
from ddad.cohorts.held_out import alike_warning, joined_with_copies
from ddad.cohorts.pixels import save_rows
from ddad.cohorts.seen import pixel_digest, seen_in_fit
from ddad.errors import CalibrationError
from ddad.evaluation.calibration import Calibration, check_rate
from ddad.machine import processor_cores
from ddad.model import Model
from ddad.progress import Progress, listener
from ddad.training.device import Compute, DeviceName, Precision


def recalibrate(
    folder: str | Path,
    cohort: Cohort | None = None,
    *,
    false_alarm_rate: float | None = None,
    device: DeviceName = "auto",
    precision: Precision | None = None,
    progress: Progress | None = None,
) -> tuple[Calibration, list[SkippedImage], list[str]]:
    """Write the calibration file of a saved model anew; its weights and card stay as they are.

    Args:
        folder: of the model.
        cohort: its normal images give the scores, but for those that the fit has seen: copies of its images, or the
            same pixels in other files, other slices of its files, and what is in one group with these. None keeps the
            scores that are there, and changes the rate alone.
        false_alarm_rate: to promise; by default the one that was promised, or 5 %.
        device: `auto`, `cpu` or `cuda`.
        precision: of matrix products; the one that the model will score with, by default its recipe's.
        progress: told of every image.

    Returns:
        The calibration, the images that could not be read, and what is doubtful.

    Raises:
        CalibrationError: there are no scores and no normal images, all of these were seen in the fit, or they are too
            few to flag anything, where the calibration that is there can.
        ModelError: the folder holds no model.
        OutputError: the disk for temporary files has no room for the decoded images.
        SettingError: the rate is not between 0 and 1, or the device is not there.
    """
    if false_alarm_rate is not None:
        check_rate(false_alarm_rate)
    if cohort is None:
        model = Model.load(folder)
        if model.calibration is None:
            raise CalibrationError(
                f"{folder}: it has no scores of unseen normals, so there is nothing to calibrate by. Give normal "
                "images that it was not fitted on: --normal DIR."
            )
        before = model.calibration
        model.calibration = before.at(before.false_alarm_rate if false_alarm_rate is None else false_alarm_rate)
        model.save_calibration(folder)
        return model.calibration, [], _given_up(before)
    model = Model.load_uncalibrated(folder)
    try:
        previous, warnings = model.read_calibration(folder), []
    except CalibrationError as error:
        previous, warnings = None, [f"a calibration that cannot be read is replaced: {error}"]
    if previous is not None:
        warnings += _given_up(previous)
        false_alarm_rate = previous.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
    warnings += cohort.notes
    table = cohort.of(Role.NORMAL)
    # Decoded images of a large cohort do not fit in memory.
    with TemporaryDirectory(prefix="ddad-", ignore_cleanup_errors=True) as temporary:
        decoded = decode(
            table["path"].tolist(),
            model.recipe.images,
            into=Path(temporary) / "normal.npy",
            workers=processor_cores(),
            progress=progress,
            title="reading normal images",
        )
        table, pixels = table.iloc[decoded.kept], decoded.pixels
        digests = dict(zip(table["path"], map(pixel_digest, pixels), strict=True))
        seen = seen_in_fit(cohort, table, model.card["cohort"], digests, progress)
        count, unseen = len(table), np.flatnonzero(~seen.any)
        if not len(unseen):
            raise CalibrationError(
                f"{folder}: no normal image is left to calibrate by: {count} of {count + len(decoded.skipped)} were "
                f"in the fit, held out or not, {len(decoded.skipped)} cannot be read. Give normal images that were not "
                "(--normal DIR)."
            )
        if len(unseen) < count:
            warnings.append(
                f"{count - len(unseen)} of {count} normal images are left out, because what a model has seen "
                f"scores too low: {seen.counted()}."
            )
            new = Path(temporary) / "new.npy"
            save_rows(pixels, unseen, new)
            table, pixels = table.iloc[unseen], np.load(new, mmap_mode="r", allow_pickle=False)
        groups, can_be_told = joined_with_copies(pixels, table["group"].tolist())
        if not can_be_told:
            warnings.append(alike_warning(["normal"]))
        compute = Compute.choose(device, precision or model.recipe.precision)
        calibration = Calibration.from_scores(
            _scores(model, pixels, compute, listener(progress)),
            groups,
            of="normals given to ddad calibrate",
            score=model.primary_score,
            false_alarm_rate=false_alarm_rate,
        )
    could_flag = previous is not None and previous.at(calibration.false_alarm_rate).caution() is None
    if could_flag and (reason := calibration.caution()):
        told = " ".join([*warnings, f"By these normals {reason}"])
        raise CalibrationError(f"{folder}: the calibration that is there is kept. {told}")
    model.calibration = calibration
    warnings += [f"{warning.path}: {warning.text}" for warning in decoded.warnings]
    model.save_calibration(folder)
    return model.calibration, [*cohort.skipped, *decoded.skipped], warnings


def _scores(model: Model, pixels: NDArray[np.float32], compute: Compute, progress: Progress) -> list[float]:
    """Return the main score of each image."""
    scores = []
    with progress.task("scoring normal images", len(pixels)) as bar:
        for image_scores, _ in model.score_pixels(pixels, compute, maps=False):
            scores.append(image_scores[model.primary_score])
            bar.advance()
    return scores


def _given_up(before: Calibration) -> list[str]:
    if before.threshold is None:
        return []
    return [f"the threshold {before.threshold:.4g}, set by hand, gave way to the rate."]
