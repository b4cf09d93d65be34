"""`ddad inspect`: what is said of files, and the pictures it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from ddad.images import decode_file
from ddad.report import contact_sheet
from ddad.report.inspection import encode_png16
from support import contents, run_cli, write_images

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


def test_a_line_of_json_for_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    write_images(folder, 1, colour=True)
    shutil.copy(BUNDLED / "CT_small.dcm", folder / "ct.dcm")
    (folder / "broken.dcm").write_bytes((BUNDLED / "CT_small.dcm").read_bytes()[:9000])
    (folder / "notes.txt").write_text("nothing")
    arguments = ("--json", "--save-pixels", tmp_path / "pixels", "--contact-sheet", tmp_path / "sheet.png")

    outcome = run_cli(monkeypatch, capsys, "inspect", folder, *arguments)

    assert outcome.code == 3
    lines = {Path(line["path"]).name: line for line in map(json.loads, outcome.out.splitlines())}
    assert {name: line["status"] for name, line in lines.items()} == {
        "broken.dcm": "skipped",
        "ct.dcm": "ok",
        "image-0-000.png": "ok",
        "notes.txt": "skipped",
    }
    ct = lines["ct.dcm"]
    values = pydicom.dcmread(BUNDLED / "CT_small.dcm").pixel_array.astype(float) - 1024
    assert (ct["shape"], ct["format"], ct["minimum"], ct["maximum"]) == (
        [128, 128],
        "dicom",
        values.min(),
        values.max(),
    )
    assert lines["image-0-000.png"]["shape"] == [20, 20, 3]
    assert "CompressedSamples" not in outcome.out + outcome.err  # the patient's name in CT_small
    with Image.open(ct["pixels"]) as png, Image.open(tmp_path / "sheet.png") as sheet:
        saved = np.asarray(png).astype(float)
        assert sheet.width > 2 * 144
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(saved, np.clip((values - low) / (high - low), 0, 1) * 65535, atol=1)


def test_pixels_take_no_others_place_and_do_not_lie_among_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "in", 2)
    before = contents(tmp_path / "in")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "000000_image-0-000.png").write_text("precious")
    for place in (tmp_path / "mine", tmp_path / "in", tmp_path / "in" / "pixels", tmp_path):
        for more in ((), ("--overwrite",)):
            outcome = run_cli(monkeypatch, capsys, "inspect", tmp_path / "in", "--save-pixels", place, *more)
            assert (outcome.code, outcome.out) == (1, "")
            assert outcome.err.startswith("error: ")
    assert (tmp_path / "mine" / "000000_image-0-000.png").read_text() == "precious"
    assert contents(tmp_path / "in") == before
    written = ("inspect", tmp_path / "in", "--save-pixels", tmp_path / "pixels")
    assert run_cli(monkeypatch, capsys, *written).code == 0
    assert run_cli(monkeypatch, capsys, *written).code == 1
    (tmp_path / "in" / "image-0-001.png").unlink()
    assert run_cli(monkeypatch, capsys, *written, "--overwrite").code == 0
    assert {path.suffix for path in (tmp_path / "pixels").iterdir()} == {"", ".png"}
    assert len(list((tmp_path / "pixels").glob("*.png"))) == 1


def test_a_contact_sheet_does_not_lie_among_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "in", 2)
    outcome = run_cli(monkeypatch, capsys, "inspect", tmp_path / "in", "--contact-sheet", tmp_path / "in" / "sheet.png")
    assert (outcome.code, outcome.out) == (1, "")
    assert len(list((tmp_path / "in").iterdir())) == 2


def test_a_name_with_a_line_break_takes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (image,) = write_images(tmp_path, 1)
    image.rename(tmp_path / "new\nline.png")
    outcome = run_cli(monkeypatch, capsys, "inspect", tmp_path)
    (line,) = outcome.out.splitlines()
    assert "new\\nline.png: png" in line


def test_a_contact_sheet_replaces_an_earlier_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, *others = write_images(tmp_path / "in", 3)
    before = source.read_bytes()
    refused = run_cli(monkeypatch, capsys, "inspect", source, "--contact-sheet", source)
    assert refused.code == 1
    assert f"{source}: exists and is no contact sheet of ddad" in refused.err
    assert source.read_bytes() == before
    monkeypatch.setattr(contact_sheet, "_MOST", 2)
    for count in (1, 3):
        done = run_cli(
            monkeypatch, capsys, "inspect", *[source, *others][:count], "--contact-sheet", tmp_path / "sheet.png"
        )
        assert done.code == 0
        assert ("no picture of 1 image beyond the first ones" in done.err) == (count == 3)
    assert run_cli(monkeypatch, capsys, "inspect", others[0], "--contact-sheet", source, "--overwrite").code == 0
    assert source.read_bytes() != before


def test_a_line_of_text_for_every_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run_cli(monkeypatch, capsys, "inspect", BUNDLED / "MR_small.dcm", BUNDLED / "rtdose.dcm#2")

    assert outcome.code == 0
    first, second = outcome.out.splitlines()
    assert "dicom 64×64 16 bit, values" in first
    assert "shown -200 to 1399 (window)" in first
    assert "rtdose.dcm#2: dicom 10×10 32 bit" in second
    assert "2 images can be read" in outcome.err


def test_png_of_16_bits_comes_back(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).random((7, 5, 1), np.float32)
    (tmp_path / "a.png").write_bytes(encode_png16(grey))
    np.testing.assert_allclose(decode_file(tmp_path / "a.png").pixels / 65535, grey, atol=1e-5)
    colour = np.random.default_rng(0).random((7, 5, 3), np.float32)
    (tmp_path / "a.png").write_bytes(encode_png16(colour))
    np.testing.assert_allclose(decode_file(tmp_path / "a.png").pixels / 65535, colour, atol=1e-5)
