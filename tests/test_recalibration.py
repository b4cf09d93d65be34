"""Which normal images a fitted model may be calibrated by."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from ddad import Cohort, fit, recalibration
from ddad.errors import CalibrationError
from ddad.images import Selection
from ddad.recalibration import recalibrate
from support import random_images, tiny_recipe, write_images


def volumes(folder: Path, count: int, seed: int) -> Path:
    """Write stacks of eight slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = (random_images(8, seed=100 * seed + number)[:, 0].numpy() + 1) * 127
        tifffile.imwrite(folder / f"{seed}-{number}.tif", pixels.astype(np.uint8), photometric="minisblack")
    return folder


def test_other_slices_of_fitted_volumes_are_not_unseen(tmp_path: Path) -> None:
    folder = volumes(tmp_path / "normal", 10, 0)
    some = Cohort.from_folders(normal=folder, selection=Selection("every:4"))
    fit(some, tiny_recipe(detector="ae"), out=tmp_path / "m", workers=0)
    with pytest.raises(CalibrationError, match="no normal image is left to calibrate by: 80 of 80 were in the fit"):
        recalibrate(tmp_path / "m", Cohort.from_folders(normal=folder))
    volumes(folder, 2, 1)
    calibration, _, warnings = recalibrate(tmp_path / "m", Cohort.from_folders(normal=folder))
    assert (calibration.images, len(calibration.groups)) == (16, 2)
    assert warnings == [
        "80 of 96 normal images are left out, because what a model has seen scores too low: 20 exact copies of images "
        "that the model was fitted on, 60 other slices of files that it was fitted on."
    ]


def test_what_is_doubtful_of_the_normals_is_told(tmp_path: Path) -> None:
    """The promise rests on their groups."""
    fit(Cohort.from_folders(normal=volumes(tmp_path / "normal", 2, 0)), tiny_recipe(detector="ae", holdout=0),
        out=tmp_path / "m", workers=0)  # fmt: skip
    for patient in range(30):
        write_images(tmp_path / "patients" / f"p{patient}", 2, seed=patient, colour=patient == 3)
    (tmp_path / "patients" / "notes.txt").write_text("nothing")
    *_, warnings = recalibrate(tmp_path / "m", Cohort.from_folders(normal=tmp_path / "patients"))
    left_out, groups = warnings
    assert "1 file left out" in left_out
    assert "each file counts as a group of its own" in groups


def test_decoded_images_lie_on_disk_and_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of 20,000 images do not fit in memory."""
    fit(Cohort.from_folders(normal=volumes(tmp_path / "normal", 2, 0)), tiny_recipe(detector="ae", holdout=0),
        out=tmp_path / "m", workers=0)  # fmt: skip
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    grouped = []

    def spy(images: np.ndarray, groups: list[str]) -> tuple[list[str], bool]:
        grouped.append(isinstance(images, np.memmap))
        return groups, True

    monkeypatch.setattr(recalibration, "joined_with_copies", spy)
    recalibrate(tmp_path / "m", Cohort.from_folders(normal=volumes(tmp_path / "other", 2, 1)))
    assert grouped == [True]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_normals_that_are_all_alike_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(Cohort.from_folders(normal=volumes(tmp_path / "normal", 2, 0)), tiny_recipe(detector="ae", holdout=0),
        out=tmp_path / "m", workers=0)  # fmt: skip
    monkeypatch.setattr(recalibration, "joined_with_copies", lambda _, groups: (groups, False))
    *_, warnings = recalibrate(tmp_path / "m", Cohort.from_folders(normal=volumes(tmp_path / "other", 2, 1)))
    assert [warning[:36] for warning in warnings] == ["normal images are so alike that near"]


def test_images_of_the_fit_in_other_files_are_left_out(tmp_path: Path) -> None:
    """The same pixels in another format are another file; the mirror image of one that was seen is not new either."""
    images = write_images(tmp_path / "normal", 24)
    fit(Cohort.from_folders(normal=tmp_path / "normal"), tiny_recipe(detector="ae", holdout=0), out=tmp_path / "m",
        workers=0)  # fmt: skip
    (tmp_path / "anew").mkdir()
    for number, image in enumerate(images[:6]):
        with Image.open(image) as opened:
            anew = ImageOps.mirror(opened) if number % 2 else opened.convert("RGB")
            anew.save(tmp_path / "anew" / f"{number}.tif")
    with pytest.raises(CalibrationError, match="no normal image is left to calibrate by: 6 of 6 were in the fit"):
        recalibrate(tmp_path / "m", Cohort.from_folders(normal=tmp_path / "anew"))
    write_images(tmp_path / "anew", 3, seed=9)
    calibration, _, warnings = recalibrate(tmp_path / "m", Cohort.from_folders(normal=tmp_path / "anew"))
    assert calibration.images == 3
    assert warnings[0].endswith("6 that show the same as one of the fit, saved anew or mirrored.")


def test_a_calibration_that_was_removed_is_not_said_to_have_never_been(tmp_path: Path) -> None:
    fit(Cohort.from_folders(normal=volumes(tmp_path / "normal", 10, 0)), tiny_recipe(detector="ae"),
        out=tmp_path / "m", workers=0)  # fmt: skip
    (tmp_path / "m" / "calibration.json").unlink()
    with pytest.raises(CalibrationError, match="it has no scores of unseen normals, so there is nothing"):
        recalibrate(tmp_path / "m", false_alarm_rate=0.1)


def test_normals_that_are_too_few_do_not_replace_enough_of_them(tmp_path: Path) -> None:
    """The scores of held-out normals exist nowhere else by group."""
    fit(Cohort.from_folders(normal=volumes(tmp_path / "normal", 24, 0)), tiny_recipe(detector="ae", holdout=0.9),
        out=tmp_path / "m", workers=0)  # fmt: skip
    before = (tmp_path / "m" / "calibration.json").read_bytes()
    few = Cohort.from_folders(normal=volumes(tmp_path / "few", 3, 1))
    with pytest.raises(CalibrationError, match=r"is kept\. By these normals no image can be flagged .* there are 3"):
        recalibrate(tmp_path / "m", few)
    assert (tmp_path / "m" / "calibration.json").read_bytes() == before
    assert recalibrate(tmp_path / "m", few, false_alarm_rate=0.3)[0].images == 24
