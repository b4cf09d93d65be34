from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import scene, thumbnail

from ddad.audit.fine_structure import WHOLE, averaging, fine_structure

shares = st.floats(0, 0.4)


@given(shares, shares, st.sampled_from([16, 32]))
def test_cells_average_and_keep_a_ramp(start: float, cut: float, side: int) -> None:
    share = 1 - start - cut
    matrix = averaging(np.array([start], np.float32), np.array([share], np.float32), side)[0]
    assert matrix.sum(axis=1) == pytest.approx(np.ones(side), abs=1e-4)
    centres = matrix @ (np.arange(64) + 0.5) / 64
    expected = start + share * (np.arange(side) + 0.5) / side
    # A cell narrower than a pixel takes what that pixel has.
    assert centres == pytest.approx(expected, abs=0.5 / 64)


def test_brightness_contrast_and_a_frame_change_little_of_it() -> None:
    own = thumbnail(scene(1))
    framed = own.copy()
    framed[:3], framed[-3:], framed[:, :3], framed[:, -3:] = 255, 255, 255, 255
    changed = np.stack([own, (20 + 0.6 * own).astype(np.uint8), framed, thumbnail(scene(2))])
    rows = fine_structure(changed, WHOLE, 32)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(4), abs=1e-4)
    same = rows @ rows[0]
    assert same[1] > 0.95
    assert same[2] > 0.75
    assert same[3] < 0.2


def test_each_picture_has_a_part_of_its_own() -> None:
    pictures = np.stack([thumbnail(scene(seed)) for seed in (1, 2)])
    places = np.array([[0, 0.1, 0.9, 0.8], [0.2, 0, 0.75, 1]], np.float32)
    both = fine_structure(pictures, places, 16)
    for picture, place, row in zip(pictures, places, both, strict=True):
        assert fine_structure(picture[None], place, 16)[0] == pytest.approx(row, abs=1e-5)


def test_a_picture_without_structure_is_like_no_other() -> None:
    assert not fine_structure(np.full((1, 64, 64), 80, np.uint8), WHOLE, 32).any()
