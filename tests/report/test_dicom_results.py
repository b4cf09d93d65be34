"""DICOM results: read back by pydicom and highdicom, and judged by dciodvfy."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ComputedRadiographyImageStorage, generate_uid

from ddad.evaluation.calibration import Calibration
from ddad.images import expand, read_image
from ddad.model import Finding
from ddad.recipe_sections import Preprocessing
from ddad.report.dicom_results import DicomResults, ModelIdentity
from ddad.report.heatmaps import picture_name

MODEL = ModelIdentity("chest", "ddad", "ab" * 32, "r_dual", (0.0, 1.0))


def write_source(
    path: Path, rows: int, columns: int, *, frames: int = 1, kind: str = "CT", between: float | None = 5
) -> Path:
    """Write a CT (with its place) or a radiograph or ultrasound (without one) of odd size."""
    data = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    if kind != "CT":
        for keyword in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            del data[keyword]
        data.SOPClassUID = ComputedRadiographyImageStorage if kind == "CR" else "1.2.840.10008.5.1.4.1.1.3.1"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.Modality = kind
    data.SpacingBetweenSlices = between
    if between is None:
        del data.SpacingBetweenSlices
    if frames > 1:
        data.NumberOfFrames = frames
    data.Rows, data.Columns = rows, columns
    pixels = np.random.default_rng(0).integers(0, 2000, (frames, rows, columns)).astype(np.int16)
    data.PixelData = pixels.tobytes()
    data.save_as(path)
    return path


def finding_of(path: str, rows: int, columns: int, **changes: Any) -> Finding:
    """A map of 16×16 with one bright pixel, in row 4 and column 8."""
    score_map = np.zeros((16, 16), np.float32)
    score_map[4, 8] = 1
    settings: dict[str, Any] = {
        "path": path,
        "score": 1.25,
        "p_value": None,
        "flagged": None,
        "scores": {"r_dual": 1.25},
        "maps": {"r_dual": score_map},
        "pixels": np.zeros((1, 16, 16), np.float32),
        "source_size": (rows, columns),
        "warnings": (),
    }
    return Finding(**(settings | changes))


def errors_of(file: Path) -> list[str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not here: apt-get install dicom3tools")
    judged = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
    return [line for line in (judged.stdout + judged.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("aspect", ["squash", "pad", "crop"])
@pytest.mark.parametrize(("kind", "rows", "columns"), [("CT", 37, 53), ("CR", 91, 33)])
def test_the_map_lies_where_the_lesion_is(tmp_path: Path, kind: str, rows: int, columns: int, aspect: str) -> None:
    source = write_source(tmp_path / "a.dcm", rows, columns, kind=kind)
    finding = finding_of(str(source), rows, columns, preprocessing=Preprocessing(aspect=aspect))

    assert DicomResults(tmp_path / "out", MODEL).write(finding, 0) is None

    data = pydicom.dcmread(tmp_path / "out" / "000000_a_map.dcm")
    stored = np.frombuffer(data.FloatPixelData, "<f4").reshape(rows, columns)
    place = finding.placement
    expected = (place.top + 4.5 / 16 * place.height, place.left + 8.5 / 16 * place.width)
    found = np.unravel_index(stored.argmax(), stored.shape)
    assert abs(found[0] + 0.5 - expected[0]) <= 1
    assert abs(found[1] + 0.5 - expected[1]) <= 1
    at_source = finding.placement.to_source(finding.maps["r_dual"], fill=-1e30)
    np.testing.assert_array_equal(stored, at_source)
    assert ("FloatPixelPaddingValue" in data) == (aspect == "crop")
    back = read_image(tmp_path / "out" / "000000_a_map.dcm").pixels[..., 0]
    np.testing.assert_array_equal(back, np.where(stored == np.float32(-1e30), 0, stored))


@pytest.mark.parametrize("between", [None, 5.0])
def test_a_map_has_the_spacing_between_slices_of_its_source(tmp_path: Path, between: float | None) -> None:
    source = write_source(tmp_path / "a.dcm", 37, 53, between=between)
    assert DicomResults(tmp_path / "out", MODEL).write(finding_of(str(source), 37, 53), 0) is None
    made = pydicom.dcmread(tmp_path / "out" / "000000_a_map.dcm")
    (shared,) = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert shared.get("SpacingBetweenSlices") == between


@pytest.mark.parametrize(("kind", "frames"), [("CT", 1), ("CR", 1), ("US", 3)])
def test_the_three_objects_are_valid_and_refer_to_their_source(tmp_path: Path, kind: str, frames: int) -> None:
    source = write_source(tmp_path / "a.dcm", 37, 53, kind=kind, frames=frames)
    address = f"{source}#2" if frames > 1 else str(source)
    finding = finding_of(address, 37, 53, p_value=0.01, flagged=True)

    assert DicomResults(tmp_path / "out", MODEL).write(finding, 7) is None

    original = pydicom.dcmread(source)
    seen = {original.SOPInstanceUID}
    stem = picture_name(7, address)
    for name in ("map", "overlay", "report"):
        file = tmp_path / "out" / f"{stem}_{name}.dcm"
        data = pydicom.dcmread(file)
        assert data.StudyInstanceUID == original.StudyInstanceUID
        assert data.SeriesInstanceUID != original.SeriesInstanceUID
        assert data.PatientID == original.PatientID
        assert data.SOPInstanceUID not in seen
        seen.add(data.SOPInstanceUID)
        text = str(data)
        assert original.SOPInstanceUID in text
        assert ("Referenced Frame Number" in text) == (frames > 1)
    report = hd.sr.srread(tmp_path / "out" / f"{stem}_report.dcm")
    words = report.to_json()
    for word in ("Anomaly score", "1.25", "0.01", "Flagged as unusual", "Yes", MODEL.fingerprint, "model chest"):
        assert word in words
    score_map = hd.pm.ParametricMap.from_dataset(pydicom.dcmread(tmp_path / "out" / f"{stem}_map.dcm"))
    same_place = score_map.FrameOfReferenceUID == original.get("FrameOfReferenceUID")
    assert same_place == (kind == "CT")
    overlay = read_image(tmp_path / "out" / f"{stem}_overlay.dcm")
    assert overlay.pixels.shape == (37, 53, 3)
    assert [errors_of(tmp_path / "out" / f"{stem}_{name}.dcm") for name in ("map", "overlay", "report")] == [[]] * 3


@pytest.mark.parametrize("kind", ["CT", "CR", "US"])
def test_the_maps_of_a_series_have_one_frame_of_reference(tmp_path: Path, kind: str) -> None:
    """PS3.3, A.1.2.3."""
    frames = 2 if kind == "US" else 1
    results = DicomResults(tmp_path / "out", MODEL)
    for name in "ab":
        write_source(tmp_path / f"{name}.dcm", 37, 53, kind=kind, frames=frames)
    addresses = [f"{tmp_path}/{name}.dcm{frame}" for name in "ab" for frame in (("#1", "#2") if frames > 1 else ("",))]
    for number, address in enumerate(addresses):
        assert results.write(finding_of(address, 37, 53), number) is None
    maps = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").glob("*_map.dcm"))]
    series: dict[str, set[str]] = {}
    for one in maps:
        series.setdefault(one.SeriesInstanceUID, set()).add(one.FrameOfReferenceUID)
    assert len(maps) == len(addresses)
    assert [len(frames_of_reference) for frames_of_reference in series.values()] == [1] * len(series)
    # A radiograph's map has no place that another's could be compared with.
    assert len(series) == (1 if kind == "CT" else 2)


KINDS = {
    "CT": "CT_small.dcm",
    "MR big endian": "MR_small_bigendian.dcm",
    "enhanced MR": "emri_small.dcm",
    "enhanced CT": "eCT_Supplemental.dcm",
    "CR, MONOCHROME1": "dicomdirtests/77654033/CR1/6154",
    "ultrasound, YBR_ICT": "US1_J2KI.dcm",
    "ultrasound, frames of YBR_FULL_422": "examples_ybr_color.dcm",
    "ultrasound, PALETTE COLOR": "examples_palette.dcm",
    "secondary capture, RGB": "SC_rgb_rle.dcm",
    "secondary capture without a meta header, with a bad time": "OT-PAL-8-face.dcm",
    "radiotherapy dose": "rtdose.dcm",
    "modality LUT": "mlut_18.dcm",
}


@pytest.mark.parametrize("kind", KINDS)
def test_results_of_real_sources_are_valid(tmp_path: Path, kind: str) -> None:
    places = [Path(pydicom.__file__).parent / "data" / "test_files"]
    if (extra := importlib.util.find_spec("data_store")) and extra.origin:
        places.append(Path(extra.origin).parent / "data")
    path = next((place / KINDS[kind] for place in places if (place / KINDS[kind]).is_file()), None)
    if path is None:
        pytest.skip("pydicom-data is not installed: pip install '.[dev]'")
    addresses = expand(path)
    address = str(addresses[len(addresses) // 2])
    image = read_image(address)
    results = DicomResults(tmp_path, MODEL)

    assert results.write(finding_of(address, image.height, image.width, p_value=0.5, flagged=False), 0) is None

    source = pydicom.dcmread(path, force=True)
    for name in ("map", "overlay", "report"):
        file = tmp_path / f"{picture_name(0, address)}_{name}.dcm"
        made = pydicom.dcmread(file)
        assert made.StudyInstanceUID == source.StudyInstanceUID
        assert source.SOPInstanceUID in str(made)
        assert errors_of(file) == []
        if name != "report":
            assert (made.Rows, made.Columns) == (source.Rows, source.Columns)


def test_the_report_says_of_a_flag_how_often_it_is_false_and_of_none_that_there_can_be_none(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.dcm", 37, 53)
    groups = tuple((float(score),) for score in range(24))
    enough = Calibration(of="held-out normals", score="r_dual", groups=groups)
    few = enough.model_copy(update={"groups": groups[:12]})
    by_hand = few.model_copy(update={"threshold": 1.0})
    results = DicomResults(tmp_path / "out", MODEL)
    words = []
    for number, (calibration, flagged) in enumerate([(enough, False), (few, None), (by_hand, True)]):
        finding = finding_of(str(source), 37, 53, p_value=0.5, flagged=flagged, calibration=calibration)
        assert results.write(finding, number) is None
        file = tmp_path / "out" / f"{picture_name(number, str(source))}_report.dcm"
        assert errors_of(file) == []
        words.append(hd.sr.srread(file).to_json())
        assert calibration.promise() in words[-1]
        assert "Groups of held-out normals" in words[-1]
    assert ["Flagged as unusual" in text for text in words] == [True, False, True]
    assert ["False-alarm rate" in text and "0.05" in text for text in words] == [True, True, False]
    assert "Nothing can be flagged" in words[1]


def test_neither_warning_nor_reason_repeats_the_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    data = pydicom.dcmread(write_source(tmp_path / "a.dcm", 20, 30))
    data.PatientName = "Onename"  # of which highdicom warns
    data.save_as(tmp_path / "a.dcm")
    results = DicomResults(tmp_path / "out", MODEL)
    assert results.write(finding_of(str(tmp_path / "a.dcm"), 20, 30), 0) is None
    assert not [warning for warning in recwarn if "Onename" in str(warning.message)]

    def refuse(*_: object) -> None:
        raise ValueError("PatientName 'Onename' is unlikely")

    monkeypatch.setattr(results, "_map", refuse)
    assert results.write(finding_of(str(tmp_path / "a.dcm"), 20, 30), 1) == ("PatientName '…' is unlikely")


def test_what_may_be_empty_is_left_empty_and_what_must_be_there_is_named(tmp_path: Path) -> None:
    data = pydicom.dcmread(write_source(tmp_path / "a.dcm", 20, 30))
    for keyword in ("PatientID", "StudyDate", "PatientName", "StudyID"):
        data.pop(keyword, None)
    data.save_as(tmp_path / "a.dcm")
    results = DicomResults(tmp_path / "out", MODEL)
    assert results.write(finding_of(str(tmp_path / "a.dcm"), 20, 30), 0) is None
    assert pydicom.dcmread(tmp_path / "out" / "000000_a_map.dcm").PatientID == ""
    del data.StudyInstanceUID
    data.save_as(tmp_path / "b.dcm")
    lack = results.write(finding_of(str(tmp_path / "b.dcm"), 20, 30), 1)
    assert lack == "the source lacks StudyInstanceUID"
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 3


def test_a_picture_of_a_slice_bears_its_number() -> None:
    assert picture_name(3, "scan.dcm#12") == "000003_scan_12"
    assert picture_name(3, "folder/scan.png") == "000003_scan"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (["ISO 2022 IR 6", "ISO 2022 IR 58"], "Zhang^XiaoDong"),
        ("GB18030", "Zhang^XiaoDong=张^小东"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞"),
        ("ISO 2022 IR 100", "Müller^Jörg"),
        ("ISO_IR 6", "Plain^Name"),
        ("", "Plain^Name"),
    ],
)
def test_names_of_any_script_stand_in_all_objects(tmp_path: Path, character_set: str | list[str], name: str) -> None:
    source = write_source(tmp_path / "a.dcm", 37, 53)
    data = pydicom.dcmread(source)
    data.SpecificCharacterSet = character_set
    data.PatientName = name
    data.save_as(source)

    model = ModelIdentity("Röntgen 胸部", "ddad", "ab" * 32, "r_dual", (0.0, 1.0))
    assert DicomResults(tmp_path / "out", model).write(finding_of(str(source), 37, 53), 0) is None

    for kind in ("map", "overlay", "report"):
        file = tmp_path / "out" / f"000000_a_{kind}.dcm"
        made = pydicom.dcmread(file)
        assert made.SpecificCharacterSet == "ISO_IR 192"
        assert str(made.PatientName) == name
        assert errors_of(file) == []
    assert "model Röntgen 胸部" in hd.sr.srread(tmp_path / "out" / "000000_a_report.dcm").to_json(
        dump_handler=lambda content: json.dumps(content, ensure_ascii=False)
    )


@pytest.mark.parametrize("left_out", ["SliceThickness", "FrameOfReferenceUID"])
def test_a_source_may_lack_what_some_scanners_leave_out(tmp_path: Path, left_out: str) -> None:
    source = write_source(tmp_path / "a.dcm", 37, 53)
    data = pydicom.dcmread(source)
    if left_out == "SliceThickness":
        del data.SliceThickness
    else:
        data.FrameOfReferenceUID = ""
    data.save_as(source)

    assert DicomResults(tmp_path / "out", MODEL).write(finding_of(str(source), 37, 53), 0) is None
    assert errors_of(tmp_path / "out" / "000000_a_map.dcm") == []
