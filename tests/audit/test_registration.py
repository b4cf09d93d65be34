from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import part_of, scene, thumbnail

from ddad.audit.registration import _sampled, edges_of, registered

WHOLE = scene(1)


def laid_upon(part: np.ndarray, start: tuple[float, ...], *, mirrored: bool = False) -> np.ndarray:
    edges = edges_of(np.stack([thumbnail(part), thumbnail(WHOLE)]))
    pair = np.array([0]), np.array([1]), np.array([mirrored])
    return registered(edges, *pair, np.array([start], np.float32))[0]


@settings(max_examples=25, deadline=None)
@example((0.05078125, 0.05078125, 0.7265625, 0.72265625), (0, -0.02982259643919191, 0, 0), False, lambda p: p)
@given(
    st.tuples(*[st.floats(0.05, 0.15)] * 2, *[st.floats(0.72, 0.85)] * 2),
    st.tuples(*[st.floats(-0.03, 0.03)] * 4),
    st.booleans(),
    st.sampled_from([lambda p: p, lambda p: 255 - p, lambda p: 40 + 0.5 * p]),
)
def test_the_place_of_a_part_is_found_from_near_it(place, error, mirrored, contrast) -> None:
    part = contrast(part_of(WHOLE, place))
    start = tuple(np.add(place, error))
    found = laid_upon(part[:, ::-1] if mirrored else part, start, mirrored=mirrored)
    assert found == pytest.approx(place, abs=0.02)  # about a pixel of the thumbnail


def test_a_shifted_image_lies_beyond_the_border() -> None:
    shifted = np.pad(WHOLE, ((20, 0), (0, 0)))[: len(WHOLE)]
    assert laid_upon(shifted, (0, 0, 1, 1)) == pytest.approx([-0.05, 0, 1, 1], abs=0.012)


def test_places_are_computed_in_single_precision() -> None:
    edges = edges_of(np.stack([thumbnail(WHOLE), thumbnail(scene(2))]))
    half = np.full((1, 1), 0.5, np.float32)
    assert _sampled(edges, np.array([0]), half, half).dtype == np.float32  # in double it takes twice the time


def test_pictures_without_edges_stay_where_they_were() -> None:
    edges = edges_of(np.full((2, 64, 64), 90, np.uint8))
    place = np.array([[0.1, 0.1, 0.8, 0.8]], np.float32)
    found = registered(edges, np.array([0]), np.array([1]), np.array([False]), place)
    assert np.isfinite(found).all()
    assert found == pytest.approx(place)
