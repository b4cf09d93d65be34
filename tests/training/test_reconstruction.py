"""Few normal images are moved while DDAD's networks learn them; many are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ddad.detectors.base import FitContext
from ddad.detectors.ddad_training import DDADTraining
from ddad.detectors.reconstruction import AEU
from ddad.progress import SilentProgress
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.epochs import balancing_repeats
from ddad.training.pixels import ImagePool
from ddad.training.reconstruction import train_members, train_members_job
from support import random_images, same_tensors, tiny_recipe

CPU = Compute("cpu", "fp32")
FEW = 12
RECIPE = tiny_recipe().changed(
    {"reconstruction.ndm_epochs": 2, "reconstruction.udm_epochs": 2, "reconstruction.move_below": FEW}
)


def ignore(*_: object) -> None: ...


@pytest.mark.parametrize("count", [FEW - 1, FEW])
@pytest.mark.parametrize("module", ["ndm", "udm"])
def test_images_are_moved_where_normal_ones_are_few(count: int, module: str, tmp_path: Path) -> None:
    # So many unlabeled ones that normal ones come twice; what counts is how many they are.
    normal, unlabeled = (random_images(number).numpy() for number in (count, 9 * count))
    np.save(tmp_path / "normal.npy", normal)
    np.save(tmp_path / "unlabeled.npy", unlabeled)
    training = DDADTraining(RECIPE, tmp_path / "normal.npy", tmp_path / "unlabeled.npy", tmp_path, CPU)
    job = next(job for job in training.reconstruction_jobs() if job.arguments["module"] == module)
    train_members_job(**job.arguments, report=ignore)
    found = load_tensors(job.output)[0]

    pool = ImagePool([normal])
    if module == "udm":
        pool = pool.repeated(balancing_repeats(count, 9 * count)) + ImagePool([unlabeled])
    for moves in (False, True):
        into = tmp_path / f"{moves}.safetensors"
        train_members(RECIPE, module, job.arguments["members"], pool, [into], CPU, ignore, moves=moves)
        assert same_tensors(found, load_tensors(into)[0]) == (moves == (count < FEW))


def test_the_baseline_is_not_moved(tmp_path: Path) -> None:
    normal = random_images(FEW - 1).numpy()
    np.save(tmp_path / "normal.npy", normal)
    detector = AEU(RECIPE)
    detector.fit(tmp_path / "normal.npy", None, FitContext(tmp_path, CPU, 0, SilentProgress()))
    recipe, into = RECIPE.changed({"reconstruction.backbone": "ae-u"}), tmp_path / "plain.safetensors"
    train_members(recipe, "ndm", [0], ImagePool([normal]), [into], CPU, ignore)
    assert same_tensors(load_tensors(tmp_path / "network.safetensors")[0], load_tensors(into)[0])


def test_what_is_moved_is_not_mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(images: torch.Tensor, affine: torch.Tensor, *, beyond: str) -> torch.Tensor:
        seen.append(affine)
        assert beyond == "border"
        return images

    monkeypatch.setattr("ddad.training.reconstruction.moved", watched)
    pool = ImagePool([random_images(64).numpy()])
    train_members(RECIPE, "ndm", [0, 1], pool, [tmp_path / "0", tmp_path / "1"], CPU, ignore, moves=True)
    affine = torch.cat(seen)
    assert (torch.linalg.det(affine[:, :, :2]) > 0).all()
    assert len(affine.flatten(1).unique(dim=0)) == len(affine)  # each image, member and epoch anew
