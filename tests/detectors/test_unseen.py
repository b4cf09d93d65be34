from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ddad.detectors import DDAD, Detector, FitContext, score_held_out
from ddad.errors import DivergenceError
from ddad.training.device import Compute
from support import RecordedProgress, random_images, tiny_recipe


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed in (("normal", 0), ("unlabeled", 1)):
        np.save(tmp_path / f"{name}.npy", random_images(16, seed=seed).numpy())
    wrong = torch.tensor([0.0, torch.nan, 1.0])
    monkeypatch.setattr(Detector, "image_scores", lambda *_: {"r_dual": wrong})
    context = FitContext(tmp_path, Compute("cpu", "fp32"), workers=0, progress=RecordedProgress())
    with pytest.raises(DivergenceError, match="r_dual: 1 of 3 are no numbers"):
        score_held_out(
            DDAD(tiny_recipe()), tmp_path / "normal.npy", tmp_path / "unlabeled.npy", random_images(3).numpy(), context
        )


def test_held_out_images_are_scored_without_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed in (("normal", 0), ("unlabeled", 1)):
        np.save(tmp_path / f"{name}.npy", random_images(16, seed=seed).numpy())
    monkeypatch.setattr(Detector, "score", lambda *_: pytest.fail("maps were made"))
    context = FitContext(tmp_path, Compute("cpu", "fp32"), workers=0, progress=RecordedProgress())

    scores = score_held_out(
        DDAD(tiny_recipe()),
        tmp_path / "normal.npy",
        tmp_path / "unlabeled.npy",
        random_images(5, seed=2).numpy(),
        context,
    )

    assert scores.shape == (5,)
    assert np.isfinite(scores).all()


def test_without_unlabeled_images_r_intra_is_the_score(tmp_path: Path) -> None:
    np.save(tmp_path / "normal.npy", random_images(16).numpy())
    context = FitContext(tmp_path, Compute("cpu", "fp32"), workers=0, progress=RecordedProgress())
    detector, images = DDAD(tiny_recipe()), random_images(5, seed=2)

    scores = score_held_out(detector, tmp_path / "normal.npy", None, images.numpy(), context)

    assert scores.tolist() == detector.image_scores(images, context.compute)["r_intra"].tolist()
