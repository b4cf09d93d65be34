from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ddad.detectors import DETECTORS, FitContext
from ddad.detectors.ddad_plus import DDADPlus
from ddad.errors import ModelError
from ddad.training.device import Compute
from support import RecordedProgress, random_images, tiny_recipe

FP32 = Compute("cpu", "fp32")


def fit_in(workspace: Path, unlabeled: bool = True) -> DDADPlus:
    recipe = tiny_recipe(
        detector="ddad+",
        classification__epochs=3,
        classification__width=4,
        classification__batch_size=8,
        fusion__folds=3,
    )
    np.save(workspace / "normal.npy", random_images(24).numpy())
    np.save(workspace / "unlabeled.npy", 0.3 * random_images(20, seed=1).numpy())
    detector = DDADPlus(recipe)
    context = FitContext(workspace, FP32, workers=0, progress=RecordedProgress())
    detector.fit(workspace / "normal.npy", workspace / "unlabeled.npy" if unlabeled else None, context)
    return detector


def test_the_score_is_the_mean_of_the_map_and_joins_the_three_parts(tmp_path: Path) -> None:
    detector = fit_in(tmp_path)
    images = random_images(5, seed=3)
    scored = detector.score(images, FP32)
    torch.testing.assert_close(scored.scores["image"], scored.maps["image"].mean(dim=(1, 2)))
    parts = detector.ddad.score(images, FP32).scores
    logit = torch.stack([classifier(images) for classifier in detector.classifiers]).mean(dim=0).detach()
    evidence = torch.stack([parts["r_intra"], parts["r_dual"], logit], dim=1)
    fusion = detector.fusion
    expected = ((evidence - fusion.mean) / fusion.deviation * fusion.weight).sum(dim=1)
    torch.testing.assert_close(scored.scores["image"], expected, rtol=1e-4, atol=1e-4)


def test_each_image_is_left_out_by_one_classifier_and_copies_stay_together() -> None:
    recipe = tiny_recipe(detector="ddad+", fusion__folds=3)
    groups = np.repeat(np.arange(20), 2)
    is_unlabeled = np.arange(40) >= 20
    folds = DDADPlus(recipe)._folds(groups, is_unlabeled)
    assert set(folds.tolist()) == {0, 1, 2}
    assert (folds[::2] == folds[1::2]).all()


def test_images_that_are_all_alike_still_give_folds() -> None:
    folds = DDADPlus(tiny_recipe(detector="ddad+"))._folds(np.zeros(16, np.int64), np.arange(16) >= 8)
    assert len(set(folds.tolist())) == 4


def test_without_unlabeled_images_it_is_r_intra(tmp_path: Path) -> None:
    detector = fit_in(tmp_path, unlabeled=False)
    images = random_images(4, seed=3)
    torch.testing.assert_close(
        detector.score(images, FP32).scores["image"], detector.ddad.score(images, FP32).scores["r_intra"]
    )
    again = DETECTORS["ddad+"](detector.recipe)
    again.load_state_dict(detector.state_dict())
    assert torch.equal(again.score(images, FP32).maps["image"], detector.score(images, FP32).maps["image"])


def test_weights_without_their_other_half_are_refused(tmp_path: Path) -> None:
    detector = fit_in(tmp_path)
    tensors = {name: tensor for name, tensor in detector.state_dict().items() if not name.startswith("classifier_")}
    with pytest.raises(ModelError, match="not those of a DDAD"):
        DDADPlus(detector.recipe).load_state_dict(tensors)
