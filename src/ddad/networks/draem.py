"""DRAEM's two networks (Zavrtanik et al. 2021): one that takes anomalies out, one that compares before and after."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddad.networks.unet import UNet, block


class ReconstructiveNetwork(nn.Module):
    """An encoder and a decoder of three halvings without skips: an image with an anomaly in, the same without it out.

    Args:
        channels: of the image.
        width: channels of the first level; doubled at each level below.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [block(channels, width)]
        for level in range(3):
            layers += [nn.MaxPool2d(2), block(width * 2**level, width * 2 ** (level + 1))]
        for level in reversed(range(3)):
            layers += [nn.Upsample(scale_factor=2), block(width * 2 ** (level + 1), width * 2**level)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, kernel_size=3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Return reconstructions (N, C, S, S) of images (N, C, S, S) in [-1, 1]."""
        reconstruction: Tensor = self.layers(images).float()
        return reconstruction


class DRAEMNetwork(nn.Module):
    """Both networks: the second, a U-Net, sees the image beside its reconstruction and marks what differs."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reconstructive = ReconstructiveNetwork(channels, width)
        self.discriminative = UNet(2 * channels, 1, width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstructions (N, C, S, S), and logits (N, S, S) of the anomaly probability of every pixel."""
        reconstruction = self.reconstructive(images)
        both = torch.cat([reconstruction, images], dim=1)
        return reconstruction, self.discriminative(both).squeeze(1)
