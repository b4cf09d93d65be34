from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddad.cohorts import Cohort, Role, read_mask
from ddad.errors import CohortError
from ddad.experiments.downloads import DOWNLOADS, Source
from ddad.experiments.preparation import download_named, make_split, prepare
from ddad.experiments.published import BENCHMARKS, Benchmark, benchmark_named
from ddad.images import read_image
from ddad.images.reader import IMAGE_SUFFIXES
from support import random_images, run_cli, write_images

SMALL: dict[str, Any] = {"normal": 4, "unlabeled": 4, "test": (2, 2)}


def small(name: str) -> Benchmark:
    return replace(BENCHMARKS[name], **SMALL)


def write_dicom(path: Path, seed: int, *, rows: int = 40, columns: int = 30, inverted: bool = False) -> None:
    """Write a 12-bit chest X-ray's kind of DICOM file: no window, some of them MONOCHROME1."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset

    pixels = random_images(1, size=64, seed=seed)[0, 0, :rows, :columns].numpy()
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[path.stem])
    data.Modality, data.PatientID = "DX", path.stem
    data.Rows, data.Columns, data.SamplesPerPixel = rows, columns, 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = np.rint((pixels + 1) / 2 * 4095).astype(np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    folder = tmp_path / "download"
    for seed, (part, kind, name, count) in enumerate(
        [
            ("Training", "notumor", "Tr-no", 6),
            ("Testing", "notumor", "Te-no", 3),
            ("Training", "glioma", "Tr-gl", 4),
            ("Testing", "meningioma", "Te-me", 3),
            ("Training", "pituitary", "Tr-pi", 2),
        ]
    ):
        write_images(folder / part / kind, count, seed=seed, name=name)
    return folder


def test_brain_tumor_folders_become_a_benchmark_with_table_1s_counts(brain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared = prepare(DOWNLOADS["brain-tumor"][1](brain), brain, out, small("brain-tumor"))
    assert not prepared.authors_split
    wanted = small("brain-tumor").unlabeled
    few = [f"train.unlabeled: 8, where Brain Tumor has {wanted} in Table 1. See whether the download is whole."]
    assert prepared.warnings == (few if wanted > 8 else [])
    more = prepare(
        DOWNLOADS["brain-tumor"][1](brain), brain, tmp_path / "more", replace(small("brain-tumor"), unlabeled=9)
    )
    assert more.warnings == [few[0].replace(f"has {wanted}", "has 9")]
    assert prepared.counts == {
        "train.0": 4, "train.unlabeled.0": 3, "train.unlabeled.1": 5, "test.0": 2, "test.1": 2
    }  # fmt: skip
    cohort = Cohort.from_benchmark(out)
    assert cohort.counts()["unlabeled"] == 8
    assert {path.name[:5] for path in cohort.paths(Role.TEST, 1)} == {"Tr-gl", "Te-me"}  # one of each kind
    assert not any(path.name.startswith("Tr-pi") for path in (out / "images").iterdir())
    (copied,) = [path for path in (out / "images").iterdir() if path.name == "Tr-no-0-000.png"]
    assert copied.read_bytes() == (brain / "Training/notumor/Tr-no-0-000.png").read_bytes()
    assert {path.name for path in out.iterdir()} == {".ddad", "data.json", "images"}
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_authors_split_is_taken_whatever_its_suffixes(brain: Path, tmp_path: Path) -> None:
    no, gl = [f"Tr-no-0-00{index}" for index in range(4)], [f"Tr-gl-2-00{index}" for index in range(2)]
    split = {
        "train": {"0": [f"{no[0]}.jpg", f"{no[1]}.png"], "unlabeled": {"0": [f"{no[2]}.npy"], "1": [gl[0]]}},
        "test": {"0": [no[3]], "1": [gl[1]]},
    }
    (brain / "data.json").write_text(json.dumps(split))
    sources = DOWNLOADS["brain-tumor"][1](brain)
    prepared = prepare(sources, brain, tmp_path / "out", small("brain-tumor"))
    assert prepared.authors_split
    written = json.loads((tmp_path / "out" / "data.json").read_text())
    assert written["train"]["0"] == ["Tr-no-0-000.png", "Tr-no-0-001.png"]
    assert len(list((tmp_path / "out" / "images").iterdir())) == 6
    (warning,) = prepared.warnings
    assert "has other counts than Brain Tumor in Table 1: train.0: 2, in the paper 4; test.0: 1, in" in warning
    assert "train.unlabeled: 2, in the paper at least 4." in warning
    own = replace(BENCHMARKS["brain-tumor"], normal=2, unlabeled=2, test=(1, 1))
    assert prepare(sources, brain, tmp_path / "same", own).warnings == []
    split["test"]["0"] = ["unknown.jpg"]
    (brain / "data.json").write_text(json.dumps(split))
    with pytest.raises(CohortError, match=r"1 of its images are not in the download: unknown\.jpg"):
        prepare(sources, brain, tmp_path / "other", small("brain-tumor"))


def test_lag_names_that_stand_for_two_images_carry_their_class(tmp_path: Path) -> None:
    folder = tmp_path / "LAG"
    for seed, (kind, count) in enumerate([("non_glaucoma", 8), ("suspicious_glaucoma", 4)]):
        for path in write_images(folder / kind / "image", count, seed=seed):
            path.rename(path.with_name(path.name[-7:]))
        write_images(folder / kind / "attention_map", 1, seed=9)
    sources = DOWNLOADS["lag"][1](folder)
    prepared = prepare(sources, folder, tmp_path / "out", small("lag"))
    assert sum(prepared.counts.values()) == 12
    names = {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert {"normal_000.png", "glaucoma_000.png", "007.png"} <= names


def rsna(folder: Path) -> Path:
    kinds = ["Normal"] * 8 + ["Lung Opacity"] * 4 + ["No Lung Opacity / Not Normal"] * 2
    classes, labels = ["patientId,class"], ["patientId,x,y,width,height,Target"]
    for seed, kind in enumerate(kinds):
        name = f"0a{seed:02d}-patient"
        write_dicom(folder / "stage_2_train_images" / f"{name}.dcm", seed)
        for box in ("3,6,12,20", "20,2,5,5") if kind == "Lung Opacity" else (",,,",):
            classes.append(f"{name},{kind}")  # a row for each box, as there
            labels.append(f"{name},{box},{int(kind == 'Lung Opacity')}")
    (folder / "stage_2_detailed_class_info.csv").write_text("\n".join(classes) + "\n")
    (folder / "stage_2_train_labels.csv").write_text("\n".join(labels) + "\n")
    return folder


def test_rsna_is_read_as_kaggle_ships_it(tmp_path: Path) -> None:
    sources = DOWNLOADS["rsna"][1](rsna(tmp_path / "rsna"))
    assert [source.kind for source in sources] == ["normal"] * 8 + ["lung-opacity"] * 4
    assert sources[8].boxes == ((3, 6, 15, 26), (20, 2, 25, 7))
    assert sources[0].boxes == ()
    (tmp_path / "rsna" / "stage_2_train_images" / "0a03-patient.dcm").unlink()
    with pytest.raises(CohortError, match="0a03-patient"):
        DOWNLOADS["rsna"][1](tmp_path / "rsna")
    with pytest.raises(CohortError, match=r"there is no such file\. Name the folder"):
        DOWNLOADS["rsna"][1](tmp_path / "rsna" / "stage_2_train_labels.csv")
    with pytest.raises(CohortError, match=r"stage_2_detailed_class_info\.csv: there is no such file"):
        DOWNLOADS["rsna"][1](tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("3,6,12,20,1", "abc,6,12,20,1", r"stage_2_train_labels\.csv: x of 0a08-patient is 'abc'; it must be a number"),
        ("3,6,12,20,1", "nan,6,12,20,1", "x of 0a08-patient is missing"),
        ("3,6,12,20,1", "3,6,12,1e400,1", "height of 0a08-patient is '1e400'"),
        ("3,6,12,20,1", "3,6,12,20,yes", "Target of 0a08-patient is 'yes'"),
    ],
)
def test_a_bad_value_in_a_table_of_boxes_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    table = rsna(tmp_path / "rsna") / "stage_2_train_labels.csv"
    table.write_text(table.read_text().replace(f"0a08-patient,{before}", f"0a08-patient,{after}"))
    with pytest.raises(CohortError, match=message):
        DOWNLOADS["rsna"][1](tmp_path / "rsna")


@pytest.mark.parametrize("kind", ["normal", " NORMAL"])
def test_a_class_is_known_however_its_letters_are_written(tmp_path: Path, kind: str) -> None:
    table = rsna(tmp_path / "rsna") / "stage_2_detailed_class_info.csv"
    table.write_text(table.read_text().replace(",Normal\n", f",{kind}\n").replace(",Lung Opacity\n", ",lung opacity\n"))
    sources = DOWNLOADS["rsna"][1](tmp_path / "rsna")
    assert [source.kind for source in sources] == ["normal"] * 8 + ["lung-opacity"] * 4


@pytest.mark.parametrize(("kind", "what"), [("Abnormal", "is 'Abnormal'"), ("", "is missing")])
def test_an_unknown_class_is_named(tmp_path: Path, kind: str, what: str) -> None:
    table = rsna(tmp_path / "rsna") / "stage_2_detailed_class_info.csv"
    table.write_text(table.read_text().replace("0a02-patient,Normal", f"0a02-patient,{kind}"))
    with pytest.raises(CohortError, match=f"class of 0a02-patient {what}; it must be one of 'Normal', 'Lung Opacity'"):
        DOWNLOADS["rsna"][1](tmp_path / "rsna")


def test_a_patient_of_two_classes_is_named(tmp_path: Path) -> None:
    table = rsna(tmp_path / "rsna") / "stage_2_detailed_class_info.csv"
    table.write_text(table.read_text() + "0a00-patient,Lung Opacity\n")
    with pytest.raises(CohortError, match="0a00-patient is of two classes, 'Normal' and 'Lung Opacity'"):
        DOWNLOADS["rsna"][1](tmp_path / "rsna")


def test_vindr_is_normal_where_no_radiologist_found_anything(tmp_path: Path) -> None:
    folder = tmp_path / "vindr"
    rows = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for name, findings in (("a", ("No finding",) * 3), ("b", ("No finding", "Nodule/Mass", "No finding"))):
        write_dicom(folder / "train" / f"{name}.dicom", 1)
        for number, finding in enumerate(findings):
            box = ",,," if finding == "No finding" else "1,2,3,4"
            rows.append(f"{name},{finding},{14 if finding == 'No finding' else 8},R{number},{box}")
    for table in ("train.csv", "annotations/annotations_train.csv"):
        (folder / table).parent.mkdir(exist_ok=True)
        (folder / table).write_text("\n".join(rows) + "\n")
        sources = DOWNLOADS["vindr"][1](folder)
        assert [(source.kind, source.boxes) for source in sources] == [("normal", ()), ("finding", ((1, 2, 3, 4),))]
        for bad, what in (("x", "is 'x'"), ("", "is missing")):
            (folder / table).write_text("\n".join(rows).replace("1,2,3,4", f"{bad},2,3,4") + "\n")
            with pytest.raises(CohortError, match=rf"{table}: x_min of b {what}"):
                DOWNLOADS["vindr"][1](folder)
        (folder / table).write_text("\n".join(rows).replace("a,No finding", "a,no finding") + "\n")
        assert DOWNLOADS["vindr"][1](folder) == sources
        (folder / table).write_text("\n".join(rows).replace("a,No finding", "a,") + "\n")
        with pytest.raises(CohortError, match=rf"{table}: class_name of a is missing"):
            DOWNLOADS["vindr"][1](folder)
        (folder / table).unlink()


@pytest.mark.skipif(".dcm" not in IMAGE_SUFFIXES, reason="this version reads no DICOM")
def test_dicom_becomes_png_with_masks_from_boxes(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna")
    big = folder / "stage_2_train_images" / "0a08-patient.dcm"
    write_dicom(big, 8, inverted=True)
    out = tmp_path / "out"
    prepared = prepare(DOWNLOADS["rsna"][1](folder), folder, out, small("rsna"))
    assert prepared.skipped == []
    image = read_image(out / "images" / "0a08-patient.png")
    assert (image.height, image.width, image.bits) == (40, 30, 16)
    source = read_image(big)
    low, high = source.value_range
    expected = np.clip((source.pixels - low) / (high - low), 0, 1)
    assert np.abs(image.pixels / 65535 - expected).max() < 1e-4
    mask = read_mask(out / "masks" / "0a08-patient.png")
    assert mask.sum() == 12 * 20 + 5 * 5
    assert mask[6:26, 3:15].all()
    cohort = Cohort.from_benchmark(out)
    assert cohort.of(Role.TEST, 1)["mask"].notna().all()
    assert cohort.of(Role.TEST, 0)["mask"].isna().all()


@pytest.mark.skipif(".dcm" not in IMAGE_SUFFIXES, reason="this version reads no DICOM")
def test_boxes_that_cannot_be_are_named_and_counted(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = rsna(tmp_path / "rsna")  # images of 30 x 40 pixels
    labels = folder / "stage_2_train_labels.csv"
    changed = {
        "0a08-patient,3,6,12,20": "0a08-patient,15,6,-12,20",  # reversed; another box is left
        "0a09-patient,20,2,5,5": "0a09-patient,20,30,50,50",  # reaches beyond
        "0a10-patient,3,6,12,20": "0a10-patient,300,6,12,20",  # outside, and so is the other one
        "0a10-patient,20,2,5,5": "0a10-patient,20,-9,5,5",
        "0a11-patient,3,6,12,20": "0a11-patient,20,6,10.4,20",  # less than a pixel
    }
    text = labels.read_text()
    for before, after in changed.items():
        assert before in text
        text = text.replace(before, after)
    labels.write_text(text)
    monkeypatch.setitem(BENCHMARKS, "rsna", small("rsna"))
    done = run_cli(monkeypatch, capsys, "prepare", "rsna", folder, tmp_path / "out")
    assert done.code == 0, done.err
    assert "3 boxes were left out.\n1 box was cut at the edge of the image.\n" in done.err
    told = " ".join(done.err.split())
    assert "0a08-patient.dcm: the box from (15, 6) to (3, 26) has reversed or equal sides" in told
    assert "0a09-patient.dcm: the box from (20, 30) to (70, 80) reaches beyond the image of 30×40 pixels" in told
    assert "0a10-patient.dcm: the box from (300, 6) to (312, 26) lies outside of the image of 30×40 pixels" in told
    assert "0a11" not in told
    masks = tmp_path / "out" / "masks"
    assert sorted(path.name[:4] for path in masks.iterdir()) == ["0a08", "0a09", "0a11"]
    assert read_mask(masks / "0a08-patient.png").sum() == 5 * 5
    assert read_mask(masks / "0a09-patient.png")[30:, 20:].all()
    again = run_cli(monkeypatch, capsys, "prepare", "rsna", folder, tmp_path / "again", "--json")
    assert (again.json["boxes_left_out"], again.json["boxes_cut"]) == (3, 1)


def test_patients_never_cross_the_split() -> None:
    rng = np.random.default_rng(0)
    named = {
        f"{index}.png": Source(Path(f"{index}.png"), kind, f"patient {rng.integers(40)}")
        for index, kind in enumerate(["normal"] * 60 + ["glioma"] * 30 + ["meningioma"] * 30)
    }
    benchmark = replace(BENCHMARKS["brain-tumor"], normal=20, test=(10, 10))
    split = make_split(named, benchmark, seed=0)
    tested = [*split["test"]["0"], *split["test"]["1"]]
    trained = [*split["train"]["0"], *split["train"]["unlabeled"]["0"], *split["train"]["unlabeled"]["1"]]
    assert {named[name].patient for name in tested}.isdisjoint({named[name].patient for name in trained})
    assert sorted([*tested, *trained]) == sorted(named)
    assert (len(split["test"]["0"]), len(split["train"]["0"])) == (10, 20)
    assert [named[name].kind for name in split["test"]["1"]].count("glioma") == 5
    assert split == make_split(dict(reversed(named.items())), benchmark, seed=0)
    assert split != make_split(named, benchmark, seed=1)


def test_an_incomplete_download_and_a_bad_file_are_named(
    brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = run_cli(monkeypatch, capsys, "prepare", "brain-tumor", brain, tmp_path / "out")
    assert refused.code == 1
    assert "9 normal" in refused.err
    assert "Is the download complete?" in refused.err
    assert not (tmp_path / "out").exists()
    monkeypatch.setitem(BENCHMARKS, "brain-tumor", small("brain-tumor"))
    (brain / "Training" / "notumor" / "Tr-no-0-002.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    done = run_cli(monkeypatch, capsys, "prepare", "brain-tumor", brain, tmp_path / "out", "--json")
    assert done.code == 3
    assert "Tr-no-0-002.png" in done.err
    counts = {key: value for key, value in done.json.items() if "." in key}
    assert sum(counts.values()) == len(list((tmp_path / "out" / "images").iterdir())) == 15
    Cohort.from_benchmark(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")


def test_vindr_has_both_its_names_everywhere(monkeypatch, capsys, tmp_path: Path) -> None:
    for name in ("vindr", "vindr-cxr"):
        assert download_named(name)[1] is DOWNLOADS["vindr"][1]
        assert benchmark_named(name) is download_named(name)[0] is BENCHMARKS["vindr-cxr"]
    unknown = run_cli(monkeypatch, capsys, "prepare", "cxad", tmp_path, tmp_path / "out")
    assert unknown.code == 1
    assert "dataset: 'cxad' is unknown. Use one of rsna, vindr-cxr, lag, brain-tumor." in unknown.err


def test_hidden_and_broken_files_take_no_place_in_the_split(brain: Path, tmp_path: Path) -> None:
    for path in (brain / "Training" / "notumor").glob("*-00[012].png"):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7Mac OS X")
    clean = prepare(DOWNLOADS["brain-tumor"][1](brain), brain, tmp_path / "clean", small("brain-tumor"))
    assert not clean.skipped
    drawn = json.loads((tmp_path / "clean" / "data.json").read_text())
    (broken,) = brain.rglob(drawn["train"]["0"][0])
    broken.write_bytes(b"\x89PNG\r\n\x1a\nbroken")

    prepared = prepare(DOWNLOADS["brain-tumor"][1](brain), brain, tmp_path / "out", small("brain-tumor"))

    assert [skipped.path for skipped in prepared.skipped] == [broken]
    assert prepared.counts == clean.counts | {"train.unlabeled.0": clean.counts["train.unlabeled.0"] - 1}
    assert len(Cohort.from_benchmark(tmp_path / "out")) == 15
