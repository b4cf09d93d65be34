from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from ddad.errors import ImageError
from ddad.images.source_header import IDENTIFIERS, read_identifiers, read_source_header
from support import write_images, write_slice


def changed(path: Path, **elements: object) -> Path:
    data = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    data.save_as(path)
    return path


def test_dates_and_times_of_acr_nema_are_put_right_and_nonsense_is_left_out(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Invalid value"):
        path = changed(
            write_slice(tmp_path / "a.dcm", "ann", "1.2.3"), SeriesInstanceUID="1.2.4", StudyDate="1996.10.29",
            StudyTime="15:18:59", PatientBirthDate="unknown",
        )  # fmt: skip
    found = read_source_header(path)
    assert found is not None
    assert (found.data.StudyDate, found.data.StudyTime, found.data.PatientBirthDate) == ("19961029", "151859", "")
    assert found.data.ReferringPhysicianName == ""
    assert found.frame is None
    assert found.without_identity("ann, 19961029: refused") == "…, …: refused"


def test_a_source_that_no_object_can_refer_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the source lacks SeriesInstanceUID"):
        read_source_header(write_slice(tmp_path / "a.dcm", "ann", "1.2.3"))


def test_what_is_no_dicom_has_no_header_and_names_nobody(tmp_path: Path) -> None:
    picture = write_images(tmp_path / "png", 1)[0]
    assert read_source_header(picture) is None
    for path in (picture, tmp_path / "gone.dcm"):
        assert read_identifiers(path) == dict.fromkeys(IDENTIFIERS, "")


def test_identifiers_are_those_of_the_header(tmp_path: Path) -> None:
    found = read_identifiers(write_slice(tmp_path / "a.dcm", "ann", "1.2.3"))
    assert (found["patient_id"], found["study_uid"], found["accession_number"]) == ("ann", "1.2.3", "")
