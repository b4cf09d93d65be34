from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ddad.networks.ensemble import Ensemble
from ddad.networks.factory import build_autoencoder
from ddad.training.checkpoint import load_tensors, save_tensors
from ddad.training.device import Compute
from ddad.training.pixels import ImagePool
from ddad.training.refinement import focal_loss, load_ensemble, train_refiners
from support import random_images, same_tensors, tiny_recipe


def random_case(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 8, 8, generator=generator)
    return logits, (torch.rand(2, 8, 8, generator=generator) < 0.3).float()


def test_equation_12_by_hand() -> None:
    # p = 0.9 with label 1, and p = 0.6 with label 0, so p_t = 0.4.
    logits = torch.tensor([math.log(0.9 / 0.1), math.log(0.6 / 0.4)])
    labels = torch.tensor([1.0, 0.0])
    expected = (0.1**2 * -math.log(0.9) + 0.6**2 * -math.log(0.4)) / 2
    assert focal_loss(logits, labels, 2.0).item() == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_gamma_0_is_cross_entropy(seed: int) -> None:
    logits, labels = random_case(seed)
    torch.testing.assert_close(
        focal_loss(logits, labels, 0.0), functional.binary_cross_entropy_with_logits(logits, labels)
    )


@given(st.integers(0, 2**31), st.floats(0, 5), st.floats(0.1, 3))
@settings(deadline=None, max_examples=30)
def test_a_larger_gamma_takes_away_and_the_loss_is_never_negative(seed: int, gamma: float, more: float) -> None:
    logits, labels = random_case(seed)
    less = focal_loss(logits, labels, gamma + more)
    assert 0 <= less <= focal_loss(logits, labels, gamma)


@given(st.integers(0, 2**31), st.floats(0, 4))
@settings(deadline=None, max_examples=30)
def test_both_classes_are_treated_alike(seed: int, gamma: float) -> None:
    logits, labels = random_case(seed)
    torch.testing.assert_close(focal_loss(logits, labels, gamma), focal_loss(-logits, 1 - labels, gamma))


def test_easy_pixels_weigh_less_than_in_cross_entropy() -> None:
    easy, hard, label = torch.tensor([4.0]), torch.tensor([-4.0]), torch.tensor([1.0])
    assert focal_loss(easy, label, 2.0) / focal_loss(hard, label, 2.0) < 1e-3 * focal_loss(
        easy, label, 0.0
    ) / focal_loss(hard, label, 0.0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_sure_pixels_have_a_finite_loss_and_gradient(gamma: float) -> None:
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0, 0.0], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]), gamma)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_members_are_loaded_ready_to_reconstruct(tmp_path: Path) -> None:
    recipe, x = tiny_recipe(), random_images(3)
    torch.manual_seed(0)
    members = [build_autoencoder(recipe.images, recipe.reconstruction) for _ in range(2)]
    for number, member in enumerate(members):
        member.loss(x)  # moves the running statistics
        save_tensors(tmp_path / str(number), member.state_dict())
    loaded = load_ensemble(recipe, [tmp_path / "0", tmp_path / "1"])
    assert torch.equal(loaded(x)[0], Ensemble(members).eval()(x)[0])


@pytest.mark.parametrize("network", ["published", "anchored"])
def test_a_refiner_learns_to_find_foreign_patches(network: str, tmp_path: Path) -> None:
    """Its loss falls, and the modules that it looks at do not change."""
    recipe = tiny_recipe(refinement__epochs=12, refinement__learning_rate=0.01, refinement__network=network)
    images = random_images(24)
    torch.manual_seed(0)
    modules = {
        name: Ensemble([build_autoencoder(recipe.images, recipe.reconstruction) for _ in range(2)]).eval()
        for name in ("ndm", "udm")
    }
    before = {name: tensor.clone() for name, tensor in modules["ndm"].state_dict().items()}
    lines: list[str] = []
    into = tmp_path / "r.safetensors"
    pool = ImagePool([images.numpy()])
    train_refiners(recipe, [["a_intra", "a_inter"]], pool, modules, [into], Compute("cpu", "fp32"), lines.append)
    _, notes = load_tensors(into)
    assert len(lines) == len(notes["losses"]) == 12
    assert sum(notes["losses"][-3:]) < 0.9 * sum(notes["losses"][:3])
    assert all(torch.equal(before[name], tensor) for name, tensor in modules["ndm"].state_dict().items())


@pytest.mark.parametrize("network", ["published", "anchored"])
def test_fewer_images_than_a_batch_are_enough(network: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(refinement__batch_size=64, refinement__network=network)
    torch.manual_seed(0)
    ndm = Ensemble([build_autoencoder(recipe.images, recipe.reconstruction) for _ in range(2)]).eval()
    into, pool = tmp_path / "r", ImagePool([random_images(3).numpy()])
    train_refiners(recipe, [["a_intra"]], pool, {"ndm": ndm}, [into], Compute("cpu", "fp32"), lambda _: None)
    tensors, notes = load_tensors(into)
    assert math.isfinite(notes["losses"][0])
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_refiners_that_learn_together_are_what_each_would_be_alone(tmp_path: Path) -> None:
    recipe, pool = tiny_recipe(), ImagePool([random_images(20).numpy()])
    torch.manual_seed(0)
    modules = {
        name: Ensemble([build_autoencoder(recipe.images, recipe.reconstruction) for _ in range(2)]).eval()
        for name in ("ndm", "udm")
    }
    inputs, cpu = {"r_dual": ["a_intra", "a_inter"], "r_intra": ["a_intra"]}, Compute("cpu", "fp32")
    for score, names in inputs.items():
        train_refiners(recipe, [names], pool, modules, [tmp_path / f"{score}-alone"], cpu, lambda _: None)
    train_refiners(recipe, list(inputs.values()), pool, modules, [tmp_path / score for score in inputs], cpu, print)
    for score in inputs:
        together, alone = load_tensors(tmp_path / score), load_tensors(tmp_path / f"{score}-alone")
        assert together[1] == alone[1]
        assert same_tensors(together[0], alone[0])
