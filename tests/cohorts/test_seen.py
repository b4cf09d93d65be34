from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ddad.cohorts import Cohort, Role
from ddad.cohorts.seen import pixel_digest, pixel_digests, seen_in_fit
from ddad.images import Selection
from support import RecordedProgress, write_images


def write_stack(path: Path, seed: int, pages: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stack = np.random.default_rng(seed).integers(0, 255, (pages, 16, 16)).astype(np.uint8)
    tifffile.imwrite(path, stack, photometric="minisblack")
    return path


def counted(fit: Cohort, others: Cohort) -> tuple[int, int, int]:
    seen = seen_in_fit(others, others.of(Role.NORMAL), {"digests": fit.digests(Role.NORMAL, Role.UNLABELED)})
    assert not (seen.copies & seen.slices).any()
    assert not (seen.related & (seen.copies | seen.slices)).any()
    return int(seen.copies.sum()), int(seen.slices.sum()), int(seen.related.sum())


def test_other_slices_of_a_file_are_seen(tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "fit" / "a.tif", 0)
    few = Cohort.from_folders(normal=stack.parent, selection=Selection("every:3"))
    assert len(few) == 2
    elsewhere = tmp_path / "calibrate" / "renamed.tif"
    write_stack(tmp_path / "calibrate" / "new.tif", 1)
    shutil.copy(stack, elsewhere)
    assert counted(few, Cohort.from_folders(normal=elsewhere.parent)) == (2, 4, 0)
    by_an_earlier_version = [few.digest(str(path))[:16] for path in few.paths(Role.NORMAL)]
    cohort = Cohort.from_folders(normal=elsewhere.parent)
    seen = seen_in_fit(cohort, cohort.of(Role.NORMAL), {"digests": by_an_earlier_version})
    assert (seen.copies.sum(), seen.slices.sum(), seen.related.sum()) == (2, 0, 4)  # their group tells


def test_files_of_one_archive_are_not_slices_of_one_file(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 6)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for image in images:
            file.write(image, image.name)
    manifests = []
    for name, members in (("fit", images[:2]), ("calibrate", images[1:])):
        manifest = tmp_path / f"{name}.csv"
        manifest.write_text("path,role\n" + "".join(f"all.zip#{image.name},normal\n" for image in members))
        manifests.append(Cohort.from_manifest(manifest))
    assert counted(*manifests) == (1, 0, 0)


def test_what_shares_a_group_with_a_seen_image_is_seen(tmp_path: Path) -> None:
    images = write_images(tmp_path, 6)
    fit, manifest = Cohort.from_folders(normal=write_images(tmp_path / "fit", 2)[0].parent), tmp_path / "m.csv"
    rows = [f"{image},normal,{patient}" for image, patient in zip(images, "aabbcc", strict=True)]
    manifest.write_text("\n".join(["path,role,group", *rows]))
    given = Cohort.from_manifest(manifest)
    assert counted(fit, given) == (2, 0, 0)  # of one seed: both images of patient a
    shutil.copy(fit.paths(Role.NORMAL)[0], images[3])
    fresh = Cohort.from_manifest(manifest)
    seen = seen_in_fit(fresh, fresh.of(Role.NORMAL), {"digests": fit.digests(Role.NORMAL)})
    assert seen.any.tolist() == [True, True, True, True, False, False]
    assert seen.counted() == (
        "3 exact copies of images that the model was fitted on, 1 in a group (patient) with such images"
    )


def test_all_files_are_read_in_one_go_with_a_bar(tmp_path: Path) -> None:
    cohort = Cohort.from_folders(normal=write_images(tmp_path, 6)[0].parent)
    progress = RecordedProgress()
    seen_in_fit(cohort, cohort.of(Role.NORMAL), {}, progress=progress)
    assert [(task.total, task.done) for task in progress.tasks] == [(6, 6)]


@pytest.mark.parametrize("role", [Role.NORMAL, Role.UNLABELED])
def test_a_file_that_cannot_be_read_is_no_copy_of_another(tmp_path: Path, role: Role) -> None:
    cohorts = []
    for name in ("fit", "calibrate"):
        images = write_images(tmp_path / name, 3, seed=len(name))
        cohorts.append(Cohort.from_folders(**{role.value: images[0].parent}))
        images[0].unlink()
    fit, others = cohorts
    assert len(fit.digests(role)) == 2
    assert not seen_in_fit(others, others.of(role), {"digests": fit.digests(role)}).any.any()


def test_an_image_saved_anew_or_mirrored_is_seen_and_what_belongs_to_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (4, 1, 8, 8)).astype(np.float32)
    given = Cohort.from_folders(normal=write_images(tmp_path, 5)[0].parent)
    table = given.of(Role.NORMAL).assign(group=["p", "q", "r", "r", "s"])
    in_eight_bits = np.rint((pixels[0] + 1) * 127.5) / 127.5 - 1
    changed = pixels[3].copy()
    changed[0, 0, 0] -= np.sign(changed[0, 0, 0]) * 0.5
    looks = [in_eight_bits.astype(np.float32), pixels[1][..., ::-1], pixels[2], changed, pixels[3][:, ::-1]]
    digests = dict(zip(table["path"], map(pixel_digest, looks), strict=True))
    seen = seen_in_fit(given, table, {"pixel_digests": pixel_digests([pixels[:2], pixels[2:]])}, digests)
    assert seen.resaved.tolist() == [True, True, True, False, False]
    assert seen.related.tolist() == [False, False, False, True, False]
    assert seen.counted() == (
        "3 that show the same as one of the fit, saved anew or mirrored, 1 in a group (patient) with such images"
    )
