"""Mixed folders: what is taken, and what is passed over and why."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from ddad.cohorts import Cohort, find_images
from ddad.cohorts.listing import list_images
from ddad.errors import CohortError, ImageError, SettingError
from ddad.images import Selection, read_image
from ddad.images import archive as archive_module
from support import write_images

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    folder = tmp_path / "mixed"
    write_images(folder / "png", 2)
    shutil.copy(BUNDLED / "CT_small.dcm", folder / "IM0001")
    shutil.copy(BUNDLED / "rtdose.dcm", folder / "dose.dcm")
    shutil.copy(BUNDLED / "dicomdirtests" / "DICOMDIR", folder / "DICOMDIR")
    (folder / "notes.txt").write_text("nothing")
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with zipfile.ZipFile(folder / "study.zip", "w") as archive:
        archive.write(BUNDLED / "MR_small.dcm", "series/IM1")
        archive.write(BUNDLED / "rtdose.dcm", "dose #1.dcm")
        archive.writestr("readme", "nothing")
        archive.writestr("inner.zip", b"PK")
        archive.write(folder / "png" / "image-0-000.png", "../evil.png")
    (folder / "loop").symlink_to(folder)
    for name in ("dangling.png", "dangling", ".#lock"):
        (folder / name).symlink_to(folder / "missing.png")
    return folder


def test_a_mixed_folder_is_read_and_what_is_passed_over_has_a_reason(mixed: Path) -> None:
    listing = list_images(mixed, "paths")

    names = [str(path.relative_to(mixed)) for path in listing.images]
    single = ["IM0001", "broken.png", "png/image-0-000.png", "png/image-0-001.png", "study.zip#series/IM1"]
    doses = [f"dose.dcm#{frame}" for frame in range(1, 16)]
    zipped = [f"study.zip#dose #1.dcm#{frame}" for frame in range(1, 16)]
    assert sorted(names) == sorted(single + doses + zipped)
    reasons = {str(file.path.relative_to(mixed)): file.reason for file in listing.passed_over}
    assert set(reasons) == {
        *(".hidden.png", ".#lock", "DICOMDIR", "notes.txt", "loop"),
        *("study.zip#readme", "study.zip#inner.zip"),
    }
    assert {str(file.path.relative_to(mixed)): file.reason for file in listing.skipped} == {
        "dangling.png": "a link that leads nowhere: mend or remove it",
        "dangling": "a link that leads nowhere: mend or remove it",
        "study.zip#../evil.png": "its name leads out of the archive: pack it anew",
    }
    assert reasons["loop"] == "a link to a folder: not followed"
    assert reasons["notes.txt"].startswith("not an image")
    zipped_image = read_image(mixed / "study.zip#series/IM1")
    assert zipped_image.source == str(mixed / "study.zip#series/IM1")
    np.testing.assert_array_equal(zipped_image.pixels, read_image(BUNDLED / "MR_small.dcm").pixels)
    assert read_image(mixed / "study.zip#dose #1.dcm#15").height == 10


def test_slices_can_be_selected(mixed: Path) -> None:
    dose = mixed / "dose.dcm"
    assert [path.name for path in find_images(dose, Selection("middle")).images] == ["dose.dcm#8"]
    every = find_images(dose, Selection("every:5")).images
    assert [path.name for path in every] == ["dose.dcm#3", "dose.dcm#8", "dose.dcm#13"]
    for wrong in ("every:0", "some", "every:x"):
        with pytest.raises(SettingError, match=r"--slices: .* Use all, middle, or every:N"):
            Selection(wrong)


def test_slices_of_a_file_are_one_group(mixed: Path) -> None:
    cohort = Cohort.from_folders(normal=mixed)
    groups = cohort.table.set_index("path")["group"]
    assert {groups[str(path)] for path in find_images(mixed / "dose.dcm").images} == {str(mixed / "dose.dcm")}
    # The copy in the archive is of the same patient.
    zipped = {groups[str(path)] for path in find_images(mixed / "study.zip").images if "#dose" in str(path)}
    assert zipped == {str(mixed / "dose.dcm")}
    assert groups[str(mixed / "study.zip#series/IM1")] != groups[str(mixed / "study.zip#dose #1.dcm#2")]


def test_the_fingerprint_does_not_depend_on_where_the_files_lie(mixed: Path, tmp_path: Path) -> None:
    before = Cohort.from_folders(normal=mixed).fingerprint()
    moved = mixed.rename(tmp_path / "moved")
    assert Cohort.from_folders(normal=moved).fingerprint() == before


def test_files_of_an_archive_may_have_numbers_for_names(tmp_path: Path) -> None:
    """As DICOM files often have; a number behind `#` is else that of a frame."""
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.write(BUNDLED / "MR_small.dcm", "0001")
        archive.write(BUNDLED / "CT_small.dcm", "IM#2")
        archive.write(BUNDLED / "rtdose.dcm", "0003")
        archive.write(BUNDLED / "dicomdirtests" / "DICOMDIR", "DICOMDIR")
    listing = find_images(tmp_path / "study.zip")
    frames = [f"study.zip#0003#{frame}" for frame in range(1, 16)]
    assert [path.name for path in listing.images] == ["study.zip#0001", *frames, "study.zip#IM#2"]
    assert [file.path.name for file in listing.passed_over] == ["study.zip#DICOMDIR"]
    assert listing.skipped == []
    for path, name in ((listing.images[0], "MR_small.dcm"), (listing.images[-1], "CT_small.dcm")):
        np.testing.assert_array_equal(read_image(path).pixels, read_image(BUNDLED / name).pixels)


def test_an_archive_is_opened_once_and_anew_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Counted(zipfile.ZipFile):
        def __init__(self, *arguments: Any) -> None:
            opened.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(archive_module.zipfile, "ZipFile", Counted)
    file = tmp_path / "study.zip"
    for count in (3, 5):
        with zipfile.ZipFile(file, "w") as archive:
            for number in range(count):
                archive.write(BUNDLED / "MR_small.dcm", f"series/{number}")
        opened.clear()
        listing = find_images(file)
        for path in listing.images:
            read_image(path)
        assert (len(listing.images), len(opened)) == (count, 1)


def test_a_file_that_may_not_be_looked_at_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder that may be listed and not entered."""
    write_images(tmp_path, 2)
    look = Path.is_file

    def denied(path: Path) -> bool:
        if path.name == "image-0-001.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(Path, "is_file", denied)
    listing = list_images(tmp_path, "paths")
    assert [path.name for path in listing.images] == ["image-0-000.png"]
    assert [file.reason for file in listing.skipped] == ["cannot be looked at (Permission denied)"]


def test_an_archive_without_files_is_passed_over(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    listing = find_images(tmp_path / "empty.zip")
    assert (listing.images, [file.reason for file in listing.passed_over]) == ([], ["an archive without files"])


@pytest.mark.usefixtures("mixed")
def test_slices_with_equal_pixels_in_one_file_are_no_copies(tmp_path: Path) -> None:
    manifest = tmp_path / "cohort.csv"
    manifest.write_text("path,role,group\nmixed/dose.dcm#1,normal,a\nmixed/dose.dcm#2,unlabeled,a\n")
    assert Cohort.from_manifest(manifest).warnings == ()


def test_an_archive_bomb_and_a_damaged_archive_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "LARGEST_BYTE_COUNT", 10**6)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\x89PNG\r\n\x1a\n" + bytes(10**7))
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4" + os.urandom(100))
    listing = list_images(tmp_path, "paths")
    assert [path.name for path in listing.images] == ["bomb.zip#bomb.png"]
    assert [(file.path.name, "damaged" in file.reason) for file in listing.skipped] == [("broken.zip", True)]
    with pytest.raises(ImageError, match="unpacks to more than 1000000 bytes"):
        read_image(listing.images[0])


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(CohortError, match="holds no images: 1 file in it is none"):
        find_images(tmp_path)
    with pytest.raises(CohortError, match="no image was named"):
        find_images([])


def test_a_named_file_is_taken_whatever_it_is(tmp_path: Path) -> None:
    assert find_images(tmp_path / "missing.png").images == [tmp_path / "missing.png"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.gif", b"GIF89a" + bytes(50)), ("x.bmp", b"BM" + bytes(50)), ("slide", b"RIFF0000WEBP" + bytes(50))],
)
def test_an_image_of_a_format_that_is_not_read_is_named_and_not_passed_over(
    tmp_path: Path, name: str, content: bytes
) -> None:
    write_images(tmp_path, 1)
    (tmp_path / name).write_bytes(content)
    (tmp_path / "BMI.txt").write_bytes(b"BMI,age\n22,40\n")
    listing = list_images(tmp_path, "--normal")
    assert tmp_path / name in listing.images
    assert [image.path.name for image in listing.passed_over] == ["BMI.txt"]
    with pytest.raises(ImageError, match="files are not read: convert it to PNG or TIFF"):
        read_image(tmp_path / name)


NOT_UTF8 = "its name is not UTF-8: rename the file, or its folder"


def test_a_name_that_is_not_utf8_is_skipped_and_can_be_written_down(tmp_path: Path) -> None:
    good, bad = write_images(tmp_path / "images", 2)
    bad = bad.rename(os.fsdecode(os.fsencode(tmp_path / "images") + b"/caf\xe9.png"))
    (tmp_path / "images" / os.fsdecode(b"caf\xe9.txt")).write_text("nothing")
    shown = tmp_path / "images" / "caf\\udce9.png"

    listing = list_images(tmp_path / "images", "normal")
    assert listing.images == [good]
    assert listing.skipped == [(shown, NOT_UTF8, False)]
    assert [file.path.name for file in listing.passed_over] == ["caf\\udce9.txt"]
    assert find_images([bad, good]).skipped == listing.skipped
    assert Cohort.from_folders(normal=tmp_path / "images").skipped == tuple(listing.skipped)

    good.unlink()
    with pytest.raises(CohortError, match=r"holds no image that can be taken\. Skipped: 1, the first: .*not UTF-8"):
        list_images(tmp_path / "images", "normal")


def test_a_split_that_lists_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (image,) = write_images(tmp_path / "images", 1)
    image.rename(tmp_path / "images" / os.fsdecode(b"caf\xe9.png"))
    lists = {"train": {"0": ["caf\udce9.png"], "unlabeled": {"0": [], "1": []}}, "test": {"0": [], "1": []}}
    (tmp_path / "data.json").write_text(json.dumps(lists))
    with pytest.raises(CohortError, match=r"udce9.png \(data.json, train.0\): its name is not UTF-8"):
        Cohort.from_benchmark(tmp_path)
