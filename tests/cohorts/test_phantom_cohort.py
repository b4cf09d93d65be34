from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from ddad.cohorts.phantom import draw_phantom, render_phantom
from ddad.cohorts.phantom_cohort import write_phantom
from ddad.errors import OutputError, SettingError


def small_cohort(folder: Path, *, normals: int = 4, seed: int = 0) -> Path:
    write_phantom(
        folder,
        normals=normals,
        unlabeled_normals=6,
        unlabeled_abnormals=6,
        test_normals=3,
        test_abnormals=5,
        size=64,
        seed=seed,
    )
    return folder


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    first = contents(small_cohort(tmp_path / "a"))
    assert first == contents(small_cohort(tmp_path / "b"))
    other = contents(small_cohort(tmp_path / "c", seed=1))
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if "masks" not in name and name.endswith("png"))


def test_manifest_and_files_tell_the_same_story(tmp_path: Path) -> None:
    rows = manifest(small_cohort(tmp_path))
    assert list(rows[0]) == ["path", "role", "label", "group", "mask"]
    listed = {row["path"] for row in rows} | {row["mask"] for row in rows if row["mask"]}
    assert listed | {"manifest.csv"} == contents(tmp_path).keys()
    kinds = [(row["role"], row["label"], bool(row["mask"])) for row in rows]
    assert kinds.count(("normal", "", False)) == 4
    assert kinds.count(("unlabeled", "", False)) == 12
    assert kinds.count(("test", "0", False)) == 3
    assert kinds.count(("test", "1", True)) == 5
    for row in rows:
        with Image.open(tmp_path / row["path"]) as image:
            assert (image.mode, image.size) == ("L", (64, 64))
        if row["mask"]:
            assert Path(row["mask"]).stem == Path(row["path"]).stem
            with Image.open(tmp_path / row["mask"]) as image:
                assert set(np.unique(np.asarray(image))) == {0, 255}


def test_patients_keep_to_one_role_and_images_are_all_different(tmp_path: Path) -> None:
    rows = manifest(small_cohort(tmp_path))
    for group in {row["group"] for row in rows}:
        assert len({(row["role"], row["label"]) for row in rows if row["group"] == group}) == 1
    assert len({(tmp_path / row["path"]).read_bytes() for row in rows}) == len(rows)


def test_unlabeled_names_and_patients_do_not_betray_the_label(tmp_path: Path) -> None:
    write_phantom(
        tmp_path,
        normals=0,
        unlabeled_normals=40,
        unlabeled_abnormals=40,
        test_normals=0,
        test_abnormals=0,
        size=48,
    )
    normals = {
        Image.fromarray(render_phantom(draw_phantom(0, 1_000_000 + i, abnormal=False), 48)[0]).tobytes()
        for i in range(40)
    }
    rows = manifest(tmp_path)
    abnormal = [Image.open(tmp_path / row["path"]).tobytes() not in normals for row in rows]
    assert sum(abnormal) == 40
    # Position in the list and number of the patient are as good as a coin: five sigma of 80 images.
    assert abs(float(roc_auc_score(abnormal, range(80))) - 0.5) < 0.33
    patients = [int(row["group"].split("-")[1]) for row in rows]
    assert abs(float(roc_auc_score(abnormal, patients)) - 0.5) < 0.33


def test_more_normals_leave_the_test_images_as_they_were(tmp_path: Path) -> None:
    few, many = contents(small_cohort(tmp_path / "a")), contents(small_cohort(tmp_path / "b", normals=7))
    assert all(few[name] == many[name] for name in few if name.startswith(("test", "masks", "unlabeled")))


def test_refusals_come_before_any_file(tmp_path: Path) -> None:
    target = tmp_path / "new"
    with pytest.raises(SettingError, match="size is 20"):
        write_phantom(target, size=20)
    with pytest.raises(SettingError, match="negative"):
        write_phantom(target, normals=-1)
    with pytest.raises(SettingError, match="seed -3"):
        write_phantom(target, seed=-3)
    assert not target.exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        write_phantom(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
