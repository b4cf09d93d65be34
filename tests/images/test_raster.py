from __future__ import annotations

import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from ddad.errors import ImageError
from ddad.images import MedicalImage, decode_file, read_image

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (30, 40), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (30, 40), dtype=np.uint16)
COLOUR8 = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
COLOUR16 = RNG.integers(0, 65536, (30, 40, 3), dtype=np.uint16)
ALPHA8 = np.linspace(0, 255, 40).astype(np.uint8) * np.ones((30, 1), np.uint8)


def saved(path: Path, array: np.ndarray[Any, Any], mode: str | None = None, **options: Any) -> MedicalImage:
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return read_image(path)


def png_bytes(width: int, height: int, depth: int, colour: int, raw: bytes, *, interlaced: bool = False) -> bytes:
    return packed_png(width, height, depth, colour, zlib.compress(raw), interlaced=interlaced)


def packed_png(width: int, height: int, depth: int, colour: int, packed: bytes, *, interlaced: bool = False) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_and_colour_keep_their_numbers(tmp_path: Path, suffix: str) -> None:
    grey = saved(tmp_path / f"grey.{suffix}", GREY8)
    assert grey.pixels.dtype == np.float32
    assert (grey.pixels[..., 0] == GREY8).all()
    assert (grey.value_range, grey.bits, grey.channels) == ((0, 255), 8, 1)
    assert grey.file_format == {"png": "png", "tif": "tiff"}[suffix]
    assert (grey.height, grey.width) == (30, 40)
    colour = saved(tmp_path / f"colour.{suffix}", COLOUR8)
    assert (colour.pixels == COLOUR8).all()
    assert colour.warnings == ()


def test_jpeg_agrees_with_pillow_grey_colour_and_cmyk(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "CMYK"):
        image = saved(tmp_path / f"{mode}.jpg", COLOUR8, mode)
        with Image.open(tmp_path / f"{mode}.jpg") as reference:
            wanted = np.asarray(reference if mode == "L" else reference.convert("RGB"))
        assert (np.squeeze(image.pixels) == wanted).all()
        assert image.file_format == "jpeg"


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR8).quantize(16)
    palette.save(tmp_path / "palette.png")
    assert (read_image(tmp_path / "palette.png").pixels == np.asarray(palette.convert("RGB"))).all()
    palette.save(tmp_path / "clear.png", transparency=3)
    image = read_image(tmp_path / "clear.png")
    clear = np.asarray(palette) == 3
    assert not image.pixels[clear].any()
    assert "set on black" in image.warnings[0]


def test_one_bit_runs_from_0_to_1(tmp_path: Path) -> None:
    for name in ("bit.png", "bit.tif"):
        image = saved(tmp_path / name, GREY8 > 127)
        assert (image.pixels[..., 0] == (GREY8 > 127)).all()
        assert (image.value_range, image.bits) == ((0, 1), 1)


@pytest.mark.parametrize(
    ("name", "array", "options"),
    [
        ("a.png", GREY16, {}),
        ("c.tif", GREY16, {}),
        ("d.tif", GREY16.astype(">u2"), {}),
        ("e.tif", GREY16, {"compression": "tiff_lzw"}),
        ("f.tif", GREY16, {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_16_bit_grey_of_every_pillow_mode(
    tmp_path: Path, name: str, array: np.ndarray[Any, Any], options: dict[str, str]
) -> None:
    image = saved(tmp_path / name, array, **options)
    assert (image.pixels[..., 0] == GREY16).all()
    assert (image.value_range, image.bits, image.warnings) == ((0, 65535), 16, ())


def test_16_bit_grey_png_written_by_another_program(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in GREY16)
    (tmp_path / "a.png").write_bytes(png_bytes(40, 30, 16, 0, rows))
    image = read_image(tmp_path / "a.png")
    assert (image.pixels[..., 0] == GREY16).all()
    assert (image.value_range, image.bits) == ((0, 65535), 16)


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib", "predictor": True}, {"byteorder": ">"}, {"tile": (16, 16)}],
)
def test_16_bit_colour_tiff_keeps_all_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", COLOUR16, photometric="rgb", **options)
    assert (read_image(tmp_path / "a.tif").pixels == COLOUR16).all()
    planes = np.moveaxis(COLOUR16, -1, 0)
    tifffile.imwrite(tmp_path / "b.tif", planes, photometric="rgb", planarconfig="separate", byteorder="<")
    assert (read_image(tmp_path / "b.tif").pixels == COLOUR16).all()


@pytest.mark.parametrize("pixels", [GREY16 >> 8, COLOUR16 >> 8])
def test_an_8_bit_tiff_by_a_codec_that_pillow_lacks_is_read(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", pixels.astype(np.uint8), photometric=kind, compression="jpeg2000",
        compressionargs={"reversible": True, "mct": False},
    )  # fmt: skip
    image = read_image(tmp_path / "a.tif")
    assert (image.pixels.squeeze() == pixels).all()
    assert (image.value_range, image.bits) == ((0, 255), 8)


def rows16(samples: np.ndarray[Any, Any]) -> bytes:
    """Return 16-bit samples (H, W, ...) as rows of a PNG, each without a filter."""
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)


def test_16_bit_colour_png_keeps_all_bits(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(40, 30, 16, 2, rows16(COLOUR16)))
    image = read_image(tmp_path / "a.png")
    assert (image.pixels == COLOUR16).all()
    assert (image.value_range, image.bits, image.warnings) == ((0, 65535), 16, ())
    assert image.file_format == "png"


def test_interlaced_16_bit_colour_png_keeps_all_bits(tmp_path: Path) -> None:
    adam7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = b"".join(rows16(COLOUR16[row::down, column::right]) for row, column, down, right in adam7)
    (tmp_path / "a.png").write_bytes(png_bytes(40, 30, 16, 2, passes, interlaced=True))
    assert (read_image(tmp_path / "a.png").pixels == COLOUR16).all()


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 4), (3, 6)])
def test_16_bit_png_with_alpha_is_set_on_black(tmp_path: Path, channels: int, colour_type: int) -> None:
    colours = COLOUR16[..., :channels]
    alpha = np.full((30, 40, 1), 65535, np.uint16)
    (tmp_path / "a.png").write_bytes(png_bytes(40, 30, 16, colour_type, rows16(np.dstack([colours, alpha]))))
    image = read_image(tmp_path / "a.png")
    assert (image.pixels == colours).all()
    assert (image.bits, image.warnings) == (16, ())
    alpha[:10], alpha[10:20] = 0, 13107
    (tmp_path / "a.png").write_bytes(png_bytes(40, 30, 16, colour_type, rows16(np.dstack([colours, alpha]))))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_allclose(image.pixels, colours * (alpha / 65535), rtol=1e-6)
    assert "set on black" in image.warnings[0]


def test_16_bit_colour_png_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    whole = png_bytes(40, 30, 16, 2, rows16(COLOUR16))
    for count in (60, len(whole) // 2, len(whole) - 30):
        (tmp_path / "a.png").write_bytes(whole[:count])
        with pytest.raises(ImageError, match="truncated or damaged PNG"):
            read_image(tmp_path / "a.png")


def test_one_bit_png_whose_clear_level_is_nowhere_runs_from_0_to_1(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), bool)).save(tmp_path / "a.png", transparency=0)
    image = decode_file(tmp_path / "a.png")
    assert (image.pixels.max(), image.value_range) == (1, (0, 1))


def test_floats_take_0_to_1_or_their_own_range(tmp_path: Path) -> None:
    unit = RNG.random((20, 20), dtype=np.float32)
    choices: list[dict[str, str]] = [{}, {"compression": "tiff_lzw"}]
    for options in choices:
        image = saved(tmp_path / "unit.tif", unit, **options)
        assert (image.pixels[..., 0] == unit).all()
        assert image.value_range == (0, 1)
    wide = saved(tmp_path / "wide.tif", unit * 700 - 100)
    assert wide.value_range == (wide.pixels.min(), wide.pixels.max())


def test_signed_and_inverted_tiff(tmp_path: Path) -> None:
    signed = RNG.integers(-1000, 3000, (20, 20), dtype=np.int16)
    tifffile.imwrite(tmp_path / "signed.tif", signed)
    image = read_image(tmp_path / "signed.tif")
    assert (image.pixels[..., 0] == signed).all()
    assert list(image.value_range) == [-32768, 32767]
    tifffile.imwrite(tmp_path / "inverted.tif", GREY16, photometric="miniswhite")
    assert (read_image(tmp_path / "inverted.tif").pixels[..., 0] == 65535.0 - GREY16).all()


def test_transparent_pixels_are_set_on_black_and_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    opaque = saved(tmp_path / "opaque.png", np.dstack([COLOUR8, np.full_like(GREY8, 255)]))
    assert (opaque.pixels == COLOUR8).all()
    assert opaque.warnings == ()
    share = ALPHA8[..., None] / np.float32(255)
    colour = saved(tmp_path / "colour.png", np.dstack([COLOUR8, ALPHA8]))
    np.testing.assert_allclose(colour.pixels, COLOUR8 * share, atol=1e-3)
    assert "set on black" in colour.warnings[0]
    Image.merge("LA", [Image.fromarray(GREY8), Image.fromarray(ALPHA8)]).save(tmp_path / "grey.png")
    grey = read_image(tmp_path / "grey.png")
    np.testing.assert_allclose(grey.pixels, GREY8[..., None] * share, atol=1e-3)
    deep = np.dstack([COLOUR16, ALPHA8.astype(np.uint16) * 257])
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_allclose(read_image(tmp_path / "deep.tif").pixels, COLOUR16 * share, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_and_tiff_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    coarse = np.kron(GREY8[:4, :6], np.ones((8, 8), np.uint8))
    turns: dict[int, Callable[[Any], Any]]
    turns = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose}
    turns |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a.T, 2), 8: np.rot90}
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(coarse).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as stored:
        assert (image.pixels[..., 0] == turns[orientation](np.asarray(stored))).all()
    Image.fromarray(coarse).save(tmp_path / "a.png", exif=exif)
    assert (read_image(tmp_path / "a.png").pixels[..., 0] == turns[orientation](coarse)).all()
    for name, array in (("8.tif", GREY8), ("16.tif", GREY16)):
        tifffile.imwrite(tmp_path / name, array, extratags=[(274, "H", 1, orientation, True)])
        assert (read_image(tmp_path / name).pixels[..., 0] == turns[orientation](array)).all()


def test_several_pages_warn(tmp_path: Path) -> None:
    for stack in (np.stack([GREY8] * 3), np.stack([GREY16] * 3)):
        tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
        image = read_image(tmp_path / "stack.tif")
        assert (image.pixels[..., 0] == stack[0]).all()
        assert image.warnings == ("holds 3 pages, only the first is read",)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_five_channels_are_refused(tmp_path: Path, dtype: type) -> None:
    five: np.ndarray[Any, Any] = RNG.integers(0, 200, (20, 20, 5)).astype(dtype)
    tifffile.imwrite(tmp_path / "five.tif", five, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match=r"5 samples a pixel.*save it as grey or RGB"):
        read_image(tmp_path / "five.tif")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "lzw.tif", "deep.tif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    array = COLOUR8 if name != "deep.tif" else GREY16
    saved(path, array, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ImageError, match=r"truncated or damaged (PNG|JPEG|TIFF) .*: copy it again"):
        read_image(path)


@pytest.mark.parametrize("array", [GREY16, COLOUR8, COLOUR16], ids=["grey16", "colour8", "colour16"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("flipped", [b"\x01", b"\xff" * 40], ids=["a bit", "40 bytes"])
def test_a_png_whose_pixels_are_damaged_is_refused(
    array: np.ndarray[Any, Any], share: float, flipped: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    if array is COLOUR16:
        path.write_bytes(png_bytes(40, 30, 16, 2, rows16(COLOUR16)))
    else:
        saved(path, array)
    whole = bytearray(path.read_bytes())
    start = int(share * len(whole))
    for offset, bits in enumerate(flipped):
        whole[start + offset] ^= bits
    path.write_bytes(whole)
    with pytest.raises(ImageError, match=r"truncated or damaged PNG \(the checksum of a chunk IDAT does not fit\)"):
        read_image(path)


def test_a_png_chunk_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    saved(path, GREY8)
    whole = path.read_bytes()
    place = whole.index(b"IDAT")
    path.write_bytes(whole[: place - 4] + b"\xff\xff\xff\xff" + whole[place:])
    with pytest.raises(ImageError, match=r"truncated or damaged PNG \(the file ends within a chunk IDAT\)"):
        read_image(path)


def test_a_png_that_no_checksum_tells_of_is_refused_where_its_pixels_cannot_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    packed = bytearray(zlib.compress(RNG.integers(0, 256, 41 * 30, dtype=np.uint8).tobytes()))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = bytes(40)
    path.write_bytes(packed_png(40, 30, 8, 0, bytes(packed)))
    with pytest.raises(ImageError, match="truncated or damaged PNG"):
        read_image(path)


def test_absurd_and_empty_dimensions_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bytes(100_000, 100_000, 8, 0, b"\0" * 1000))
    with pytest.raises(ImageError, match=r"claims 100000×100000 pixels.*header is damaged"):
        read_image(path)
    for width, height in ((0, 5), (5, 0)):
        path.write_bytes(png_bytes(width, height, 8, 0, b""))
        with pytest.raises(ImageError, match=f"has no pixels .{width}×{height}"):
            read_image(path)
    tifffile.imwrite(tmp_path / "bomb.tif", GREY16)
    data = bytearray((tmp_path / "bomb.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "bomb.tif") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tag = tiff.pages.first.tags[name]
            size = 2 if tag.dtype == tifffile.DATATYPE.SHORT else 4
            data[tag.valueoffset : tag.valueoffset + size] = (60_000).to_bytes(size, "little")
    (tmp_path / "bomb.tif").write_bytes(data)
    with pytest.raises(ImageError, match="claims 60000×60000 pixels"):
        read_image(tmp_path / "bomb.tif")


READ_STRICTLY = """
import sys
from PIL import Image
Image.MAX_IMAGE_PIXELS = 1
from ddad.images import read_image
for name in sys.argv[1:]:
    assert read_image(name).pixels.shape == (30, 40, 1)
assert Image.MAX_IMAGE_PIXELS == 1
"""


def test_pillows_own_limit_and_damaged_metadata_do_not_warn(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("a.jpg", "a.png", "a.tif")]
    Image.fromarray(GREY8).save(names[0], exif=b"Exif\0\0II*\0\xff\xff\0\0 not a directory")
    for name in names[1:]:
        Image.fromarray(GREY8).save(name)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ_STRICTLY, *names], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_reading_an_image_leaves_the_filters_of_warnings_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of all threads: what a thread that reads ignored, nobody else would hear."""
    images = {name: tmp_path / name for name in ("a.jpg", "a.png", "a.tif")}
    before = list(warnings.filters)
    seen = []
    for plugin in (JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile, TiffImagePlugin.TiffImageFile):
        usual = plugin.__init__

        def looking(*arguments: Any, _usual: Any = usual, **options: Any) -> None:
            seen.append(list(warnings.filters) == before)
            _usual(*arguments, **options)

        monkeypatch.setattr(plugin, "__init__", looking)
    for path in images.values():
        Image.fromarray(GREY8).save(path)
        read_image(path)
    assert len(seen) >= 3
    assert all(seen)
