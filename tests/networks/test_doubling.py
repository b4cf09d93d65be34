from __future__ import annotations

import pytest
import torch
from torch import nn

from ddad.networks.doubling import DoublingConvTranspose2d


def pair(inputs: int, outputs: int) -> tuple[nn.ConvTranspose2d, DoublingConvTranspose2d]:
    torch.manual_seed(0)
    theirs = nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
    torch.manual_seed(0)
    return theirs, DoublingConvTranspose2d(inputs, outputs)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 8, 8)])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_it_computes_what_torchs_own_layer_does(outputs: int, shape: tuple[int, int, int]) -> None:
    count, height, width = shape
    theirs, ours = pair(4, outputs)
    images = torch.rand(count, 4, height, width, generator=torch.Generator().manual_seed(1))
    found = []
    for layer in (theirs, ours):
        own = images.clone().requires_grad_()
        result = layer(own)
        slopes = torch.rand(result.shape, generator=torch.Generator().manual_seed(2))
        result.backward(slopes)
        found.append((result, own.grad, layer.weight.grad, layer.bias.grad))
    assert found[1][0].shape == (count, outputs, 2 * height, 2 * width)
    for expected, given in zip(*found, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)


def test_weights_have_the_names_and_the_start_of_torchs_own() -> None:
    theirs, ours = pair(16, 2)
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight)


def test_one_weight_reaches_the_pixels_that_it_should() -> None:
    """By hand: tap (0, 3) of the pixel (1, 1) lands at row 2·1 - 1 + 0, column 2·1 - 1 + 3."""
    _, layer = pair(1, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[0, 0, 0, 3] = 5
        image = torch.zeros(1, 1, 3, 3)
        image[0, 0, 1, 1] = 2
        result = layer(image)[0, 0]
    expected = torch.zeros(6, 6)
    expected[1, 4] = 10
    assert torch.equal(result, expected)
