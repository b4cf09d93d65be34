from __future__ import annotations

from math import exp, log, log1p
from pathlib import Path

import numpy as np
import pytest
import torch

from ddad.networks.classifier import Classifier
from ddad.training.checkpoint import load_tensors
from ddad.training.classification import classification_loss, train_classifier
from ddad.training.device import Compute
from ddad.training.pixels import ImagePool
from support import tiny_recipe


def images(count: int, *, bright_half: bool, seed: int) -> np.ndarray:
    """Noise, and in some a half of the image brighter: what is to be learned."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.0, (count, 1, 16, 16)).astype(np.float32)
    noise[:, :, :, :8] += 0.8 * bright_half
    return noise


def logits(tmp_path: Path, suspicion: list[float] | None, abnormal: ImagePool | None = None) -> torch.Tensor:
    """Train on plain normals and a pile of plain and bright ones; return the logits of a plain and a bright image."""
    recipe = tiny_recipe(classification__epochs=20, classification__width=4, classification__batch_size=16)
    pile = np.concatenate([images(16, bright_half=False, seed=1), images(16, bright_half=True, seed=2)])
    into = tmp_path / "classifier.safetensors"
    normal = ImagePool([images(32, bright_half=False, seed=0)])
    compute = Compute("cpu", "fp32")
    train_classifier(
        recipe, normal, ImagePool([pile]), 0, into, compute, lambda _: None, abnormal=abnormal, suspicion=suspicion
    )
    network = Classifier(1, 4)
    network.load_state_dict(load_tensors(into)[0])
    shown = np.concatenate([images(1, bright_half=half, seed=3) for half in (False, True)])
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(shown))


def test_what_only_unlabeled_images_show_is_learned(tmp_path: Path) -> None:
    plain, bright = logits(tmp_path, None)
    assert bright > plain + 1


def test_an_unlabeled_image_that_is_not_suspected_stands_with_the_normal_ones(tmp_path: Path) -> None:
    told = logits(tmp_path, [0.0] * 16 + [1.0] * 16)
    (tmp_path / "other").mkdir()
    turned = logits(tmp_path / "other", [1.0] * 16 + [0.0] * 16)
    assert told[1] - told[0] > 1
    assert turned[1] - turned[0] < 0


def test_abnormal_images_are_learned_beside_a_pile_that_is_not_suspected(tmp_path: Path) -> None:
    abnormal = ImagePool([images(8, bright_half=True, seed=4)])
    plain, bright = logits(tmp_path, [0.0] * 16 + [0.5] * 16, abnormal)
    assert bright > plain


def test_each_place_answers_for_itself_or_their_mean_does() -> None:
    evidence, label, weight = torch.tensor([[[2.0, -2.0]], [[1.0, 1.0]]]), torch.tensor([1.0, 0.0]), torch.tensor(3.0)
    by_places = classification_loss(evidence, label, weight, "places")
    by_image = classification_loss(evidence, label, weight, "image")
    assert by_places.item() == pytest.approx((3 * (log1p(exp(-2)) + log1p(exp(2))) / 2 + log1p(exp(1))) / 2)
    assert by_image.item() == pytest.approx((3 * log(2) + log1p(exp(1))) / 2)


def test_supervision_is_a_setting_of_the_recipe(tmp_path: Path) -> None:
    found = []
    for supervision in ("image", "places"):
        into = tmp_path / f"{supervision}.safetensors"
        recipe = tiny_recipe(images__image_size=32, classification__supervision=supervision)
        pools = [ImagePool([np.random.default_rng(k).random((8, 1, 32, 32), dtype=np.float32)]) for k in range(2)]
        train_classifier(recipe, pools[0], pools[1], 0, into, Compute("cpu", "fp32"), lambda _: None)
        found.append(load_tensors(into)[1]["losses"])
    assert found[0] != found[1]
