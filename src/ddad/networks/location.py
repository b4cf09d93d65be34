"""Where an image is unlike normal ones, apart from how much it is."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddad.networks.statistics import pixel_statistics


class Location(nn.Module):
    """Maps smoothed, less what normal images show at each pixel, over one deviation, with a mean of 0 in each image.

    A reconstruction error is large at every sharp edge, by a pixel's width. Smoothed, such errors cancel, and what is
    left of the edges that every image has goes with the usual error there.

    Args:
        kinds: maps of an image.
        image_size: side of the maps.
        spread: standard deviation of the Gaussian, as a share of the side.
    """

    usual: Tensor
    deviation: Tensor

    def __init__(self, kinds: int, image_size: int, spread: float) -> None:
        super().__init__()
        self.spread = spread
        self.register_buffer("usual", torch.zeros(kinds, image_size, image_size))
        self.register_buffer("deviation", torch.ones(kinds))

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Take what is usual from the maps of normal images, batches of (N, kinds, S, S), more than one in all."""
        usual, deviation = pixel_statistics(smoothed(batch, self.spread) for batch in batches)
        self.usual.copy_(usual)
        # One number for a map: where normal images hardly vary, a deviation of the pixel's own would shout.
        self.deviation.copy_(deviation.mean(dim=(1, 2)).clamp_min(torch.finfo(torch.float32).eps))

    def forward(self, maps: Tensor) -> Tensor:
        """Return (N, kinds, S, S), in deviations of normal images, for maps of the same shape."""
        unusual = (smoothed(maps, self.spread) - self.usual) / self.deviation[:, None, None]
        return unusual - unusual.mean(dim=(2, 3), keepdim=True)


def smoothed(maps: Tensor, spread: float) -> Tensor:
    """Smooth maps (N, kinds, S, S) by a Gaussian whose standard deviation is this share of their side."""
    sigma = spread * maps.shape[-1]
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(maps)
    planes = functional.pad(maps.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    planes = functional.conv2d(functional.conv2d(planes, kernel[None, None, None]), kernel[None, None, :, None])
    return planes.view_as(maps)
