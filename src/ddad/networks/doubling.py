"""A transposed convolution that doubles the side of an image, for few outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


class DoublingConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)`, computed as a convolution 3x3 and a pixel shuffle.

    Each pixel becomes four, and each of the four sees 2x2 of the 3x3 neighbours: a convolution with four times the
    outputs (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"). Libraries are slow at
    transposed convolutions with one or two outputs. Weights, their names and what they start from are torch's.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=4, stride=2, padding=1)

    @override
    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Turn (N, inputs, H, W) into (N, outputs, 2H, 2W)."""
        rows = _as_phases(self.weight, dim=2)  # (inputs, outputs, 2, 3, 4)
        kernels = _as_phases(rows, dim=4)  # (inputs, outputs, 2, 3, 2, 3)
        kernels = kernels.permute(1, 2, 4, 0, 3, 5).reshape(-1, self.in_channels, 3, 3)
        assert self.bias is not None
        return functional.pixel_shuffle(
            functional.conv2d(images, kernels, self.bias.repeat_interleave(4), padding=1), 2
        )


def _as_phases(weight: Tensor, dim: int) -> Tensor:
    """Split the four taps along an axis into what the first and the second of two new pixels see of three old ones."""
    first, second, third, fourth = weight.chunk(4, dim=dim)
    nothing = torch.zeros_like(first)
    phases = [torch.cat([fourth, second, nothing], dim=dim), torch.cat([nothing, third, first], dim=dim)]
    return torch.stack(phases, dim=dim)
