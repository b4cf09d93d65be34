"""CutPaste's network (Li et al. 2021), and the Gaussian that describes what it sees in normal images."""

from __future__ import annotations

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from ddad.networks.residual import ResidualNetwork

CLASSES = 3  # normal, patch, scar


class CutPasteNetwork(nn.Module):
    """A residual network, global average pooling to an embedding, and a projection head that tells the classes apart.

    Args:
        channels: of the image.
        width: channels of the first stage of the residual network; the embedding is 8 times as long.
    """

    mean: Tensor
    precision: Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        length = 8 * width
        self.features = ResidualNetwork(channels, width)
        self.head = nn.Sequential(
            nn.Linear(length, length), nn.BatchNorm1d(length), nn.ReLU(inplace=True), nn.Linear(length, CLASSES)
        )
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("precision", torch.eye(length))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, 3) of normal, patch and scar for images (N, C, S, S) in [-1, 1]."""
        logits: Tensor = self.head(self.embed(images))
        return logits.float()

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (N, 8 width) of images (N, C, S, S) in [-1, 1]."""
        return self._grid(images).mean(dim=(2, 3))

    def fit_gaussian(self, embeddings: Tensor) -> None:
        """Take mean and precision of normal images' embeddings (N, 8 width); the covariance is Ledoit and Wolf's."""
        fitted = LedoitWolf().fit(embeddings.double().cpu().numpy())
        self.mean.copy_(torch.from_numpy(fitted.location_))
        self.precision.copy_(torch.from_numpy(fitted.precision_))

    def distance(self, images: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance as the mean of a grid (N, S / 16, S / 16).

        At each place it is what the place adds to it: the embedding is a mean over places, so that the distance is one,
        too. That is Grad-CAM (Selvaraju et al. 2017) of the negative log density, in closed form and before its ReLU.
        """
        apart = self._grid(images) - self.mean[:, None, None]
        # The distance keeps full precision: it is made of small differences.
        with torch.autocast(images.device.type, enabled=False):
            slope = apart.mean(dim=(2, 3)) @ self.precision
            return torch.einsum("nchw,nc->nhw", apart, slope)

    def _grid(self, images: Tensor) -> Tensor:
        grid: Tensor = self.features(images)
        return grid.float()
