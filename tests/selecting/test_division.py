from __future__ import annotations

import numpy as np
import pytest

from ddad.errors import CohortError
from ddad.selecting.division import divide
from support import random_images


def test_a_fifth_of_both_kinds_is_held_out_and_patients_and_copies_stay_together() -> None:
    normal, unlabeled = random_images(100).numpy(), random_images(80, seed=1).numpy()
    unlabeled[:20] = normal[:20, :, :, ::-1]  # mirrored copies, across the two kinds
    patients = [f"n{number // 2}" for number in range(100)], [f"u{number // 2}" for number in range(80)]
    found = divide(normal, unlabeled, patients, seed=0)
    assert sorted([*found.kept_normal, *found.held_normal]) == list(range(100))
    assert sorted([*found.kept_unlabeled, *found.held_unlabeled]) == list(range(80))
    assert 15 <= len(found.held_normal) <= 25
    assert 11 <= len(found.held_unlabeled) <= 21
    assert not {place // 2 for place in found.held_normal} & {place // 2 for place in found.kept_normal}
    for copy in range(20):
        assert (copy in found.held_normal) == (copy in found.held_unlabeled)
    again, other = divide(normal, unlabeled, patients, seed=0), divide(normal, unlabeled, patients, seed=1)
    assert (again.held_normal == found.held_normal).all()
    assert set(other.held_normal) != set(found.held_normal)


def test_too_few_groups_or_images_are_refused() -> None:
    images = random_images(60).numpy()
    with pytest.raises(CohortError, match="of only 2 groups"):
        divide(images, images[:0], (["a"] * 30 + ["b"] * 30, []), 0)
    with pytest.raises(CohortError, match="unlabeled images would be held out"):
        divide(
            images, random_images(20, seed=1).numpy(), ([str(n) for n in range(60)], [f"u{n}" for n in range(20)]), 0
        )
    assert np.isfinite(images).all()


def test_held_out_images_have_their_groups_and_one_patient_alone_does_not_judge() -> None:
    images = random_images(160, seed=4).numpy()
    patients = [f"p{place // 4}" for place in range(80)]
    found = divide(images[:80], images[80:], (patients, [f"u{place}" for place in range(80)]), seed=0)
    assert len(found.held_groups) == len(found.held_normal) + len(found.held_unlabeled)
    assert len(set(found.held_groups[: len(found.held_normal)])) == len(found.held_normal) / 4
    few = ["first"] * 40 + ["second"] * 40, [f"u{place}" for place in range(80)]
    reasons = set()
    for seed in range(5):
        with pytest.raises(CohortError) as error:
            divide(images[:80], images[80:], few, seed)
        reasons.add("are of fewer than 2 groups" in str(error.value))
    assert True in reasons  # other seeds hold out neither


def test_one_patient_that_fills_a_part_alone_is_not_what_judges() -> None:
    images = random_images(120, seed=5).numpy()
    groups = [str(place) for place in range(60)], ["one patient"] * 13 + [f"u{place}" for place in range(47)]
    for seed in range(3):
        found = divide(images[:60], images[60:], groups, seed)
        assert min(len(found.held_normal), len(found.held_unlabeled)) >= 10
        assert len(set(found.held_groups[len(found.held_normal) :])) >= 2
        assert not set(found.held_unlabeled) & set(range(13))
