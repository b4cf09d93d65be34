"""MemAE (Gong et al. 2019): an autoencoder whose code is rebuilt from a few remembered codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddad.networks.autoencoder import Autoencoder


class MemoryAutoencoder(Autoencoder):
    """The autoencoder with a memory of `slots` codes between encoder and decoder.

    A code is replaced by the mean of the memory items, weighted by the softmax of its product with
    each; no shrinkage, and an entropy loss keeps the addressing sharp.
    """

    def __init__(
        self,
        image_size: int,
        channels: int = 1,
        latent_size: int = 16,
        *,
        slots: int = 25,
        entropy_weight: float = 2e-4,
    ) -> None:
        super().__init__(image_size, channels, latent_size)
        self.entropy_weight = entropy_weight
        bound = latent_size**-0.5
        self.memory = nn.Parameter(torch.empty(slots, latent_size).uniform_(-bound, bound))

    def address(self, code: Tensor) -> Tensor:
        """Weights (N, slots) of the memory items for each code (N, latent_size); rows sum to 1."""
        return functional.softmax(functional.linear(code, self.memory), dim=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reconstruct `images`, (N, C, S, S) in [-1, 1], from the memory."""
        return self.decode(self.address(self.encoder(images)) @ self.memory)

    def loss(self, images: Tensor) -> Tensor:
        """Mean squared error plus the weighted entropy of the addressing."""
        weights = self.address(self.encoder(images)).float()
        reconstruction, _ = self.decode(weights @ self.memory)
        entropy = -(weights * torch.log(weights + 1e-12)).sum(dim=1).mean()
        return ((images - reconstruction) ** 2).mean() + self.entropy_weight * entropy
