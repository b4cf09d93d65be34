"""DICOM files, compared with pydicom's own handlers and with SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from ddad.errors import ImageError
from ddad.images import expand, normalise, read_image
from ddad.images.codestream import codestream_size
from ddad.images.dicom import is_dicom
from ddad.recipe_sections import Preprocessing

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


def has_image(path: Path) -> bool:
    data = pydicom.dcmread(path, force=True)
    if "Rows" not in data or "PixelData" not in data:
        return False
    try:
        _ = data.pixel_array
    except Exception:
        return False
    return True


IMAGES = [path for path in sorted(BUNDLED.rglob("*")) if path.is_file() and has_image(path)]


def write_dicom(path: Path, stored: np.ndarray[Any, Any], *, preamble: bool = True, **elements: Any) -> Path:
    """Write grey (H, W), (frames, H, W) or colour (H, W, 3) pixels as an uncompressed DICOM file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.PatientName = "Secret^Person"
    colour = stored.ndim == 3 and stored.shape[2] == 3
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    elif stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    data.Rows, data.Columns = stored.shape[:2] if colour else stored.shape[-2:]
    data.BitsAllocated = data.BitsStored = stored.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = stored.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    if preamble:
        data.save_as(path, enforce_file_format=True)
    else:
        data.file_meta = FileMetaDataset()
        data.preamble = None
        data.save_as(path, implicit_vr=True, little_endian=True)
    return path


RAMP = np.arange(-600, 600, dtype=np.int16).reshape(30, 40)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: str(path.relative_to(BUNDLED)))
def test_every_bundled_image_is_shown_as_pydicom_shows_it(path: Path) -> None:
    addresses = expand(path)
    image = read_image(addresses[-1])
    data = pydicom.dcmread(path, force=True)
    count = int(data.get("NumberOfFrames") or 1)
    assert len(addresses) == count
    reference = pixel_array(data, index=count - 1) if "TransferSyntaxUID" in data.file_meta else data.pixel_array
    shown = normalise(image, Preprocessing(channels=3))

    if data.PhotometricInterpretation == "PALETTE COLOR":
        expected = apply_color_lut(reference, data) / 65535
    elif reference.ndim == 3:
        expected = reference / (2.0**data.BitsStored - 1)
    else:
        values = apply_modality_lut(reference, data).astype(np.float64)
        if "WindowCenter" in data:
            centre, width = (float(np.atleast_1d(data[tag].value)[0]) for tag in ("WindowCenter", "WindowWidth"))
            # Equation of PS3.3 C.11.2.1.2.1, scaled to [0, 1].
            expected = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
            windowed = apply_voi_lut(apply_modality_lut(reference, data), data).astype(np.float64)
            if np.ptp(windowed) > 0:
                assert np.corrcoef(windowed.ravel(), expected.ravel())[0, 1] > 0.9999
        else:
            low, high = np.percentile(values, (0.5, 99.5))
            low, high = (low, high) if high > low else (values.min(), values.max())
            expected = np.clip((values - low) / (high - low), 0, 1)
        if data.PhotometricInterpretation == "MONOCHROME1":
            expected = 1 - expected
        if "PixelPaddingValue" in data:
            expected[reference == data.PixelPaddingValue] = 0
        expected = expected[..., None]
    np.testing.assert_allclose(shown, expected, atol=2e-5)


@pytest.mark.parametrize("path", sorted(BUNDLED.rglob("*")), ids=lambda path: str(path.relative_to(BUNDLED)))
def test_every_bundled_file_is_read_or_gives_its_reason(path: Path) -> None:
    if not path.is_file() or "TINY_ALPHA" in path.parts:
        return
    try:
        image = read_image(expand(path)[0])
    except ImageError:
        assert path not in IMAGES
    else:
        assert np.isfinite(image.pixels).all()


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "693_J2KI.dcm", "MR_small_bigendian.dcm"])
def test_values_are_those_of_simpleitk(name: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(BUNDLED / name)))[0]
    padding = reference == (-3024 if name == "693_J2KI.dcm" else -99999)  # -2000 before it was rescaled
    np.testing.assert_allclose(read_image(BUNDLED / name).pixels[~padding, 0], reference[~padding], atol=1e-3)


@pytest.mark.parametrize(
    ("elements", "value_range", "origin"),
    [
        ({"WindowCenter": 40, "WindowWidth": 400}, (-160.0, 239.0), "window"),
        ({"WindowCenter": [40, 0], "WindowWidth": [400, 1]}, (-160.0, 239.0), "window"),
        (
            {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"},
            (-160.0, 240.0),
            "window",
        ),
        ({"WindowCenter": 0, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"}, (0.0, 1.0), "sigmoid window"),
        ({"WindowCenter": 40, "WindowWidth": 0}, (-594.005, 593.005), "percentiles"),
        ({}, (-594.005, 593.005), "percentiles"),
    ],
)
def test_the_first_window_is_the_range(
    tmp_path: Path, elements: dict[str, Any], value_range: tuple[float, float], origin: str
) -> None:
    image = read_image(write_dicom(tmp_path / "a.dcm", RAMP, **elements))
    assert image.value_range == pytest.approx(value_range, abs=1e-3)
    assert image.range_origin == origin
    if origin == "sigmoid window":
        assert image.pixels[15, 0, 0] == pytest.approx(0.5)
        assert image.pixels[16, 10, 0] == pytest.approx(1 / (1 + np.exp(-4 * 50 / 100)))
    else:
        np.testing.assert_array_equal(image.pixels[..., 0], RAMP)


@pytest.mark.parametrize(
    ("stored", "elements", "value_range", "origin"),
    [
        (np.arange(60, 180, dtype=np.uint8), {}, (0, 255), "stored range"),
        (np.arange(60, 180, dtype=np.uint8), {"PhotometricInterpretation": "MONOCHROME1"}, (0, 255), "stored range"),
        (np.arange(60, 180, dtype=np.uint8), {"WindowCenter": 9, "WindowWidth": 0}, (0, 255), "stored range"),
        (np.arange(-60, 60, dtype=np.int8), {}, (-128, 127), "stored range"),
        (np.arange(120, dtype=np.uint16), {"BitsStored": 8}, (0, 255), "stored range"),
        (np.arange(120, dtype=np.uint8), {"RescaleSlope": -2, "RescaleIntercept": 10}, (-500, 10), "stored range"),
        (np.arange(120, dtype=np.uint16), {"BitsStored": 9}, (0.595, 118.405), "percentiles"),
    ],
)
def test_without_a_window_eight_bits_are_shown_as_of_a_png(
    tmp_path: Path,
    stored: np.ndarray[Any, Any],
    elements: dict[str, Any],
    value_range: tuple[float, float],
    origin: str,
) -> None:
    image = read_image(write_dicom(tmp_path / "a.dcm", stored.reshape(10, 12), **elements))
    assert image.value_range == pytest.approx(value_range)
    assert image.range_origin == origin


def test_the_same_eight_bits_look_the_same_in_dicom_and_png(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(40, 200, (20, 30), np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    write_dicom(tmp_path / "grey.dcm", levels)
    write_dicom(tmp_path / "inverted.dcm", 255 - levels, PhotometricInterpretation="MONOCHROME1")
    write_dicom(tmp_path / "colour.dcm", np.stack([levels] * 3, axis=-1))
    expected = normalise(read_image(tmp_path / "a.png"), Preprocessing())
    for name in ("grey", "inverted", "colour"):
        shown = normalise(read_image(tmp_path / f"{name}.dcm"), Preprocessing())
        np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_a_window_of_width_one_is_a_threshold(tmp_path: Path) -> None:
    image = read_image(write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=1, WindowWidth=1))
    np.testing.assert_array_equal(normalise(image, Preprocessing())[..., 0], RAMP > 0.5)


def test_rescale_and_inversion(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm",
        RAMP,
        RescaleSlope=2,
        RescaleIntercept=-10,
        WindowCenter=0.5,
        WindowWidth=101,
        PhotometricInterpretation="MONOCHROME1",
    )
    image = read_image(path)
    assert image.value_range == (-50, 50)
    np.testing.assert_array_equal(image.pixels[..., 0], -(2.0 * RAMP - 10))


def test_padding_is_dark_and_has_no_part_in_percentiles(tmp_path: Path) -> None:
    stored = RAMP.copy()
    stored[:, :10] = 30000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=30000, PhotometricInterpretation=photometric)
        image = read_image(path)
        assert image.value_range[1] < 600
        assert (normalise(image, Preprocessing())[:, :10] == 0).all()


def test_a_voi_lut_is_applied(tmp_path: Path) -> None:
    item = pydicom.Dataset()
    item.LUTDescriptor = [4, 0, 8]
    item.add_new("LUTData", "OW", np.array([0, 10, 200, 255], "<u2").tobytes())
    stored = np.tile(np.array([0, 1, 2, 3, 9], np.uint16), (5, 1))
    image = read_image(write_dicom(tmp_path / "a.dcm", stored, VOILUTSequence=[item]))
    assert image.pixels[0, :, 0].tolist() == [0, 10, 200, 255, 255]
    assert (image.value_range, image.range_origin) == ((0, 255), "VOI LUT")


def test_frames_are_addressed_from_one(tmp_path: Path) -> None:
    frames = np.stack([RAMP, RAMP[::-1], RAMP // 2])
    path = write_dicom(tmp_path / "a.dcm", frames)
    addresses = expand(path)
    assert [address.name for address in addresses] == ["a.dcm#1", "a.dcm#2", "a.dcm#3"]
    for address, frame in zip(addresses, frames, strict=True):
        image = read_image(address)
        assert image.source == str(address)
        np.testing.assert_array_equal(image.pixels[..., 0], frame)
    assert read_image(path).warnings == ("holds 3 frames, only the first is read",)
    for wrong in ("a.dcm#0", "a.dcm#4", "a.dcm#1,2"):
        with pytest.raises(ImageError, match=r"has no frame \d: it holds 3"):
            read_image(tmp_path / wrong)


def test_functional_groups_of_an_enhanced_object_are_those_of_the_frame(tmp_path: Path) -> None:
    def group(intercept: float) -> pydicom.Dataset:
        transformation, window, result = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = 1, intercept
        window.WindowCenter, window.WindowWidth = intercept + 0.5, 101
        result.PixelValueTransformationSequence, result.FrameVOILUTSequence = [transformation], [window]
        return result

    measures, shared = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    shared.PixelMeasuresSequence = [measures]
    path = write_dicom(
        tmp_path / "a.dcm",
        np.stack([RAMP, RAMP]),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[group(0), group(1000)],
    )
    second = read_image(f"{path}#2")
    np.testing.assert_array_equal(second.pixels[..., 0], RAMP + 1000)
    assert second.value_range == (950, 1050)
    assert second.spacing == (0.5, 0.25)


def test_neither_preamble_nor_meta_header_nor_suffix_is_needed(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "IM000001", RAMP, preamble=False)
    assert is_dicom(path.read_bytes()[:132])
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], RAMP)


def test_absurd_sizes_are_refused_from_the_header(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP.astype(np.uint16), Rows=65535, Columns=65535)
    with pytest.raises(ImageError, match="claims 65535×65535 pixels"):
        read_image(path)


def test_a_compressed_image_of_another_size_than_the_header_says_is_refused(tmp_path: Path) -> None:
    data = pydicom.dcmread(BUNDLED / "MR_small_jp2klossless.dcm")
    data.Rows = 32
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match="its header says 64×32 pixels, its compressed image 64×64"):
        read_image(tmp_path / "a.dcm")


def test_the_size_of_a_codestream() -> None:
    assert codestream_size(b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x0b\x08\0\x10\0\x20") == (32, 16)
    assert codestream_size(b"RLE") is None
    assert codestream_size(b"\xff\xd8\xff") is None


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    content = (BUNDLED / "CT_small.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[:20000])
    with pytest.raises(ImageError, match="truncated or damaged DICOM"):
        read_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("frames", [2, 20000, 2_000_000_000])
def test_a_file_with_fewer_frames_than_it_claims_is_refused_once(tmp_path: Path, frames: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, NumberOfFrames=frames)
    with pytest.raises(ImageError, match=f"its header says {frames} frames, which take {2400 * frames} bytes"):
        expand(path)


def test_compressed_and_deflated_files_cannot_claim_more_frames_than_they_have_bytes(tmp_path: Path) -> None:
    for syntax in (RLELossless, DeflatedExplicitVRLittleEndian):
        data = pydicom.dcmread(write_dicom(tmp_path / "plain.dcm", RAMP))
        if syntax == RLELossless:
            data.compress(RLELossless)
        data.file_meta.TransferSyntaxUID = syntax
        data.NumberOfFrames = 1_000_000
        data.save_as(tmp_path / "a.dcm")
        with pytest.raises(ImageError, match="its header says 1000000 frames"):
            expand(tmp_path / "a.dcm")


def test_a_length_that_reads_like_letters_is_a_length(tmp_path: Path) -> None:
    frames = np.arange(3 * 11 * 257, dtype=np.uint16).reshape(3, 11, 257)
    assert frames.nbytes.to_bytes(4, "little")[:2].isalpha()
    path = write_dicom(tmp_path / "a.dcm", frames, preamble=False)
    assert len(expand(path)) == 3
    assert (read_image(f"{path}#3").pixels[..., 0] == frames[2]).all()


def test_pixels_are_found_in_a_file_that_is_not_written_as_its_meta_header_says(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    content = path.read_bytes()
    explicit, implicit = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"
    assert content.count(explicit) == 1
    path.write_bytes(content.replace(explicit, implicit))
    assert (read_image(path).pixels[..., 0] == RAMP).all()


@pytest.mark.parametrize(
    ("elements", "warning"),
    [
        ({"Rows": 15}, "holds 1200 bytes of pixels more than its header says: rows or frames are not shown"),
        ({"HighBit": 11, "BitsStored": 8}, "8 bits are stored, and the highest is number 11"),
        ({"PhotometricInterpretation": "RGB"}, "RGB with 1 sample a pixel"),
    ],
)
def test_a_header_that_contradicts_its_pixels_is_told(tmp_path: Path, elements: dict[str, Any], warning: str) -> None:
    pixels = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    assert read_image(write_dicom(tmp_path / "sound.dcm", pixels)).warnings == ()
    (found,) = read_image(write_dicom(tmp_path / "a.dcm", pixels, **elements)).warnings
    assert warning in found


@pytest.mark.parametrize("value", ["", "1,0"])
def test_a_slope_that_is_no_number_is_named(tmp_path: Path, value: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, RescaleIntercept="0", RescaleSlope="1.5")
    content = path.read_bytes()
    tag = b"\x28\0\x53\x10DS"
    at = content.index(tag) + 6
    length = int.from_bytes(content[at : at + 2], "little")
    written = value.encode().ljust(len(value) + len(value) % 2)
    path.write_bytes(content[:at] + len(written).to_bytes(2, "little") + written + content[at + 2 + length :])
    with pytest.raises(ImageError, match=f"its RescaleSlope is {value or 'empty'}, no number"):
        read_image(path)


def test_a_slope_that_is_not_used_may_be_anything(tmp_path: Path) -> None:
    colour = np.zeros((30, 40, 3), np.uint8)
    colour[5:, 5:] = 100
    for name, stored in (("colour", colour), ("grey", RAMP)):
        path = write_dicom(tmp_path / f"{name}.dcm", stored, RescaleIntercept=None)
        assert (read_image(path).pixels.squeeze() == stored).all()


def test_padding_of_a_big_endian_file_is_found(tmp_path: Path) -> None:
    stored = np.full((30, 40), 500, np.uint16)
    stored[:16], stored[20:] = 63536, 700
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", stored))
    data.add_new("PixelPaddingValue", "SS", -2000)
    data.PixelData = stored.astype(">u2").tobytes()
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(tmp_path / "b.dcm", data, implicit_vr=False, little_endian=False)
    pixels = read_image(tmp_path / "b.dcm").pixels[..., 0]
    assert (pixels[:16] == 500).all()  # the darkest of what is shown
    assert (pixels[16:] == stored[16:]).all()


def test_padding_that_8_bits_cannot_hold_is_nowhere(tmp_path: Path) -> None:
    stored = np.full((30, 40), 48, np.uint8)  # -2000 modulo 256
    stored[0] = np.arange(100, 140)
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", stored))
    data.add_new("PixelPaddingValue", "SS", -2000)
    data.save_as(tmp_path / "a.dcm")
    assert (read_image(tmp_path / "a.dcm").pixels[..., 0] == stored).all()


def test_a_private_transfer_syntax_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    own, private = b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"
    assert path.read_bytes().count(own) == 1
    path.write_bytes(path.read_bytes().replace(own, private))
    with pytest.raises(ImageError, match=r"transfer syntax 1\.2\.840\.113619\.5\.2 is private"):
        read_image(path)


def test_colours_that_are_not_subsampled_though_the_header_says_so_are_told(tmp_path: Path) -> None:
    colour = np.zeros((30, 40, 3), np.uint8)
    colour[5:, 5:] = 100
    path = write_dicom(tmp_path / "a.dcm", colour, PhotometricInterpretation="YBR_FULL_422")
    (found,) = read_image(path).warnings
    assert "its pixels are not subsampled" in found


def test_padding_of_signed_pixels_may_be_written_without_a_sign(tmp_path: Path) -> None:
    stored = RAMP.copy()
    stored[:5] = -2000
    path = write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000)
    signed, content = read_image(path), path.read_bytes()
    assert content.count(b"\x28\0\x20\x01SS") == 1
    path.write_bytes(content.replace(b"\x28\0\x20\x01SS", b"\x28\0\x20\x01US"))
    assert pydicom.dcmread(path).PixelPaddingValue == 63536
    unsigned = read_image(path)
    assert signed.pixels.min() == unsigned.pixels.min() > -2000
    assert (signed.pixels == unsigned.pixels).all()


def test_a_file_that_was_cut_off_before_its_pixels_may_be_copied_again(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    content = path.read_bytes()
    for end in (content.index(b"\xe0\x7f\x10\0"), content.index(b"\x28\0\x10\0")):
        path.write_bytes(content[:end])
        with pytest.raises(ImageError, match=r"without an image .*: copy it again from its source, or leave it out"):
            read_image(path)


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize(
    ("keyword", "name"),
    [
        ("BitsStored", r"\(0028,0101\) 'Bits Stored'"),
        ("PhotometricInterpretation", r"\(0028,0004\) 'Photometric Interpretation'"),
        ("PixelRepresentation", r"\(0028,0103\) 'Pixel Representation'"),
    ],
)
def test_an_element_that_is_needed_and_missing_is_named(
    tmp_path: Path, keyword: str, name: str, preamble: bool
) -> None:
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", RAMP, preamble=preamble), force=True)
    delattr(data, keyword)
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match=f"its header lacks {name}: export it again from its source"):
        read_image(tmp_path / "a.dcm")


def test_implicit_files_keep_their_syntax() -> None:
    assert pydicom.dcmread(BUNDLED / "rtdose.dcm").file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert len(expand(BUNDLED / "rtdose.dcm")) == 15
