from __future__ import annotations

import pytest
import torch

from ddad.networks.unet import UNet


@pytest.mark.parametrize(("inputs", "outputs", "size"), [(1, 1, 16), (3, 2, 64), (2, 1, 80)])
def test_a_map_has_the_size_of_its_image(inputs: int, outputs: int, size: int) -> None:
    assert UNet(inputs, outputs, 4)(torch.zeros(2, inputs, size, size)).shape == (2, outputs, size, size)


def test_a_pixel_reaches_the_output_through_the_first_skip() -> None:
    torch.manual_seed(0)
    network = UNet(1, 1, 4).eval()
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    network(image)[0, 0, 8, 8].backward()
    assert image.grad is not None
    assert image.grad[0, 0, 8, 8] != 0
