"""A plain convolutional classifier whose logit is the mean of a map, so that it can say where."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Classifier(nn.Module):
    """Four convolutions 3x3, each halved by max pooling, then a linear layer at every place of the last grid.

    The logit of an image is the mean over that grid, which is global average pooling followed by a linear
    layer; the grid itself is the class activation map (Zhou et al. 2016).

    Args:
        channels: of the input.
        width: channels after the first convolution; 1, 2, 4 and 4 times as many in the four layers.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 4 * width]
        self.features = nn.Sequential(*(_halve(before, after) for before, after in pairwise(widths)))
        self.head = nn.Conv2d(widths[-1], 1, kernel_size=1)

    def activation(self, images: Tensor) -> Tensor:
        """Return the evidence at each place of the grid, (N, S / 16, S / 16), for images (N, C, S, S) in [-1, 1]."""
        features = self.features(images)
        # The output keeps full precision: the score is a mean over it.
        with torch.autocast(features.device.type, enabled=False):
            evidence: Tensor = self.head(features.float())
        return evidence.squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logit of each image, (N,)."""
        return self.activation(images).flatten(1).mean(dim=1)


def enlarge(evidence: Tensor, size: int) -> Tensor:
    """Interpolate maps (N, h, w) to (N, size, size)."""
    return functional.interpolate(evidence[:, None], size=(size, size), mode="bilinear").squeeze(1)


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        # The highest of four is the same before and after: so a quarter of the numbers is rectified.
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
    )
