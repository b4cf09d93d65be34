from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddad.cohorts import Cohort
from ddad.errors import CohortError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index, name in enumerate("abcdef"):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def cohort_of(folder: Path, *lines: str, encoding: str = "utf-8") -> Cohort:
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding=encoding)
    return Cohort.from_manifest(manifest)


def test_all_columns_are_read_relative_to_the_manifest(folder: Path) -> None:
    cohort = cohort_of(
        folder,
        "path,role,label,group,mask",
        "images/a.png,normal,,anna,",
        "images/b.png,unlabeled,,,",
        f"{folder}/images/c.png,test,1,carl,images/d.png",
        "images/e.png,test,0.0,eve,",
        "images/f.png,test,,,",
    )
    assert cohort.name == "manifest"
    assert cohort.counts() == {"normal": 1, "unlabeled": 1, "test": 3, "test_normal": 1, "test_abnormal": 1}
    assert cohort.paths("normal") == [folder / "images" / "a.png"]
    table = cohort.table
    assert table["group"].tolist()[:3] == ["anna", str(folder / "images/b.png"), "carl"]
    assert table["mask"].dropna().tolist() == [str(folder / "images/d.png")]
    assert table["label"].isna().tolist() == [True, True, False, False, True]


def test_two_columns_in_any_order_will_do_also_from_a_spreadsheet(folder: Path) -> None:
    cohort = cohort_of(folder, "role, site ,path", "normal, here, images/a.png", "", encoding="utf-8-sig")
    assert len(cohort) == 1
    assert cohort.notes[0].endswith("columns that are not used: site.")


def test_known_abnormal_images_have_a_role(folder: Path) -> None:
    cohort = cohort_of(folder, "path,role,label", "images/a.png,abnormal,1", "images/b.png,abnormal,")
    assert cohort.counts()["abnormal"] == 2
    assert cohort.notes == ()
    with pytest.raises(CohortError, match="line 2: role is abnormal but label is 0"):
        cohort_of(folder, "path,role,label", "images/a.png,abnormal,0")


def test_labels_outside_the_test_set_are_not_used(folder: Path) -> None:
    cohort = cohort_of(folder, "path,role,label", "images/a.png,normal,0", "images/b.png,unlabeled,1")
    assert cohort.table["label"].isna().all()
    assert "labels of 2 images" in cohort.notes[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,role", "images/a.png,norml"], r"line 2: unknown role 'norml'\. Did you mean 'normal'\?"),
        (["path,role", "images/a.png,xyz"], r"line 2: unknown role 'xyz'\. Use normal, unlabeled, test"),
        (["path,role", "images/a.png,Test"], r"unknown role 'Test'\. Did you mean 'test'\?"),
        (
            ["path,role,label", "images/a.png,normal,", "images/b.png,test,2"],
            r"line 3: label is '2'; use 0 for normal, 1 for abnormal",
        ),
        (["path,role,label", "images/a.png,normal,1"], r"line 2: role is normal but label is 1"),
        (["path,role", ",normal"], r"line 2: path is empty"),
        (["path,role", "images/a.png"], r"line 2: has not as many cells"),
        (["path,role", "images/a.png,normal,more"], r"line 2: has not as many cells"),
        (["path", "images/a.png"], r"there is no column role; found: path"),
        (["path;role", "images/a.png;normal"], r"no column path and no column role; .*separated by commas"),
        (["path,role,path", "a,normal,b"], r"the column path stands there twice"),
        (["path,role"], r"names no images"),
        ([""], r"is empty\. Its first line names the columns"),
        (
            ["path,role", "images/a.png,normal", "images/a.png,normal"],
            r"named twice: .*a\.png \(manifest\.csv, line 2\) and .*a\.png \(manifest\.csv, line 3\)",
        ),
        (
            ["path,role", "images/a.png,normal", "images/../images/a.png,test"],
            r"both normal and test: .*line 2\) and .*line 3\)\. Leave it in one role",
        ),
        (
            ["path,role,group", "images/a.png,unlabeled,anna", "images/b.png,test,anna"],
            r"group 'anna' is in both training and test: .*a\.png .*line 2\) and .*b\.png .*line 3\)",
        ),
        (
            ["path,role", "images/a.png,normal", *(f"images/no{i}.png,normal" for i in range(5))],
            r"5 of 6 images are missing: .*no0\.png \(manifest\.csv, line 3\).* and 2 more",
        ),
        (["path,role,mask", "images/a.png,test,no.png"], r"1 of 1 masks are missing: .*no\.png"),
    ],
)
def test_bad_manifests_are_refused_with_the_line(folder: Path, lines: list[str], message: str) -> None:
    with pytest.raises(CohortError, match=message):
        cohort_of(folder, *lines)


def test_what_is_no_manifest_is_refused(folder: Path) -> None:
    with pytest.raises(CohortError, match="there is no such manifest"):
        Cohort.from_manifest(folder / "missing.csv")
    with pytest.raises(CohortError, match="is a folder"):
        Cohort.from_manifest(folder)
    with pytest.raises(CohortError, match="is not UTF-8 text"):
        Cohort.from_manifest(folder / "images" / "a.png")
