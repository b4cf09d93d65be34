"""Compressed frames that no test file of pydicom holds."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, HTJ2KLosslessRPCL, JPEG2000Lossless, JPEGLosslessSV1
from test_dicom import write_dicom

from ddad.errors import ImageError
from ddad.images import read_image

GREY = np.random.default_rng(0).integers(0, 4096, (37, 53), np.uint16)
COLOUR = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)


def write_compressed(path: Path, pixels: np.ndarray, stream: bytes, syntax: str, photometric: str) -> Path:
    data = pydicom.dcmread(write_dicom(path, pixels))
    data.file_meta.TransferSyntaxUID = syntax
    data.PhotometricInterpretation = photometric
    data.PixelData = encapsulate([stream])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    return path


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_high_throughput_jpeg_2000(tmp_path: Path, syntax: str, pixels: np.ndarray) -> None:
    stream = imagecodecs.htj2k_encode(pixels, reversible=True)
    photometric = "YBR_RCT" if pixels.ndim == 3 else "MONOCHROME2"
    image = read_image(write_compressed(tmp_path / "a.dcm", pixels, stream, syntax, photometric))
    np.testing.assert_array_equal(image.pixels.squeeze(), pixels)


def test_lossless_jpeg_keeps_sixteen_bits(tmp_path: Path) -> None:
    stream = imagecodecs.ljpeg_encode(GREY, bitspersample=16)
    image = read_image(write_compressed(tmp_path / "a.dcm", GREY, stream, JPEGLosslessSV1, "MONOCHROME2"))
    np.testing.assert_array_equal(image.pixels[..., 0], GREY)


def test_a_frame_without_an_end_is_refused(tmp_path: Path) -> None:
    stream = imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", reversible=True)
    path = write_compressed(tmp_path / "a.dcm", GREY, stream[:-2], JPEG2000Lossless, "MONOCHROME2")
    with pytest.raises(ImageError, match="truncated or damaged JPEG 2000"):
        read_image(path)
