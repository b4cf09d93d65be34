from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ddad.cohorts.split import group_folds, hold_out
from ddad.detectors.division import Division
from support import random_images, tiny_recipe


def files_of(folder: Path, normal: torch.Tensor, unlabeled: torch.Tensor) -> list[Path]:
    files = [folder / "normal.npy", folder / "unlabeled.npy"]
    for file, images in zip(files, (normal, unlabeled), strict=True):
        np.save(file, images.numpy())
    return files


def test_where_all_images_are_alike_some_are_held_out_all_the_same(tmp_path: Path) -> None:
    alike = random_images(1).repeat(30, 1, 1, 1) + 0.01 * random_images(30, seed=1)
    division = Division.of(files_of(tmp_path, alike[:12], alike[12:]), tiny_recipe(), {})
    assert len(np.unique(division.groups)) == 30
    assert len(division.held)


def test_a_patient_is_never_divided(tmp_path: Path) -> None:
    """Not among the normal images, not among the unlabeled ones, and not where both sides have images of one."""
    files = files_of(tmp_path, random_images(60), random_images(60, seed=1))
    patients = np.arange(120) // 2 % 30
    given = {file: [f"patient {who}" for who in patients[60 * place :][:60]] for place, file in enumerate(files)}
    division = Division.of(files, tiny_recipe(fusion__folds=2), given)
    assert len(division.folds) == 120
    assert 0 < len(division.held) < 120
    for who in range(30):
        own = np.flatnonzero(patients == who)
        assert len(set(division.folds[own])) == 1
        assert np.isin(own, division.held).all() or np.isin(own, division.kept).all()


def test_one_patient_with_many_images_does_not_end_the_division(tmp_path: Path) -> None:
    """Balanced by images, 30 images of one patient fill a fold of 25 alone."""
    files = files_of(tmp_path, random_images(60), random_images(100, seed=1))
    given = {files[1]: ["one patient"] * 30 + [f"patient {who}" for who in range(70)]}
    for seed in range(3):
        division = Division.of(files, tiny_recipe(seed=seed, fusion__folds=4), given)
        assert division.is_large_enough
        assert len(set(division.folds[60:90])) == 1


def test_a_division_that_is_large_enough_is_balanced_by_images(tmp_path: Path) -> None:
    files = files_of(tmp_path, random_images(60), random_images(60, seed=1))
    given = {file: [f"{file.name} {place // 2}" for place in range(60)] for file in files}
    division = Division.of(files, tiny_recipe(fusion__folds=2), given)
    assert division.is_large_enough
    assert (division.folds == group_folds(division.groups, division.source > 0, 2, 0)).all()
    kept, held = hold_out([str(group) for group in division.groups], 0.2, 0)
    assert (division.kept.tolist(), division.held.tolist()) == (kept.tolist(), held.tolist())
