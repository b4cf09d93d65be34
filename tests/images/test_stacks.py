"""TIFF stacks: every page an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from ddad.errors import ImageError
from ddad.images import expand, read_image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pages_of_a_stack_are_images(tmp_path: Path, dtype: type) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (4, 20, 30)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    addresses = expand(tmp_path / "a.tif")
    assert [address.name for address in addresses] == ["a.tif#1", "a.tif#2", "a.tif#3", "a.tif#4"]
    for address, page in zip(addresses, stack, strict=True):
        image = read_image(address)
        np.testing.assert_array_equal(image.pixels[..., 0], page)
        assert image.warnings == ()
    with pytest.raises(ImageError, match="has no page 5: it holds 4 of one size and type"):
        read_image(tmp_path / "a.tif#5")


def test_pages_of_several_sizes_are_no_stack(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for side in (32, 16):
            writer.write(np.eye(side, dtype=np.uint8), photometric="minisblack")
    assert expand(tmp_path / "a.tif") == [tmp_path / "a.tif"]
    assert read_image(tmp_path / "a.tif").warnings == ("holds 2 pages, only the first is read",)
