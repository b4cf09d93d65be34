from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddad.model import Finding
from ddad.recipe_sections import Preprocessing
from ddad.report.map_strip import read_strip, write_strip


def finding(**changes: Any) -> Finding:
    columns = np.tile(np.linspace(0, 2, 8, dtype=np.float32), (8, 1))
    known: dict[str, Any] = {
        "path": "a.png", "score": 1.0, "p_value": None, "flagged": None, "scores": {}, "warnings": (),
        "maps": {"rec": columns, "r_dual": columns.T}, "pixels": np.zeros((1, 8, 8), np.float32), "source_size": (8, 8),
    }  # fmt: skip
    return Finding(**known | changes)


def test_tiles_lie_on_their_scales_in_the_order_of_the_scales(tmp_path: Path) -> None:
    write_strip(finding(), {"r_dual": (0, 2), "rec": (1, 3)}, tmp_path / "s.png")

    seen, (dual, rec) = read_strip(tmp_path / "s.png")

    assert (seen == 128).all()
    np.testing.assert_allclose(dual[:, 0], np.linspace(0, 255, 8), atol=0.6)
    assert rec[0, 0] == 0  # below its scale
    assert rec[0, -1] == 128  # 2 is the middle of 1 to 3


def test_colour_is_kept(tmp_path: Path) -> None:
    pixels = np.stack([np.full((8, 8), value, np.float32) for value in (-1, 0, 1)])

    write_strip(finding(pixels=pixels), {"rec": (0, 2)}, tmp_path / "s.png")

    seen, _ = read_strip(tmp_path / "s.png")
    assert seen[0, 0].tolist() == [0, 128, 255]


def test_padding_is_cut_off_and_what_was_cropped_away_is_dark(tmp_path: Path) -> None:
    """A source twice as wide as high: `pad` adds black above and below, `crop` leaves out left and right."""
    band = np.zeros((8, 8), np.float32)
    band[2:6] = 1
    write_strip(
        finding(maps={"rec": band}, source_size=(40, 80), preprocessing=Preprocessing(aspect="pad")),
        {"rec": (0, 1)},
        tmp_path / "pad.png",
    )
    full = np.ones((8, 8), np.float32)
    write_strip(
        finding(maps={"rec": full}, source_size=(40, 80), preprocessing=Preprocessing(aspect="crop")),
        {"rec": (0, 1)},
        tmp_path / "crop.png",
    )

    padded, cropped = (read_strip(tmp_path / name)[1][0] for name in ("pad.png", "crop.png"))

    assert (padded[1:-1] == 255).all()
    assert (cropped[:, 2:6] == 255).all()
    assert (cropped[:, :2] == 0).all()
    assert (cropped[:, 6:] == 0).all()


@pytest.mark.parametrize("aspect", ["pad", "crop"])
def test_the_strip_of_a_sliver_takes_little_memory(aspect: str, tmp_path: Path) -> None:
    seen = finding(source_size=(1, 2**16), preprocessing=Preprocessing.model_validate({"aspect": aspect}))
    tracemalloc.start()
    try:
        write_strip(seen, {"rec": (0, 1)}, tmp_path / "s.png")
        assert tracemalloc.get_traced_memory()[1] < 2**30
    finally:
        tracemalloc.stop()


def test_a_picture_that_is_no_strip_is_refused(tmp_path: Path) -> None:
    Image.new("L", (20, 8)).save(tmp_path / "s.png")

    with pytest.raises(ValueError, match="not a strip"):
        read_strip(tmp_path / "s.png")
