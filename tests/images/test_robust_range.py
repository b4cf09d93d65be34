from __future__ import annotations

import numpy as np
import pytest

from ddad.images import MedicalImage, robust_range
from ddad.report.source_image import visible_levels


def test_a_few_pixels_do_not_stretch_the_range() -> None:
    pixels = np.linspace(0, 1, 1000, dtype=np.float32)
    pixels[-2:] = 1e6
    assert robust_range(pixels) == pytest.approx((0.005, 0.995), abs=1e-3)


def test_where_the_percentiles_coincide_the_extremes_count() -> None:
    pixels = np.full((100, 100, 1), 7, np.float32)
    pixels[50, 50] = 9
    assert robust_range(pixels) == (7.0, 9.0)
    levels = visible_levels(MedicalImage(pixels, (0.0, 65535.0), source="a.png", file_format="png", bits=16))
    assert (levels.min(), levels.max()) == (0, 255)


def test_no_pixel_has_a_range_too() -> None:
    assert robust_range(np.empty(0, np.float32)) == (0.0, 1.0)
