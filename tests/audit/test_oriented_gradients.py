from __future__ import annotations

import numpy as np
from pictures import part_of, scene, thumbnail

from ddad.audit.oriented_gradients import COMPARISONS, CROPS, likely_crops

SCENES = [scene(seed) for seed in range(40)]


def candidates(pictures: list[np.ndarray], part: list[int], likest: int = 1) -> dict[tuple[int, int], tuple]:
    steps: list[int] = []
    found = likely_crops(np.stack(pictures), np.array(part), likest, lambda: steps.append(1))
    assert len(steps) == COMPARISONS == 2 * len(CROPS)
    return {
        (int(first), int(second)): (bool(mirrored), place)
        for first, second, mirrored, place in zip(found.first, found.second, found.mirrored, found.places, strict=True)
    }


def test_a_part_is_the_likest_of_its_whole_and_about_where_it_is() -> None:
    place = (0.03, 0.14, 0.86, 0.82)
    part = part_of(SCENES[7], place)
    found = candidates([*map(thumbnail, SCENES), thumbnail(part[:, ::-1])], [0] * 40 + [1])
    mirrored, start = found[40, 7]
    assert mirrored
    borders = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]])
    assert np.abs(borders @ (start - place)).max() < 0.08


def test_each_image_has_its_likest_in_each_part_of_the_cohort_and_no_pair_comes_twice() -> None:
    part = [index % 3 for index in range(40)]
    found = candidates([*map(thumbnail, SCENES)], part)
    pairs = [tuple(sorted(pair)) for pair in found]
    assert len(set(pairs)) == len(pairs)
    assert all(first != second for first, second in pairs)
    for image in range(40):
        assert {part[one if other == image else other] for one, other in pairs if image in (one, other)} == {0, 1, 2}


def test_a_negative_has_the_same_edges() -> None:
    pictures = [*map(thumbnail, SCENES)]
    assert (40, 3) in candidates([*pictures, 255 - pictures[3]], [0] * 40 + [1]) or (
        (3, 40) in candidates([*pictures, 255 - pictures[3]], [0] * 40 + [1])
    )
