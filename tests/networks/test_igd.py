from __future__ import annotations

import pytest
import torch

from ddad.networks.igd import IGDNetwork
from ddad.networks.ssim import multi_scale_similarity
from support import random_images


@pytest.fixture
def network() -> IGDNetwork:
    return IGDNetwork(16, 1, 4, 2, structure_weight=0.85).eval()


def test_the_gaussian_by_hand(network: IGDNetwork) -> None:
    network.fit_gaussian(torch.tensor([[1.0, 3.0], [3.0, -3.0]]))
    # Means 2 and 0, of which the second is held away from zero; distances² 1 + 2.9² and 1 + 3.1².
    torch.testing.assert_close(network.centre, torch.tensor([2.0, 0.1]))
    torch.testing.assert_close(float(network.spread), (1 + 2.9**2 + 1 + 3.1**2) / 2)
    spread = float(network.spread)
    codes = torch.tensor([[2.0, 0.1], [2.0, 0.1 + spread**0.5], [99.0, 99.0]])
    expected = torch.tensor([0.0, 1 - torch.exp(torch.tensor(-1.0)), 1.0])
    torch.testing.assert_close(network.unlikeliness(codes), expected)


def test_a_narrow_cloud_of_codes_has_a_spread_of_one(network: IGDNetwork) -> None:
    network.fit_gaussian(torch.tensor([[-0.01, 1.0], [-0.01, 1.2]]))
    torch.testing.assert_close(network.centre, torch.tensor([-0.1, 1.1]))
    assert float(network.spread) == 1


def test_the_reconstruction_error_is_a_weighted_sum(network: IGDNetwork) -> None:
    images, others = random_images(3), random_images(3, seed=1)
    absolute = (images - others).abs().mean(dim=(1, 2, 3)) / 2
    expected = 0.85 * (1 - multi_scale_similarity(images, others)) + 0.15 * absolute
    torch.testing.assert_close(network.reconstruction_error(images, others), expected)
    torch.testing.assert_close(network.reconstruction_error(images, images), torch.zeros(3), atol=1e-4, rtol=0)


def test_the_map_is_highest_where_the_image_differs(network: IGDNetwork) -> None:
    images = random_images(1)
    changed = images.clone()
    changed[:, :, 9:12, 3:6] = 1
    error = network.error_map(changed, images)[0]
    row, column = divmod(int(error.argmax()), 16)
    assert 8 <= row <= 12
    assert 2 <= column <= 6
