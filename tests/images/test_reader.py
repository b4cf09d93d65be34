from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddad.errors import ImageError
from ddad.images import IMAGE_SUFFIXES, decode_file, read_image

GREY = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    for name in ("b.jpg", "no suffix", "Ärzte 影像 (1).TIF"):
        path = (tmp_path / "a.png").rename(tmp_path / name)
        image = read_image(str(path))
        assert image.file_format == "png"
        assert image.source == str(path)
        path.rename(tmp_path / "a.png")


def test_suffixes_are_lower_case() -> None:
    assert {".png", ".jpg", ".jpeg", ".tif", ".tiff"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty: copy it again"),
        (b"\x89PNG\r\n\x1a\n", "truncated or damaged PNG"),
        (
            b"path,role\na.png,normal\n",
            "not an image, or of an unknown format: PNG, JPEG, TIFF, DICOM and NIfTI are read",
        ),
        (b"GIF89a" + bytes(50), "GIF files are not read: convert it to PNG or TIFF"),
        (bytes(344) + b"ni1\0" + bytes(10), "NIfTI or Analyze in two files"),
        (b"\xff\xd8\xff\xe0garbage", "truncated or damaged JPEG"),
        (b"II*\0garbage", "truncated or damaged TIFF"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert caught.value.path == str(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="is no path"):
        read_image("a\0b.png")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -3.4e38])
def test_pixels_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    pixels = GREY.astype(np.float32)
    pixels[3, :2] = bad
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="2 pixels are NaN or infinite: mask them"):
        read_image(tmp_path / "a.tif")


def test_constant_images_are_refused_but_can_be_decoded(tmp_path: Path) -> None:
    for mode, colour, text in (("L", 37, "37"), ("RGB", (1, 2, 3), r"\(1, 2, 3\)"), ("F", 0.25, "0.25")):
        Image.new(mode, (20, 20), colour).save(tmp_path / "a.tif")
        with pytest.raises(ImageError, match=f"constant image: every pixel is {text}$"):
            read_image(tmp_path / "a.tif")
        assert decode_file(tmp_path / "a.tif").height == 20


def test_an_even_first_row_is_not_a_constant_image(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20), np.uint8)
    pixels[-1, -1] = 1
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").pixels.sum() == 1


def test_real_images_read(datasets_folder: Path) -> None:
    paths = sorted((datasets_folder / "brain_tumor" / "images").glob("*0.jpg"))
    assert len(paths) > 100
    images = [read_image(path) for path in paths]
    assert {image.channels for image in images} == {1, 3}
    assert {image.value_range for image in images} == {(0, 255)}
