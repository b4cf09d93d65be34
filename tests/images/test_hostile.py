"""Hostile files: whatever their bytes, a reader gives an image or an `ImageError`."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ddad.errors import ImageError
from ddad.images import dicom as dicom_module
from ddad.images import expand, read_image

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
FUZZ = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


NIFTI = nibabel.Nifti1Image(GREY.reshape(10, 12, 5), np.eye(4)).to_bytes()
SAMPLES = {
    "a.png": _saved(lambda file: Image.fromarray(GREY).save(file, "PNG")),
    "a.jpg": _saved(lambda file: Image.fromarray(GREY).save(file, "JPEG")),
    "a.tif": _saved(lambda file: tifffile.imwrite(file, GREY.astype(np.uint16))),
    "a.nii": NIFTI,
    "a.nii.gz": gzip.compress(NIFTI),
    "rle.dcm": (BUNDLED / "MR_small_RLE.dcm").read_bytes(),
    "jpeg.dcm": (BUNDLED / "SC_rgb_small_odd_jpeg.dcm").read_bytes(),
    "jls.dcm": (BUNDLED / "JPEGLSNearLossless_08.dcm").read_bytes(),
    "j2k.dcm": (BUNDLED / "MR_small_jp2klossless.dcm").read_bytes(),
    "plain.dcm": (BUNDLED / "rtdose.dcm").read_bytes(),
}


def read_or_refuse(path: Path) -> None:
    try:
        image = read_image(expand(path)[-1])
    except ImageError:
        return
    assert image.pixels.dtype == np.float32
    assert np.isfinite(image.pixels).all()


@pytest.mark.parametrize("name", SAMPLES)
@FUZZ
@given(data=st.data())
def test_damaged_files_are_read_or_refused(name: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(SAMPLES[name])
    # Headers come first: half of the damage is done there.
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, min(len(content), 400) - 1) | st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    (tmp_path / name).write_bytes(content[:cut])
    read_or_refuse(tmp_path / name)


@FUZZ
@given(
    st.sampled_from(
        [b"", bytes(128) + b"DICM", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\xff\xd8\xff", b"\x08\0\5\0CS", b"PK\3\4"]
    ),
    st.binary(max_size=600),
)
def test_random_bytes_are_refused(tmp_path: Path, start: bytes, rest: bytes) -> None:
    (tmp_path / "a.dcm").write_bytes(start + rest)
    read_or_refuse(tmp_path / "a.dcm")


@FUZZ
@given(data=st.data())
def test_damaged_archives_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", SAMPLES["a.png"])

    content = bytearray(_saved(write))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.zip").write_bytes(content)
    read_or_refuse(tmp_path / "a.zip#a.png")


def test_a_gzip_stream_that_is_damaged_early_is_refused(tmp_path: Path) -> None:
    # Found by the test above: zlib raises an error of its own.
    content = bytearray(SAMPLES["a.nii.gz"])
    content[10] = 0
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(ImageError, match=r"gzip files are not read|truncated"):
        read_image(tmp_path / "a.nii.gz")


def test_a_deflated_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_module, "LARGEST_BYTE_COUNT", 10**6)
    content = (BUNDLED / "image_dfl.dcm").read_bytes()
    meta = pydicom.filereader.read_file_meta_info(BUNDLED / "image_dfl.dcm")
    start = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(bytes(3 * 10**6)) + deflate.flush()
    (tmp_path / "a.dcm").write_bytes(content[:start] + bomb)
    with pytest.raises(ImageError, match="deflated to hide more than 1000000 bytes"):
        read_image(tmp_path / "a.dcm")
