from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ddad.networks.f_anogan import WGAN, FAnoGANNetwork
from support import random_images


class Slope(nn.Module):
    """A critic whose gradient is `slope` everywhere."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = nn.Parameter(slope)

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.slope).flatten(1).sum(dim=1, keepdim=True)


@pytest.mark.parametrize(("length", "expected"), [(1.0, 0.0), (3.0, 4.0), (0.5, 0.25)])
def test_the_penalty_is_the_squared_distance_of_the_gradients_length_from_one(length: float, expected: float) -> None:
    slope = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    gan = WGAN(16, 1, 4, 6)
    gan.critic = Slope(length * slope / slope.norm())  # type: ignore[assignment]
    penalty = gan.gradient_penalty(random_images(3), random_images(3, seed=1), torch.rand(3))
    torch.testing.assert_close(float(penalty.detach()), expected, rtol=1e-4, atol=1e-6)
    penalty.backward()
    assert gan.critic.slope.grad is not None


def test_a_perfect_reconstruction_has_the_same_features() -> None:
    network = FAnoGANNetwork(16, 1, 4, 6).eval()
    made = network.gan.generator(torch.randn(2, 6))
    network.gan.generator = Constant(made)  # type: ignore[assignment]
    reconstruction, difference = network(made)
    assert torch.equal(reconstruction, made)
    assert torch.equal(difference, torch.zeros(2))
    _, difference = network(-made)
    assert (difference > 0).all()


class Constant(nn.Module):
    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images

    def forward(self, _: Tensor) -> Tensor:
        return self.images
