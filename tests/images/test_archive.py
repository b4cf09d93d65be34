"""Files within ZIP archives: how often they are unpacked, and that no copy stays behind."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddad.cohorts import find_images
from ddad.errors import ImageError, OutputError
from ddad.images import archive as archive_module
from ddad.images import read_image

VOLUME = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)


def save_volume(values: NDArray[np.float32], path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)  # type: ignore[no-untyped-call]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of three volumes and a picture; copies go to `tmp_path / "copies"`."""
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    picture = io.BytesIO()
    Image.linear_gradient("L").save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name in "abc":
            save_volume(VOLUME, tmp_path / f"{name}.nii.gz")
            file.write(tmp_path / f"{name}.nii.gz", f"{name}.nii.gz")
        file.writestr("picture.png", picture.getvalue())
        file.writestr("broken.nii.gz", b"no volume")
    return tmp_path / "study.zip"


def test_slices_of_one_volume_are_read_from_one_copy(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = zipfile.ZipFile.open

    def counted(self: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
        opened.append(info.filename)
        return real(self, info)

    monkeypatch.setattr(zipfile.ZipFile, "open", counted)
    addresses = [f"{archive}#a.nii.gz#{number}" for number in (1, 2, 3, 4)] * 3
    with ThreadPoolExecutor(4) as threads:
        slices = list(threads.map(read_image, addresses))
    alone = [read_image(f"{archive.parent}/a.nii.gz#{number}") for number in (1, 2, 3, 4)] * 3
    for one, other in zip(slices, alone, strict=True):
        assert (one.pixels == other.pixels).all()
    assert opened == ["a.nii.gz"]


def test_two_copies_at_most_are_kept_and_none_of_single_images(archive: Path) -> None:
    copies = archive.parent / "copies"
    read_image(f"{archive}#picture.png")
    assert not list(copies.iterdir())
    for name in "abc":
        read_image(f"{archive}#{name}.nii.gz#2")
    assert len(list(copies.iterdir())) == 2
    with pytest.raises(ImageError, match=r"study\.zip#broken\.nii\.gz#1"):
        read_image(f"{archive}#broken.nii.gz#1")
    archive_module._kept_copy.cache_clear()
    assert not list(copies.iterdir())


def test_a_full_disk_for_copies_is_not_the_archives_fault(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images would be skipped as damaged, some in one run and others in the next."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    monkeypatch.setattr(
        tempfile, "mkstemp", lambda suffix: (os.open("/dev/full", os.O_WRONLY), str(archive.parent / f"copy{suffix}"))
    )
    for address in (f"{archive}#picture.png", f"{archive}#b.nii.gz#2"):
        with pytest.raises(OutputError, match=f"{tempfile.gettempdir()}: the disk is full"):
            read_image(address)


def test_names_that_are_no_tidy_paths_are_found(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.linear_gradient("L").save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as file:
        for name in ("d//x.png", "./y.png"):
            file.writestr(name, picture.getvalue())
    listing = find_images([tmp_path / "odd.zip"])
    assert [read_image(path).pixels.shape for path in listing.images] == [(256, 256, 1)] * 2
    with pytest.raises(ImageError, match="there is no such file in the archive"):
        read_image(f"{tmp_path}/odd.zip#d/z.png")


def test_an_archive_that_changes_is_unpacked_again(archive: Path, tmp_path: Path) -> None:
    before = read_image(f"{archive}#a.nii.gz#1")
    save_volume(VOLUME + 1000, tmp_path / "a.nii.gz")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(tmp_path / "a.nii.gz", "a.nii.gz")
    after = read_image(f"{archive}#a.nii.gz#1")
    assert after.pixels.min() >= 1000 > before.pixels.max()
    archive_module._kept_copy.cache_clear()


def test_an_archive_that_is_gone_is_named(archive: Path) -> None:
    address = f"{archive}#a.nii.gz#1"
    read_image(address)
    archive.unlink()
    with pytest.raises(ImageError, match=r"study\.zip"):
        read_image(address)
