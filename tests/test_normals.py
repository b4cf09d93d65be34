"""Which images a fit trains on, and that nothing in it has seen those which calibrate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddad.errors import CohortError
from ddad.normals import Normals, Stored, known_normals
from support import random_images, tiny_recipe


def patients(
    folder: Path, *, of: int, first: int = 0, images: np.ndarray | None = None, name: str = "normal"
) -> Stored:
    """Store 40 images, so many of each patient, whose numbers count from the first on."""
    stored = Stored(folder / f"all {name}.npy", [f"patient {first + number // of}" for number in range(40)])
    np.save(stored.file, random_images(40, seed=len(name)).numpy() if images is None else images)
    return stored


def trained_on(found: Normals) -> set[str]:
    return {group for stored in (found.trained, *found.beside.values()) for group in stored.groups}


def test_images_of_a_held_out_patient_are_left_out_whatever_their_role(tmp_path: Path) -> None:
    parts = [patients(tmp_path, of=2, name=name) for name in ("normal", "unlabeled", "abnormal")]
    found = known_normals(parts[0], parts[1], parts[2], tiny_recipe())
    assert found.held_groups is not None
    assert len(found.held_out) == 8
    assert not trained_on(found) & set(found.held_groups)
    for stored in (found.trained, *found.beside.values()):
        assert len(stored.groups) == len(np.load(stored.file)) == 32
    assert [stored.left_out for stored in found.beside.values()] == [8, 8]
    again = known_normals(parts[0], parts[1], parts[2], tiny_recipe())
    assert (again.trained, again.beside) == (found.trained, found.beside)


def test_without_copies_or_shared_patients_all_are_trained_on_from_their_own_file(tmp_path: Path) -> None:
    known, unlabeled = patients(tmp_path, of=1), patients(tmp_path, of=1, first=100, name="unlabeled")
    found = known_normals(known, unlabeled, None, tiny_recipe())
    assert found.unlabeled == unlabeled
    assert (found.count, len(found.held_out)) == (32, 8)


def test_nothing_is_left_out_where_nothing_is_held_out(tmp_path: Path) -> None:
    known, unlabeled = patients(tmp_path, of=1), patients(tmp_path, of=1, name="unlabeled")
    found = known_normals(known, unlabeled, None, tiny_recipe(holdout=0))
    assert (found.trained, found.unlabeled) == (known, unlabeled)


def test_images_that_are_all_alike_are_kept_and_that_is_said(tmp_path: Path) -> None:
    alike = np.repeat(random_images(1).numpy(), 40, axis=0) + np.arange(40, dtype=np.float32)[:, None, None, None] / 99
    known = patients(tmp_path, of=1, images=alike)
    unlabeled = patients(tmp_path, of=1, first=100, images=alike, name="unlabeled")
    found = known_normals(known, unlabeled, None, tiny_recipe())
    assert found.unlabeled is not None
    assert (len(found.unlabeled.groups), found.unlabeled.left_out) == (32, 8)  # identical ones
    assert [warning[:40] for warning in found.warnings] == [
        "8 of 40 unlabeled images are left out of",
        "normal and unlabeled images are so alike",
    ]


def test_a_pile_of_held_out_patients_alone_is_refused(tmp_path: Path) -> None:
    known = patients(tmp_path, of=2)
    held = known_normals(known, None, None, tiny_recipe()).held_groups
    assert held is not None
    unlabeled = patients(tmp_path, of=2, name="unlabeled")
    with pytest.raises(CohortError, match=r"unlabeled: none of 40 images is left to train on: .*--set holdout=0"):
        known_normals(known, Stored(unlabeled.file, [held[0]] * 40), None, tiny_recipe())
