"""How far an anomaly reaches: local evidence, joined with what a network says that has learned such evidence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddad.networks.unet import UNet

_WHOLE = 12.0
_NETWORK_COUNTS = 4.0


class Extent(nn.Module):
    """The evidence at each pixel, and that which a U-Net expects there that has learned it from the images of the fit.

    The evidence flickers: of a lesion, only those parts are reconstructed badly that differ from what would be there
    in health, and noise is reconstructed badly everywhere. A network that sees the image alone cannot know the flicker;
    what it learns is the mean over all places that look alike, and that is the same all over a lesion.

    Args:
        channels: of the images.
        width: of the U-Net.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.network = UNet(channels, 1, width)

    def forward(self, images: Tensor, evidence: Tensor) -> Tensor:
        """Return maps (N, S, S) in units of the evidence, for images (N, C, S, S) and evidence (N, S, S), 0 or more.

        The network counts four times.
        """
        expected: Tensor = _WHOLE * torch.sigmoid(self.network(images).squeeze(1))
        return evidence + _NETWORK_COUNTS * expected


def as_share(evidence: Tensor) -> Tensor:
    """Return how abnormal pixels are, in [0, 1], for evidence as `DDADPlus` finds it; 12 and more is the whole."""
    return (evidence / _WHOLE).clamp(0, 1)
