"""From the same weights and batches, `paper` learns what a plain loop of the published kind learns.

Curves are compared, not weights: the bias before a batch normalisation has no gradient, and Adam makes steps of what
rounding leaves there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddad import Recipe
from ddad.networks.ensemble import Ensemble, discrepancy_maps
from ddad.networks.factory import build_asr_net, build_autoencoder
from ddad.synthesis import apply_patches, draw_patches
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches
from ddad.training.pixels import ImagePool
from ddad.training.reconstruction import train_members
from ddad.training.refinement import focal_loss, train_refiners
from ddad.training.seeds import derived_seed, torch_generator
from support import random_images

CPU = Compute("cpu", "fp32")
IMAGES = random_images(21, seed=8)  # not a whole number of batches
EPOCHS = {"ndm": 2, "asr-net": 6}
PAPER = Recipe.preset("paper").changed(
    {
        "images.image_size": 16,
        "reconstruction.members": 2,
        "reconstruction.ndm_epochs": EPOCHS["ndm"],
        "reconstruction.least_steps": 1,
        "refinement.width": 8,
        "refinement.epochs": EPOCHS["asr-net"],
        "refinement.learning_rate": 0.01,  # so that few steps change much
        "refinement.least_steps": 1,
    }
)


def batches(epochs: int, *purpose: str | int) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Yield the places that the engine draws, and the generator that it goes on with."""
    for epoch in range(epochs):
        generator = torch_generator(PAPER.seed, *purpose, "epoch", epoch)
        for chosen in epoch_batches(len(IMAGES), 8, 1, generator):
            yield chosen, generator


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


def assert_same_curve(file: Path, losses: list[float]) -> None:
    steps = len(IMAGES) // 8
    means = [sum(losses[start : start + steps]) / steps for start in range(0, len(losses), steps)]
    assert load_tensors(file)[1]["losses"] == pytest.approx(means, rel=5e-3)


@pytest.mark.parametrize("backbone", ["ae", "memae", "ae-u"])
def test_a_reconstruction_network_learns_as_in_a_plain_loop(backbone: str, tmp_path: Path) -> None:
    recipe = PAPER.changed({"reconstruction.backbone": backbone, "reconstruction.batch_size": 8})
    train_members(recipe, "ndm", [1], ImagePool([IMAGES.numpy()]), [tmp_path / "ours"], CPU, lambda _: None)

    torch.manual_seed(derived_seed(recipe.seed, "ndm", 1, "weights"))
    network = build_autoencoder(recipe.images, recipe.reconstruction)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, betas=(0.5, 0.999))
    losses = []
    for chosen, _ in batches(EPOCHS["ndm"], "ndm", 1):
        losses.append(step(optimizer, network.loss(IMAGES[chosen])))
    assert_same_curve(tmp_path / "ours", losses)


@pytest.mark.parametrize("inputs", [["a_intra"], ["a_intra", "a_inter"]])
def test_an_asr_net_learns_as_in_a_plain_loop(inputs: list[str], tmp_path: Path) -> None:
    torch.manual_seed(3)
    members = [build_autoencoder(PAPER.images, PAPER.reconstruction) for _ in range(4)]
    ndm, udm = (Ensemble(part).eval() for part in (members[:2], members[2:]))
    modules = {"ndm": ndm, "udm": udm}
    train_refiners(PAPER, [inputs], ImagePool([IMAGES.numpy()]), modules, [tmp_path / "ours"], CPU, lambda _: None)

    purpose = "+".join(inputs)
    torch.manual_seed(derived_seed(PAPER.seed, purpose, "weights"))
    network = build_asr_net(PAPER, inputs)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.5, 0.999), weight_decay=1e-4)
    losses = []
    for chosen, generator in batches(EPOCHS["asr-net"], purpose):
        draw = draw_patches(chosen, len(IMAGES), 16, PAPER.synthesis, generator)
        mixed, labels = apply_patches(IMAGES[chosen], IMAGES[draw.donors], draw)
        with torch.no_grad():
            maps = discrepancy_maps(ndm, udm, mixed)
        normal, abnormal = network.head(network.layers(torch.stack([maps[name] for name in inputs], dim=1))).unbind(1)
        losses.append(step(optimizer, focal_loss(abnormal - normal, labels, 2.0)))
    assert_same_curve(tmp_path / "ours", losses)
