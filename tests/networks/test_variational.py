from __future__ import annotations

import math

import torch
from torch import nn

from ddad.networks.variational import VariationalAutoencoder
from support import random_images


class FixedCode(nn.Module):
    """An encoder that gives every image the same mean and log variance."""

    def __init__(self, mean: float, log_variance: float, size: int) -> None:
        super().__init__()
        self.code = torch.tensor([mean] * size + [log_variance] * size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.code.expand(len(images), -1)


def test_the_loss_is_the_bound_with_the_best_fitting_variance() -> None:
    network = VariationalAutoencoder(16, 1, 3).eval()
    images = random_images(4)
    network.encoder = FixedCode(0.5, -60.0, 3)  # next to no variance: the code is its mean
    error = ((images - network(images)[0]) ** 2).mean().item()
    divergence = 3 * (0.25 + math.exp(-60) - 1 + 60) / 2
    assert abs(network.loss(images).item() - (math.log(error) / 2 + divergence / 256)) < 1e-4


def test_a_standard_normal_code_costs_nothing() -> None:
    network = VariationalAutoencoder(16, 1, 3).eval()
    network.encoder = FixedCode(0.0, 0.0, 3)
    nn.init.zeros_(network.decoder[-1].weight)
    nn.init.zeros_(network.decoder[-1].bias)
    images = random_images(4)
    expected = math.log((images**2).mean().item()) / 2
    assert abs(network.loss(images).item() - expected) < 1e-4


def test_an_image_is_reconstructed_from_its_mean_code_without_chance() -> None:
    network = VariationalAutoencoder(16, 1, 3).eval()
    images = random_images(2)
    assert torch.equal(network(images)[0], network(images)[0])
    assert network(images)[1] is None
