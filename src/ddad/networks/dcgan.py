"""DCGAN's encoder and decoder (Radford et al. 2016): four strided convolutions 4x4 between an image and a vector."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["batch", "layer"]


class ConvolutionalEncoder(nn.Module):
    """Halves the image four times, with twice the channels each time; the last convolution spans the whole grid.

    Args:
        image_size: side S of the square input, a multiple of 16.
        channels: of the image.
        width: channels after the first convolution.
        outputs: length of the vector.
        norm: batch normalisation, or layer normalisation, which keeps images apart as a gradient penalty needs it.
    """

    def __init__(self, image_size: int, channels: int, width: int, outputs: int, *, norm: Norm = "batch") -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after) if norm == "batch" else nn.GroupNorm(1, after),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], outputs, kernel_size=image_size // 16)

    def features(self, images: Tensor) -> Tensor:
        """Return what the last layer sees, (N, 8 width, S / 16, S / 16), of images (N, C, S, S) in [-1, 1]."""
        features: Tensor = self.layers(images)
        return features

    def read(self, features: Tensor) -> Tensor:
        """Return the vector (N, outputs) of features."""
        # The output keeps full precision: scores and distances are made of it.
        with torch.autocast(features.device.type, enabled=False):
            vector: Tensor = self.head(features.float())
        return vector.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the vector (N, outputs) of images (N, C, S, S) in [-1, 1]."""
        return self.read(self.features(images))


class ConvolutionalDecoder(nn.Module):
    """The encoder mirrored: a vector in, an image in [-1, 1] out."""

    def __init__(self, image_size: int, channels: int, width: int, inputs: int) -> None:
        super().__init__()
        widths = [8 * width, 4 * width, 2 * width, width]
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(inputs, widths[0], kernel_size=image_size // 16, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        for before, after in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1))

    def forward(self, code: Tensor) -> Tensor:
        """Return images (N, C, S, S) in [-1, 1] of vectors (N, inputs)."""
        images: Tensor = self.layers(code[:, :, None, None])
        return torch.tanh(images.float())


def initialise_as_published(network: nn.Module) -> None:
    """Draw weights as DCGAN does: convolutions from N(0, 0.02²), scales of batch normalisation from N(1, 0.02²)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
