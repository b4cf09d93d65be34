from __future__ import annotations

import numpy as np
import pytest
from pictures import part_of, scene, thumbnail

from ddad.audit.near_pairs import pairs_in_one_frame, pairs_of_parts
from ddad.progress import listener

QUIET = listener(None)


def in_one_frame(pictures: list[np.ndarray]) -> set[tuple[int, ...]]:
    found = pairs_in_one_frame(np.stack(pictures), QUIET, "comparing")
    return {tuple(sorted(map(int, pair))) for first, second, _ in found for pair in zip(first, second, strict=True)}


def of_parts(pictures: list[np.ndarray], part: list[int] | None = None) -> set[tuple[int, ...]]:
    found = pairs_of_parts(np.stack(pictures), np.array(part or [0] * len(pictures)), QUIET)
    return {tuple(sorted(map(int, pair))) for first, second, _ in found for pair in zip(first, second, strict=True)}


@pytest.mark.parametrize("parts", [1, 2])
def test_two_images_that_have_nothing_in_common_are_no_pair(parts: int) -> None:
    """Laid upon one another, most drift so far apart that nothing is left to compare."""
    for seed in range(30):
        pictures = [thumbnail(scene(2 * seed + number, 200)) for number in range(2)]
        assert not of_parts(pictures, [0, parts - 1])
        assert not in_one_frame(pictures)


def test_an_image_alone_has_no_copy() -> None:
    assert not of_parts([thumbnail(scene(1))])


def test_a_part_is_found_whichever_comes_first_and_only_as_a_part() -> None:
    whole = [scene(seed) for seed in range(8)]
    part = thumbnail(part_of(whole[3], (0.11, 0.02, 0.82, 0.9))[:, ::-1])
    pictures = [*map(thumbnail, whole)]
    assert of_parts([*pictures, part], [0] * 8 + [1]) == {(3, 8)}
    assert of_parts([part, *pictures], [1] + [0] * 8) == {(0, 4)}
    assert not in_one_frame([*pictures, part])


@pytest.mark.parametrize("change", [lambda p: p, lambda p: p[:, ::-1], lambda p: p[::-1], lambda p: 255 - p])
def test_the_same_frame_is_found_flipped_and_as_a_negative(change) -> None:
    pictures = [thumbnail(scene(seed)) for seed in range(6)]
    copy = change(pictures[2].astype(float)) + np.random.default_rng(0).normal(0, 2, (64, 64))
    assert in_one_frame([*pictures, np.clip(copy, 0, 255).astype(np.uint8)]) == {(2, 6)}


def test_pictures_without_structure_are_no_copies() -> None:
    pictures = [np.full((64, 64), level, np.uint8) for level in (0, 90, 255)]
    assert not in_one_frame(pictures)
    assert not of_parts(pictures)
