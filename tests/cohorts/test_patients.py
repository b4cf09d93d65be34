from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ddad.cohorts import Cohort, Role
from ddad.cohorts.patients import find_groups
from ddad.cohorts.rows import Row
from ddad.images import read_image
from support import write_images, write_slice


def rows(*paths: Path, role: Role = Role.NORMAL) -> list[Row]:
    return [Row(path, role, str(path)) for path in paths]


def test_files_of_a_patient_are_a_group_named_for_the_first(tmp_path: Path) -> None:
    paths = [
        write_slice(tmp_path / f"{number}.dcm", patient, f"1.2.{number}")
        for number, patient in enumerate(["ann", "bob", "ann", "ann"])
    ]
    groups, torn, notes = find_groups(rows(*paths))
    assert groups == [str(paths[index]) for index in (0, 1, 0, 0)]
    assert not torn
    assert not notes
    assert not any("ann" in group for group in (Path(name).name for name in groups))


def test_one_identifier_for_all_means_that_studies_are_the_groups(tmp_path: Path) -> None:
    paths = [
        write_slice(tmp_path / f"{number}.dcm", "ANONYMOUS", study)
        for number, study in enumerate(["1.2.1", "1.2.1", "1.2.2"])
    ]
    assert find_groups(rows(*paths))[0] == [str(paths[index]) for index in (0, 0, 2)]


def test_identifiers_of_many_studies_are_placeholders_and_others_are_patients(tmp_path: Path) -> None:
    """Sites anonymise each in its own way; one real identifier among them does not make patients of the others."""
    counts = {"ANON": 30, "ANONYMOUS": 25, "ann": 20}
    studies = [(patient, number) for patient, count in counts.items() for number in range(count)]
    paths = [
        write_slice(tmp_path / f"{patient}-{number}-{half}.dcm", patient, f"1.2.{len(patient)}.{number}")
        for patient, number in studies
        for half in range(2)
    ]
    groups, torn, notes = find_groups(rows(*paths))
    assert len(set(groups)) == 30 + 25 + 1
    assert not torn
    assert len(notes) == 1
    assert notes[0].startswith(f"2 patient identifiers of 110 DICOM files, e.g. {paths[0]}, have more than 20 studies")
    assert "ann" not in notes[0].replace(str(tmp_path), "").split()
    assert find_groups(rows(*paths[110:], paths[0]))[2] == []


def test_a_placeholder_on_both_sides_tears_no_patient(tmp_path: Path) -> None:
    paths = [write_slice(tmp_path / f"{number}.dcm", "ANON", f"1.2.{number}") for number in range(30)]
    sides = [*rows(*paths[:20]), *rows(*paths[20:], role=Role.TEST), *rows(write_slice(tmp_path / "a", "ann", "1.3"))]
    groups, torn, notes = find_groups(sides)
    assert len(set(groups)) == 31
    assert not torn
    assert [note.partition(",")[0] for note in notes] == ["1 patient identifier of 30 DICOM files"]


def test_files_that_name_nobody_stand_alone(tmp_path: Path) -> None:
    paths = [write_slice(tmp_path / f"{number}.dcm", None, None) for number in range(2)]
    picture = write_images(tmp_path / "png", 1)[0]
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 20)
    every = [*paths, Path(picture), broken]
    assert find_groups(rows(*every))[0] == [str(path) for path in every]


def test_a_group_that_was_given_stands(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", "ann", "1.2.1")
    other = write_slice(tmp_path / "b.dcm", "ann", "1.2.1")
    given = [Row(path, Role.NORMAL, "a", group="mine"), Row(other, Role.NORMAL, "b")]
    assert find_groups(given)[0] == ["mine", str(other)]


@pytest.mark.parametrize("patients", [("ann", "ann", "bob"), ("same", "same", "same")])
def test_a_patient_in_training_and_test_is_said_and_not_refused(tmp_path: Path, patients: tuple[str, ...]) -> None:
    for name, patient in zip(("normal/0", "test/1", "test/2"), patients, strict=True):
        write_slice(tmp_path / f"{name}.dcm", patient, "1.2.9")
    cohort = Cohort.from_folders(normal=tmp_path / "normal", test_normal=tmp_path / "test")
    assert any("in both training and test" in note for note in cohort.notes)
    sides = cohort.table.groupby("group")["role"].nunique()
    assert (sides == 1).all()
    test, training = cohort.of("test")["group"].iloc[0], cohort.of("normal")["group"].iloc[0]
    assert cohort.torn_patients == {test: training}


def test_the_fingerprint_of_groups_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    fingerprints = set()
    for folder in ("here", "there"):
        for number in range(3):
            write_slice(tmp_path / folder / f"{number}.dcm", f"p{number // 2}", "1.2.1")
    for number in range(3):
        content = (tmp_path / "here" / f"{number}.dcm").read_bytes()
        (tmp_path / "there" / f"{number}.dcm").write_bytes(content)
    for folder in ("here", "there"):
        fingerprints.add(Cohort.from_folders(normal=tmp_path / folder).fingerprint())
    assert len(fingerprints) == 1


def test_written_slices_have_the_same_pixels_in_every_process(tmp_path: Path) -> None:
    """Python salts its hash of text anew in each process; pixels that differ from run to run make tests that do."""
    path = write_slice(tmp_path / "a.dcm", "ann", "1.2.1")
    assert read_image(path).pixels[0, :4, 0].tolist() == [114, 19, 44, 134]


def test_folders_that_may_be_patients_are_said_to_be_no_groups(tmp_path: Path) -> None:
    for patient in range(10):
        write_images(tmp_path / "normal" / f"patient{patient}", 3, seed=patient)
    cohort = Cohort.from_folders(normal=tmp_path / "normal")
    assert cohort.of(Role.NORMAL)["group"].nunique() == 30
    (note,) = cohort.warnings
    assert note.startswith("30 files lie in 10 folders of 2 to 20, e.g. ")
    assert "column group of a manifest" in note
    shutil.rmtree(tmp_path / "normal" / "patient0")
    assert Cohort.from_folders(normal=tmp_path / "normal").warnings == ()
