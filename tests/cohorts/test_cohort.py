from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from ddad.cohorts import Cohort, Role, read_mask
from ddad.cohorts.seen import seen_in_fit
from ddad.errors import CohortError, ImageError
from support import RecordedProgress


def write_images(folder: Path, *names: str) -> Path:
    """Images that all differ; the same name in the same folder gives the same bytes."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(map(ord, folder.name + name))
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 20), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {
        "normal": write_images(tmp_path / "normal", "b.png", "a.png", "deep/er/c.tif"),
        "unlabeled": write_images(tmp_path / "unlabeled", "d.png", "e.jpg"),
        "test_normal": write_images(tmp_path / "well", "f.png"),
        "test_abnormal": write_images(tmp_path / "sick", "g.png", "h.png"),
        "test_masks": write_images(tmp_path / "masks", "g.png", "x/h.tif"),
    }


def test_folders_become_rows(folders: dict[str, Path]) -> None:
    cohort = Cohort.from_folders(**folders)
    assert list(cohort.table.columns) == ["path", "role", "label", "group", "mask"]
    assert cohort.counts() == {
        "normal": 3,
        "unlabeled": 2,
        "test": 3,
        "test_normal": 1,
        "test_abnormal": 2,
    }
    assert len(cohort) == 8
    names = [path.relative_to(folders["normal"]).as_posix() for path in cohort.paths("normal")]
    assert names == ["a.png", "b.png", "deep/er/c.tif"]
    assert cohort.paths(Role.TEST, 1) == [folders["test_abnormal"] / name for name in ("g.png", "h.png")]
    assert cohort.of(Role.TEST, 1)["mask"].tolist() == [
        str(folders["test_masks"] / name) for name in ("g.png", "x/h.tif")
    ]
    assert cohort.of("normal")[["label", "mask"]].isna().all(axis=None)
    assert (cohort.table["group"] == cohort.table["path"]).all()
    assert cohort.notes == ()


def test_normals_alone_and_several_folders_are_ordinary(folders: dict[str, Path]) -> None:
    assert Cohort.from_folders(normal=str(folders["normal"])).counts()["unlabeled"] == 0
    assert len(Cohort.from_folders(normal=[folders["normal"], str(folders["unlabeled"])])) == 5


def test_paths_with_spaces_and_other_alphabets(tmp_path: Path) -> None:
    cohort = Cohort.from_folders(normal=write_images(tmp_path / "Köpfe 脳 [1]", "ä b.PNG", "ü.png"))
    assert [path.name for path in cohort.paths("normal")] == ["ä b.PNG", "ü.png"]


def test_other_files_are_left_out_and_counted(folders: dict[str, Path]) -> None:
    write_images(folders["normal"], ".hidden.png", ".cache/thumb.png")
    (folders["normal"] / "notes.txt").write_text("mine")
    cohort = Cohort.from_folders(normal=folders["normal"])
    assert len(cohort) == 3
    assert cohort.notes == (f"{folders['normal']}: 3 files left out, hidden or no image.",)


def test_bad_folders_are_named(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(CohortError, match=r"normal: .*nowhere does not exist"):
        Cohort.from_folders(normal=tmp_path / "nowhere")
    with pytest.raises(CohortError, match=r"unlabeled: .*a\.png is a file\. Name the folder"):
        Cohort.from_folders(unlabeled=folders["normal"] / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"normal: .*empty holds no images: it is empty"):
        Cohort.from_folders(normal=tmp_path / "empty")
    (tmp_path / "empty" / "a.docx").touch()
    with pytest.raises(CohortError, match="1 file in it is none"):
        Cohort.from_folders(normal=tmp_path / "empty")
    with pytest.raises(CohortError, match="No folder was named"):
        Cohort.from_folders()


def test_a_file_has_one_role_and_one_row(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(CohortError, match=r"both normal and unlabeled: .*c\.tif.*Leave it in one role"):
        Cohort.from_folders(normal=folders["normal"], unlabeled=folders["normal"] / "deep")
    (tmp_path / "link").symlink_to(folders["normal"])
    with pytest.raises(CohortError, match="both normal and test"):
        Cohort.from_folders(normal=folders["normal"], test_normal=tmp_path / "link")
    with pytest.raises(CohortError, match="named twice"):
        Cohort.from_folders(normal=[folders["normal"], folders["normal"] / "deep"])


def test_links_to_one_file_count_once_in_a_folder(tmp_path: Path) -> None:
    store = write_images(tmp_path / "store", "a.png", "b.png")
    folder = tmp_path / "normal"
    folder.mkdir()
    for name, target in (("1.png", "a.png"), ("2.png", "b.png"), ("3.png", "a.png")):
        (folder / name).symlink_to(store / target)
    cohort = Cohort.from_folders(normal=folder)
    assert [path.name for path in cohort.paths(Role.NORMAL)] == ["1.png", "2.png"]
    assert f"{folder}: 1 image left out: other names of images that are there already." in cohort.warnings


def test_links_to_one_file_of_several_images_count_once(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 20, 20), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    (tmp_path / "normal").mkdir()
    for name in ("1.tif", "2.tif"):
        (tmp_path / "normal" / name).symlink_to(tmp_path / "stack.tif")
    cohort = Cohort.from_folders(normal=tmp_path / "normal")
    assert [path.name for path in cohort.paths(Role.NORMAL)] == ["1.tif#1", "1.tif#2", "1.tif#3"]
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "3.tif").symlink_to(tmp_path / "stack.tif")
    with pytest.raises(CohortError, match="both normal and test"):
        Cohort.from_folders(normal=tmp_path / "normal", test_normal=tmp_path / "test")


def test_an_image_with_two_names_keeps_the_mask_of_either(tmp_path: Path) -> None:
    store = write_images(tmp_path / "store", "a.png")
    (tmp_path / "sick").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "sick" / name).symlink_to(store / "a.png")
    masks = write_images(tmp_path / "masks", "2.png")
    cohort = Cohort.from_folders(test_abnormal=tmp_path / "sick", test_masks=masks)
    assert cohort.table[["path", "mask"]].to_numpy().tolist() == [
        [str(tmp_path / "sick" / "1.png"), str(masks / "2.png")]
    ]


@pytest.mark.parametrize("suffix", ["", ".png"])
def test_masks_of_images_that_are_named_by_uids(tmp_path: Path, suffix: str) -> None:
    images = write_images(tmp_path / "images", "a.png", "b.png", "c.png")
    masks = write_images(tmp_path / "masks", "a.png", "b.png")
    for old, new in (("a.png", "1.2.840.1"), ("b.png", "1.2.840.2"), ("c.png", "1.2.840")):
        (images / old).rename(images / new)
        if old != "c.png":
            (masks / old).rename(masks / f"{new}{suffix}")
    cohort = Cohort.from_folders(test_abnormal=images, test_masks=masks)
    found = {Path(path).name: mask for path, mask in zip(cohort.table["path"], cohort.table["mask"], strict=True)}
    assert pd.isna(found.pop("1.2.840"))
    assert found == {name: str(masks / f"{name}{suffix}") for name in ("1.2.840.1", "1.2.840.2")}


def test_masks_must_match_and_be_unambiguous(tmp_path: Path, folders: dict[str, Path]) -> None:
    sick = folders["test_abnormal"]
    spare = write_images(tmp_path / "spare", "g.png", "other.png")
    cohort = Cohort.from_folders(test_abnormal=sick, test_masks=spare)
    assert cohort.notes[0].startswith("1 mask belongs to no abnormal test image: ")
    assert cohort.notes[1] == "1 abnormal test image has no mask."
    with pytest.raises(CohortError, match=r"1 mask, none of which bears the name"):
        Cohort.from_folders(test_abnormal=sick, test_masks=write_images(tmp_path / "wrong", "q.png"))
    with pytest.raises(CohortError, match=r"unclear which image and mask belong together.*g\.png"):
        Cohort.from_folders(test_abnormal=sick, test_masks=write_images(tmp_path / "twice", "1/g.png", "2/g.png"))
    # The same place below both folders settles it.
    pairs = write_images(tmp_path / "pairs", "1/g.png", "2/g.png")
    masks = write_images(tmp_path / "pair-masks", "1/g.png", "2/g.png")
    cohort = Cohort.from_folders(test_abnormal=pairs, test_masks=masks)
    assert cohort.table["mask"].tolist() == [str(masks / "1/g.png"), str(masks / "2/g.png")]


def test_copies_between_roles_are_warned_of_not_refused(folders: dict[str, Path]) -> None:
    shutil.copy(folders["normal"] / "a.png", folders["test_normal"] / "z.png")
    shutil.copy(folders["normal"] / "b.png", folders["unlabeled"] / "z.png")
    cohort = Cohort.from_folders(**folders)
    leak, overlap = cohort.warnings
    assert leak.startswith("1 test image has an exact copy among the normal images")
    assert f"{folders['test_normal'] / 'z.png'} = {folders['normal'] / 'a.png'}" in leak
    assert overlap.startswith("1 unlabeled image has an exact copy among the normal images")
    del folders["test_normal"], folders["unlabeled"]
    assert Cohort.from_folders(**folders).warnings == ()


def test_listing_and_reading_are_seen(folders: dict[str, Path]) -> None:
    progress = RecordedProgress()
    cohort = Cohort.from_folders(normal=folders["normal"], unlabeled=folders["unlabeled"], progress=progress)
    cohort.fingerprint(progress)
    cohort.fingerprint(progress)
    assert [task.title for task in progress.tasks] == [
        "listing normal", "listing unlabeled", "grouping by patient", "fingerprinting files"
    ]  # fmt: skip
    assert all(task.done == task.total > 0 for task in progress.tasks)
    assert progress.tasks[-1].total == len(cohort)


def test_a_file_of_many_slices_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "n"
    folder.mkdir()
    pages = np.random.default_rng(0).integers(0, 255, (5, 16, 16), dtype=np.uint8)
    tifffile.imwrite(folder / "stack.tif", pages, photometric="minisblack")
    progress = RecordedProgress()
    cohort = Cohort.from_folders(normal=folder, progress=progress)
    assert len(cohort) == 5
    opened: list[str] = []
    file_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: opened.append(file.name) or file_digest(file, name))
    cohort.fingerprint(progress)
    assert opened == [str(folder / "stack.tif")]
    assert len(set(cohort.digests(Role.NORMAL))) == 6  # the slices and the whole file
    assert [task.total for task in progress.tasks] == [1, 1, 1]


def test_fingerprint_follows_content_and_roles_not_places(tmp_path: Path, folders: dict[str, Path]) -> None:
    keep = {name: folders[name] for name in ("normal", "unlabeled")}
    first = Cohort.from_folders(**keep).fingerprint()
    assert len(first) == 64
    moved = {name: Path(shutil.copytree(folder, tmp_path / "moved" / name)) for name, folder in keep.items()}
    assert Cohort.from_folders(**moved).fingerprint() == first
    swapped = Cohort.from_folders(normal=moved["unlabeled"], unlabeled=moved["normal"])
    assert swapped.fingerprint() != first
    write_images(moved["normal"] / "x", "a.png")
    (moved["normal"] / "x" / "a.png").replace(moved["normal"] / "a.png")
    assert Cohort.from_folders(**moved).fingerprint() != first


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("role", "healthy", "role is 'healthy'; use normal, unlabeled, test"),
        ("label", 2, "label is 2; use 0 for normal, 1 for abnormal"),
        ("label", 1, "has a label but its role is normal"),
        ("mask", "nowhere.png", "1 of 1 masks are missing: nowhere.png"),
        ("path", "nowhere.png", "1 of 3 images are missing: nowhere.png"),
    ],
)
def test_tables_made_by_hand_are_validated(
    folders: dict[str, Path], column: str, value: str | int, message: str
) -> None:
    table = Cohort.from_folders(normal=folders["normal"]).table.copy()
    table.loc[0, column] = value
    with pytest.raises(CohortError, match=message):
        Cohort(table, "by hand").validate()


def test_tables_need_their_columns_and_rows(folders: dict[str, Path]) -> None:
    table = Cohort.from_folders(normal=folders["normal"]).table
    with pytest.raises(CohortError, match="they must be path, role, label, group, mask"):
        Cohort(table.drop(columns="mask"), "by hand").validate()
    with pytest.raises(CohortError, match="holds no images"):
        Cohort(pd.DataFrame(columns=table.columns), "by hand").validate()


def test_masks_are_what_is_not_zero(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), bool)
    mask[4:8, 10:20] = True
    for stored in (
        mask,
        mask.astype(np.uint8),
        mask.astype(np.uint8) * 255,
        np.dstack([mask * np.uint8(9)] * 3),
    ):
        Image.fromarray(stored).save(tmp_path / "mask.png")
        assert (read_mask(tmp_path / "mask.png") == mask).all()
    doubled = read_mask(tmp_path / "mask.png", (40, 60))
    assert (doubled == np.kron(mask, np.ones((2, 2), bool))).all()
    Image.new("L", (5, 5)).save(tmp_path / "empty.png")
    assert not read_mask(tmp_path / "empty.png").any()
    with pytest.raises(ImageError, match="no such file"):
        read_mask(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="of another shape, 5×5 pixels where the image has 10×5"):
        read_mask(tmp_path / "empty.png", (5, 10))


def test_copies_in_an_archive_are_exact_copies(tmp_path: Path) -> None:
    normal = write_images(tmp_path / "normal", *(f"{number}.png" for number in range(6)))
    others = write_images(tmp_path / "others", "x.png", "y.png")
    (tmp_path / "test").mkdir()
    with zipfile.ZipFile(tmp_path / "test" / "test.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in [*sorted(normal.iterdir())[:4], *sorted(others.iterdir())]:
            file.write(path, path.name)
    cohort = Cohort.from_folders(normal=tmp_path / "normal", test_normal=tmp_path / "test")
    (warning,) = cohort.warnings
    assert "4 test images have an exact copy among the normal images" in warning
    known = cohort.digests(Role.NORMAL)
    assert seen_in_fit(cohort, cohort.of(Role.TEST), {"digests": known}).copies.tolist() == [True] * 4 + [False] * 2
