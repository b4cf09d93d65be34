"""Hostile files: whatever their bytes, a reader gives an image or an `ImageError`."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
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
from pydicom.encaps import encapsulate, get_frame

from ddad.cohorts import find_images
from ddad.errors import ImageError
from ddad.images import deflated as deflated_module
from ddad.images import expand, read_image
from ddad.images.acquisition import read_acquisition
from ddad.images.patient import read_identity
from ddad.images.source_header import read_identifiers, read_source_header

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
    "lossless.dcm": (BUNDLED / "SC_rgb_jpeg_gdcm.dcm").read_bytes(),
    "extended.dcm": (BUNDLED / "JPGExtended.dcm").read_bytes(),
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
    monkeypatch.setattr(deflated_module, "LARGEST_BYTE_COUNT", 10**6)
    content = (BUNDLED / "image_dfl.dcm").read_bytes()
    meta = pydicom.filereader.read_file_meta_info(BUNDLED / "image_dfl.dcm")
    start = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(bytes(3 * 10**6)) + deflate.flush()
    for head in (content[:start], content[132:start]):  # the second without a preamble
        (tmp_path / "a.dcm").write_bytes(head + bomb)
        for read in (read_image, read_identity, read_acquisition, read_source_header):
            with pytest.raises(ImageError, match="deflated to hide more than 1000000 bytes"):
                read(tmp_path / "a.dcm")
        assert set(read_identifiers(tmp_path / "a.dcm").values()) == {""}


def test_a_deflated_file_without_the_length_of_its_meta_group_is_read(tmp_path: Path) -> None:
    content = (BUNDLED / "image_dfl.dcm").read_bytes()
    assert content[132:138] == b"\2\0\0\0UL"
    (tmp_path / "a.dcm").write_bytes(content[:132] + content[144:])
    whole = read_image(BUNDLED / "image_dfl.dcm").pixels
    assert (read_image(tmp_path / "a.dcm").pixels == whole).all()


READ_ALL = """
import resource, sys
from ddad.errors import ImageError
from ddad.images import expand, read_image
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 400 * 2**20,) * 2)
for name in sys.argv[1:]:
    try:
        read_image(expand(__import__("pathlib").Path(name))[0])
        print("read", name)
    except ImageError as error:
        print("refused", error.reason)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux, which says how much is mapped")
def test_small_files_that_claim_to_be_huge_take_little_memory(tmp_path: Path) -> None:
    """In 400 MiB beyond what Python takes to begin with: a bomb would need more, and fail with another reason."""
    data = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    data.Rows = data.Columns = 60000
    data.save_as(tmp_path / "claims.dcm")
    header = bytearray(SAMPLES["a.png"])
    header[16:24] = (100_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (tmp_path / "claims.png").write_bytes(header)
    nifti = bytearray(NIFTI)
    nifti[42:46] = (30_000).to_bytes(2, "little") * 2
    (tmp_path / "claims.nii").write_bytes(nifti)
    tiff = bytearray(SAMPLES["a.tif"])
    for tag in (256, 257):  # width and length, as 32-bit numbers
        at = next(
            at for kind in (3, 4) if (at := tiff.find(tag.to_bytes(2, "little") + bytes([kind, 0, 1, 0, 0, 0]))) >= 0
        )
        tiff[at + 2] = 4
        tiff[at + 8 : at + 12] = (100_000).to_bytes(4, "little")
    (tmp_path / "claims.tif").write_bytes(tiff)
    compressed = pydicom.dcmread(BUNDLED / "MR_small_jp2klossless.dcm")
    stream = bytearray(compressed.PixelData)
    start = stream.find(b"\xff\x4f\xff\x51")
    stream[start + 8 : start + 16] = (100_000).to_bytes(4, "big") * 2
    compressed.PixelData = bytes(stream)
    compressed.save_as(tmp_path / "claims-within.dcm")
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = (BUNDLED / "image_dfl.dcm").read_bytes()
    meta = pydicom.filereader.read_file_meta_info(BUNDLED / "image_dfl.dcm")
    begin = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    with (tmp_path / "bomb.dcm").open("wb") as file:
        file.write(content[:begin])
        for _ in range(1100):
            file.write(deflate.compress(bytes(2**20)))
        file.write(deflate.flush())
    archive = zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("a.nii", "w") as file:
        file.write(NIFTI[:352])
        for _ in range(1100):
            file.write(bytes(2**20))
    files = [str(path) for path in sorted(tmp_path.iterdir()) if path.suffix != ".zip"]
    ran = subprocess.run(
        [sys.executable, "-c", READ_ALL, *files, f"{tmp_path}/bomb.zip#a.nii"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    *lines, used = ran.stdout.splitlines()
    assert len(lines) == len(files) + 1
    assert all(line.startswith("refused") and "memory" not in line for line in lines), lines
    assert int(used) < 400


def test_links_that_go_in_circles_are_not_followed(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    listing = find_images(tmp_path)
    assert listing.images == [tmp_path / "a.png"]
    reasons = {passed.path.name: passed.reason for passed in listing.passed_over}
    assert reasons == {"again": "a link to a folder: not followed"}
    skipped = {passed.path.name: passed.reason for passed in listing.skipped}
    assert skipped == {"self.png": "a link that leads nowhere: mend or remove it"}
    with pytest.raises(ImageError):
        read_image(tmp_path / "self.png")


@pytest.mark.parametrize(
    "name", ["JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"]
)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_compressed_frame_that_is_cut_off_is_refused(tmp_path: Path, name: str, share: float) -> None:
    # libjpeg would fill up with grey.
    data = pydicom.dcmread(BUNDLED / name)
    frame = get_frame(data.PixelData, 0, number_of_frames=1)
    data.PixelData = encapsulate([frame[: int(len(frame) * share)]])
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_image(tmp_path / "a.dcm")
