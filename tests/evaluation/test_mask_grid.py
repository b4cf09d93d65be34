from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddad.evaluation import mask_on_grid


def test_a_pixel_is_abnormal_where_half_of_it_is() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:2, :1] = True  # half of the first pixel
    mask[2:, 2:] = True
    mask[0, 3] = True  # a quarter of the second
    assert mask_on_grid(mask, 2).tolist() == [[True, False], [False, True]]


def test_a_region_too_small_for_a_pixel_keeps_one() -> None:
    mask = np.zeros((64, 64), bool)
    mask[17, 50] = True
    assert np.argwhere(mask_on_grid(mask, 16)).tolist() == [[4, 12]]


@given(rows=st.integers(5, 40), columns=st.integers(5, 40), seed=st.integers(0, 20))
def test_a_mask_is_never_lost_and_never_made(rows: int, columns: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.01
    assert mask_on_grid(mask, 16).any() == mask.any()


@pytest.mark.parametrize("size", [16, 48])
def test_sides_become_those_of_the_grid(size: int) -> None:
    assert mask_on_grid(np.ones((20, 30), bool), size).shape == (size, size)
