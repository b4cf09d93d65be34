"""U-Net (Ronneberger et al. 2015): an image in, a map of the same size out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    """Four levels of two convolutions 3x3, halved by max pooling on the way down, joined by skips on the way up.

    Args:
        inputs: channels of the image.
        outputs: channels of the map.
        width: channels of the first level; doubled at each level below.
    """

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(
            block(before, after) for before, after in zip([inputs, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            block(below + here, here) for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(width, outputs, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (N, outputs, S, S) for images (N, inputs, S, S), S a multiple of 8."""
        skips: list[Tensor] = []
        x = images
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1))
        # The output keeps full precision: a score is a mean over it.
        with torch.autocast(x.device.type, enabled=False):
            maps: Tensor = self.head(x.float())
        return maps


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions 3x3, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [
            nn.Conv2d(before, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
