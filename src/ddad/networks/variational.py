"""VAE (Kingma and Welling 2014): an autoencoder whose code is a distribution, drawn towards a standard normal."""

from __future__ import annotations

import torch
from torch import Tensor

from ddad.networks.autoencoder import Autoencoder


class VariationalAutoencoder(Autoencoder):
    """The autoencoder with a mean and a log variance for every number of the code.

    The decoder's variance is the one that fits best (σ-VAE, Rybkin et al. 2021), so that no weight between the two
    terms of the loss needs to be chosen.
    """

    def __init__(self, image_size: int, channels: int = 1, latent_size: int = 16) -> None:
        super().__init__(image_size, channels, 2 * latent_size, decoded_size=latent_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reconstruct `images`, (N, C, S, S) in [-1, 1], from the mean of each code."""
        mean, _ = self.encoder(images).chunk(2, dim=1)
        return self.decode(mean)

    def loss(self, images: Tensor) -> Tensor:
        """Negative evidence lower bound for each pixel: log σ of the best-fitting decoder, plus the KL divergence."""
        mean, log_variance = self.encoder(images).float().chunk(2, dim=1)
        code = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        reconstruction, _ = self.decode(code)
        divergence = (mean**2 + torch.exp(log_variance) - 1 - log_variance).sum(dim=1).mean() / 2
        error = ((images - reconstruction) ** 2).mean()
        bound: Tensor = torch.log(error + 1e-8) / 2 + divergence / images[0].numel()
        return bound
