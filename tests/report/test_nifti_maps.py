"""Maps of NIfTI sources: at the place, and with the affine, of the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from ddad.images import Placement, expand, read_image
from ddad.images.nifti_axes import CanonicalAxes
from ddad.model import Finding
from ddad.recipe_sections import Preprocessing
from ddad.report.nifti_maps import NiftiMaps

SHAPE = (19, 26, 17)
LESION = (slice(11, 15), slice(6, 10), slice(7, 10))
"""In the array of the file, whatever its orientation."""

AFFINES = {
    "RAS": np.diag([2.0, 2.0, 3.0, 1.0]),
    "LPS": np.array([[-2.0, 0, 0, 30], [0, -2, 0, 40], [0, 0, 3, -5], [0, 0, 0, 1]]),
    "SLA": np.array([[0.0, -2, 0, 9], [0, 0, 3, 8], [2, 0, 0, 7], [0, 0, 0, 1]]),
    "PIR": np.array([[0.0, 0, 3, 9], [-2, 0, 0, 8], [0, -2, 0, 7], [0, 0, 0, 1]]),
    "tilted": np.array([[1.9, -0.6, 0, 9], [0.6, 1.9, 0.3, 8], [-0.1, -0.2, 3, 7], [0, 0, 0, 1]]),
}


def write_volume(path: Path, affine: np.ndarray[Any, Any], shape: tuple[int, ...] = SHAPE) -> Path:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 50, shape).astype(np.int16)
    values[LESION] = 1000
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def finding_of(address: str | Path, aspect: str) -> Finding:
    """A map of 32×32 that is bright where the slice is, as a network's that finds the lesion."""
    image = read_image(address)
    placement = Placement.of((image.height, image.width), aspect)
    shown = placement.cut((image.pixels[..., 0] > 500).astype(np.float32))
    score_map = np.asarray(Image.fromarray(shown).resize((32, 32), Image.Resampling.BOX))
    preprocessing = Preprocessing.model_validate({"aspect": aspect})
    settings: dict[str, Any] = {"p_value": None, "flagged": None, "warnings": (), "preprocessing": preprocessing}
    pixels = np.zeros((1, 32, 32), np.float32)
    size = (image.height, image.width)
    return Finding(
        str(address), 1.0, scores={"r": 1.0}, maps={"r": score_map}, pixels=pixels, source_size=size, **settings
    )


@pytest.mark.parametrize("aspect", ["squash", "pad", "crop"])
@pytest.mark.parametrize("orientation", AFFINES)
def test_a_lesion_comes_back_at_its_place(tmp_path: Path, orientation: str, aspect: str) -> None:
    path = write_volume(tmp_path / "brain.nii.gz", AFFINES[orientation])
    files = expand(path)
    maps = NiftiMaps(tmp_path / "out", files, "r", (0.0, 2.0))
    for file in files:
        assert maps.write(finding_of(file, aspect)) is None
    maps.finish()

    found = nibabel.load(tmp_path / "out" / "000000_brain_map.nii.gz")
    source = nibabel.load(path)
    values = np.asarray(found.dataobj)
    assert values.shape == SHAPE
    assert values.dtype == np.float32
    np.testing.assert_array_equal(found.affine, source.affine)
    assert found.header.get_sform(coded=True)[1] == source.header.get_sform(coded=True)[1]
    assert (found.header["cal_min"], found.header["cal_max"]) == (0, 2)
    lesion = np.zeros(SHAPE, bool)
    lesion[LESION] = True
    # Half of the lesion is lit or more; nothing two voxels beyond it is.
    bright = np.nan_to_num(values) > 0.5
    assert (bright & lesion).sum() >= lesion.sum() / 2
    near = np.zeros(SHAPE, bool)
    near[9:17, 4:12, 5:12] = True
    assert not (bright & ~near).any()
    centre = np.array(np.nonzero(bright)).mean(axis=1)
    np.testing.assert_allclose(centre, [12.5, 7.5, 8.0], atol=0.75)
    assert np.isnan(values).any() == (aspect == "crop")


def test_slices_that_were_not_scored_are_nan(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "brain.nii", AFFINES["LPS"])
    files = expand(path)[2:4]
    first = NiftiMaps(tmp_path / "out", files, "r", (0.0, 1.0))
    assert first.write(finding_of(files[0], "squash")) is None
    # A run that was killed goes on with another object.
    second = NiftiMaps(tmp_path / "out", files, "r", (0.0, 1.0))
    assert second.write(finding_of(files[1], "squash")) is None
    second.finish()
    values = np.asarray(nibabel.load(tmp_path / "out" / "000000_brain_map.nii.gz").dataobj)
    assert np.isfinite(values[..., 2:4]).all()
    assert np.isnan(np.delete(values, (2, 3), axis=2)).all()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["000000_brain_map.nii.gz"]


def test_each_volume_of_a_four_dimensional_file_is_a_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 900, (8, 9, 3, 2)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    files = [Path(f"{tmp_path}/a.nii.gz#2"), Path(f"{tmp_path}/a.nii.gz#2,2")]
    maps = NiftiMaps(tmp_path / "out", files, "r", (0.0, 1.0))
    for file in files:
        assert maps.write(finding_of(file, "squash")) is None
    maps.finish()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "000000_a_map.nii.gz",
        "000001_a_2_map.nii.gz",
    ]
    assert nibabel.load(tmp_path / "out" / "000001_a_2_map.nii.gz").shape == (8, 9, 3)


def test_nothing_of_the_header_that_may_name_a_patient_comes_along(tmp_path: Path) -> None:
    image = nibabel.Nifti2Image(np.random.default_rng(0).random((8, 9, 3), np.float32), np.diag([1, 2, 3, 1]))
    image.header["descrip"] = b"Secret Person"
    image.header["aux_file"] = b"Secret"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Secret Person"))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "a.nii")
    files = expand(tmp_path / "a.nii")
    maps = NiftiMaps(tmp_path / "out", files, "r", (0.0, 1.0))
    assert maps.write(finding_of(files[0], "squash")) is None
    maps.finish()
    found = nibabel.load(tmp_path / "out" / "000000_a_map.nii.gz")
    assert isinstance(found, nibabel.Nifti2Image)
    assert b"Secret" not in found.to_bytes()
    assert found.header.get_xyzt_units()[0] == "mm"
    assert found.header.get_zooms() == (1, 2, 3)


def test_other_formats_have_none(tmp_path: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(tmp_path / "a.png")
    maps = NiftiMaps(tmp_path / "out", [tmp_path / "a.png"], "r", (0.0, 1.0))
    assert maps.write(finding_of(tmp_path / "a.png", "squash")) is None
    maps.finish()
    assert list((tmp_path / "out").iterdir()) == []


def test_axes_are_undone() -> None:
    values = np.arange(20).reshape(4, 5)
    for affine in AFFINES.values():
        axes = CanonicalAxes.of(affine)
        np.testing.assert_array_equal(axes.stored(axes.shown(values)), values)
    assert CanonicalAxes.of(np.zeros((4, 4))) == CanonicalAxes()
