"""NIfTI: slices in canonical orientation, compared with nibabel."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff, ornt_transform

from ddad.cohorts import Cohort, find_images
from ddad.errors import ImageError
from ddad.images import Selection, decode_file, expand, read_image
from ddad.images.nifti import count_nifti_slices

VOLUME = np.random.default_rng(0).integers(-500, 500, (6, 7, 5)).astype(np.int16)
ORIENTATIONS = [
    np.array([[0, 1], [1, 1], [2, 1]]),
    np.array([[0, -1], [1, -1], [2, 1]]),
    np.array([[2, 1], [0, -1], [1, 1]]),
    np.array([[1, -1], [2, -1], [0, -1]]),
]


def expected_slice(volume: np.ndarray, number: int) -> np.ndarray:
    """Slice of a volume with axes right, anterior, superior: anterior up, right on the left."""
    return np.flipud(np.fliplr(volume[:, :, number - 1].T))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=range(4))
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slices_are_axial_however_the_volume_is_stored(tmp_path: Path, orientation: np.ndarray, suffix: str) -> None:
    to_file = ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), orientation)
    affine = np.diag([2.0, 3.0, 4.0, 1.0]) @ inv_ornt_aff(to_file, VOLUME.shape)
    stored = nibabel.Nifti1Image(apply_orientation(VOLUME, to_file), affine)
    path = tmp_path / f"a{suffix}"
    nibabel.save(stored, path)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), VOLUME)

    addresses = expand(path)

    assert [address.name for address in addresses] == [f"a{suffix}#{number}" for number in range(1, 6)]
    for number, address in enumerate(addresses, 1):
        image = read_image(address)
        np.testing.assert_array_equal(image.pixels[..., 0], expected_slice(VOLUME, number))
        assert image.spacing == (3.0, 2.0)
        assert (image.file_format, image.orientation, image.source) == ("nifti", "axial", str(address))


def test_scaling_four_dimensions_and_the_range_of_the_header(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.stack([VOLUME, VOLUME[::-1]], -1), np.eye(4))
    image.header.set_slope_inter(2, 10)
    image.header["cal_min"], image.header["cal_max"] = -100, 300
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(image, tmp_path / name)
        second = read_image(find_images(tmp_path / name, Selection("middle", volume=2)).images[0])
        assert second.source.endswith(f"{name}#3,2")
        np.testing.assert_allclose(second.pixels[..., 0], expected_slice(2.0 * VOLUME[::-1] + 10, 3))
        assert (second.value_range, second.range_origin) == ((-100, 300), "header")
        with pytest.raises(ImageError, match="has no slice 3 of volume 3: it holds 5 slices and 2 volumes"):
            read_image(tmp_path / f"{name}#3,3")


def test_the_middle_slice_stands_for_a_volume_without_a_number(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(VOLUME, np.eye(4)), tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(image.pixels[..., 0], expected_slice(VOLUME, 3))
    assert image.warnings == ("holds 5 slices, only the middle one is read",)


def test_flat_and_coloured_files(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME[..., 0], np.eye(4)), tmp_path / "flat.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "flat.nii").pixels[..., 0], expected_slice(VOLUME, 1))
    colour = np.random.default_rng(0).integers(0, 255, (4, 5, 2, 3), np.uint8)
    structured = colour.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(structured, np.eye(4)), tmp_path / "colour.nii")
    image = read_image(tmp_path / "colour.nii#2")
    np.testing.assert_array_equal(image.pixels, np.flip(colour[:, :, 1].swapaxes(0, 1), (0, 1)))
    assert image.value_range == (0, 255)


def test_a_file_of_two_axes_is_one_slice_whatever_plane_it_says(tmp_path: Path) -> None:
    coronal = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)
    nibabel.save(nibabel.Nifti1Image(VOLUME[..., 0], coronal), tmp_path / "flat.nii")
    assert count_nifti_slices(tmp_path / "flat.nii") == 1
    np.testing.assert_array_equal(read_image(tmp_path / "flat.nii").pixels[..., 0], expected_slice(VOLUME, 1))


def test_slices_of_a_volume_stay_together(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(VOLUME + 1, np.eye(4)), tmp_path / "b.nii.gz")
    cohort = Cohort.from_folders(normal=tmp_path)
    assert len(cohort) == 10
    assert cohort.table["group"].nunique() == 2


def test_masks_are_found_by_slice(tmp_path: Path) -> None:
    for folder, suffix in (("abnormal", ".nii.gz"), ("masks", ".nii")):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / folder / f"case.1{suffix}")
    cohort = Cohort.from_folders(test_abnormal=tmp_path / "abnormal", test_masks=tmp_path / "masks")
    for path, mask in zip(cohort.table["path"], cohort.table["mask"], strict=True):
        assert Path(mask).name == Path(path).name.replace(".nii.gz", ".nii")


def test_damaged_and_absurd_files_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    (tmp_path / "short.nii").write_bytes(content[:400])
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(bytes(content))[:300])
    content[42:48] = np.array([32000] * 3, "<i2").tobytes()
    (tmp_path / "absurd.nii").write_bytes(content)
    for name in ("short.nii#5", "short.nii.gz#1"):
        with pytest.raises(ImageError, match="truncated or damaged NIfTI"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="claims 32000×32000 pixels"):
        decode_file(tmp_path / "absurd.nii#1")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_with_fewer_slices_than_it_claims_is_refused_once(tmp_path: Path, suffix: str) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "whole.nii")
    content = bytearray((tmp_path / "whole.nii").read_bytes())
    for slices in (VOLUME.shape[2] + 1, 32767):
        content[46:48] = np.array(slices, "<i2").tobytes()
        file = tmp_path / f"{slices}{suffix}"
        file.write_bytes(gzip.compress(bytes(content)) if suffix == ".nii.gz" else bytes(content))
        with pytest.raises(ImageError, match=f"its header says .*×{slices} voxels, .* are there"):
            expand(file)


def test_damage_is_noticed_that_only_the_checksum_knows_of(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii")
    stored = bytearray(gzip.compress((tmp_path / "a.nii").read_bytes(), compresslevel=0))
    stored[-20] ^= 255  # a voxel, which deflate does not look at
    (tmp_path / "a.nii.gz").write_bytes(stored)
    for look in (expand, lambda file: decode_file(f"{file}#1")):
        with pytest.raises(ImageError, match="incorrect data check"):
            look(tmp_path / "a.nii.gz")


def test_what_lies_behind_the_end_of_what_is_packed_is_not_looked_at(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    packed = {
        "rubbish": gzip.compress(content) + b"rubbish",
        "zeros": gzip.compress(content) + bytes(512),
        "members": gzip.compress(content[:400]) + gzip.compress(content[400:]),
    }
    for name, stored in packed.items():
        file = tmp_path / f"{name}.nii.gz"
        file.write_bytes(stored)
        assert len(expand(file)) == VOLUME.shape[2]
        assert (decode_file(f"{file}#2").pixels == decode_file(tmp_path / "a.nii#2").pixels).all()
    (tmp_path / "cut.nii.gz").write_bytes(packed["members"][:-20])
    with pytest.raises(ImageError, match="truncated or damaged NIfTI"):
        expand(tmp_path / "cut.nii.gz")


def test_a_member_may_begin_across_two_reads(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 256, (64, 64, 40), np.uint8)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    packed = (gzip.compress(content[:length], compresslevel=0) for length in range(65400, 65536))
    first = next(member for member in packed if len(member) == 2**16 - 1)
    unpacked = gzip.decompress(first)
    (tmp_path / "a.nii.gz").write_bytes(first + gzip.compress(content[len(unpacked) :]))
    assert len(expand(tmp_path / "a.nii.gz")) == 40
    assert (decode_file(tmp_path / "a.nii.gz#40").pixels == decode_file(tmp_path / "a.nii#40").pixels).all()


def test_a_file_that_unpacks_to_far_more_than_it_claims_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddad.images.nifti.LARGEST_BYTE_COUNT", 2**20)
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(2**22)))
    with pytest.raises(ImageError, match="holds more than its header says"):
        expand(tmp_path / "a.nii.gz")


def test_an_affine_that_is_no_number_is_named(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[280:284] = np.array(np.nan, "<f4").tobytes()  # srow_x
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(ImageError, match="its affine holds what is no number"):
        decode_file(tmp_path / "a.nii#1")
