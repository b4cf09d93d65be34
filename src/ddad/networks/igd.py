"""IGD's networks (Chen et al. 2022): an autoencoder whose codes lie about one centre, and a critic of its decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddad.networks.dcgan import ConvolutionalDecoder, ConvolutionalEncoder
from ddad.networks.ssim import multi_scale_similarity, similarity_map
from ddad.recipe_sections import IGD, Preprocessing

_RANGE = 2.0  # of pixels in [-1, 1]
_LEAST_COORDINATE = 0.1
_LEAST_SPREAD = 1.0


class IGDNetwork(nn.Module):
    """Encoder, decoder, critic, and the Gaussian that describes the codes of normal images.

    Args:
        image_size: side S of the square images, a multiple of 16.
        channels: of the images.
        width: channels of the layers nearest to the image.
        latent_size: length of the code.
        structure_weight: share of the multi-scale similarity in the reconstruction error; the rest is absolute error.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, image_size: int, channels: int, width: int, latent_size: int, structure_weight: float) -> None:
        super().__init__()
        self.structure_weight = structure_weight
        self.autoencoder = nn.ModuleDict(
            {
                "encoder": ConvolutionalEncoder(image_size, channels, width, latent_size),
                "decoder": ConvolutionalDecoder(image_size, channels, width, latent_size),
            }
        )
        self.critic = ConvolutionalEncoder(image_size, channels, width, 1, norm="layer")
        self.register_buffer("centre", torch.zeros(latent_size))
        self.register_buffer("spread", torch.ones(()))

    def fit_gaussian(self, codes: Tensor) -> None:
        """Take centre and spread (the mean squared distance, at least 1) of the codes (N, latent_size)."""
        centre = codes.mean(dim=0)
        # As published: a coordinate of zero would be reached by switching it off.
        held = torch.where(centre < 0, -_LEAST_COORDINATE, _LEAST_COORDINATE)
        self.centre.copy_(torch.where(centre.abs() < _LEAST_COORDINATE, held, centre))
        self.spread.copy_(((codes - self.centre) ** 2).sum(dim=1).mean().clamp_min(_LEAST_SPREAD))

    def encode(self, images: Tensor) -> Tensor:
        """Return codes (N, latent_size) of images (N, C, S, S) in [-1, 1]."""
        codes: Tensor = self.autoencoder["encoder"](images)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Return images (N, C, S, S) in [-1, 1] of codes (N, latent_size)."""
        images: Tensor = self.autoencoder["decoder"](codes)
        return images

    def unlikeliness(self, codes: Tensor) -> Tensor:
        """Return 1 - exp(-‖z - c‖² / σ²) of codes, (N,) in [0, 1]: the Gaussian anomaly classifier."""
        return 1 - torch.exp(-((codes - self.centre) ** 2).sum(dim=1) / self.spread)

    def reconstruction_error(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Return the weighted sum of 1 - MS-SSIM and the absolute error / the range of pixels, (N,)."""
        structure = 1 - multi_scale_similarity(images, reconstructions, _RANGE)
        absolute = (images - reconstructions).abs().flatten(1).mean(dim=1) / _RANGE
        return self.structure_weight * structure + (1 - self.structure_weight) * absolute

    def error_map(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Return the same for every pixel, (N, S, S)."""
        structure = 1 - similarity_map(images, reconstructions, _RANGE)
        absolute = (images - reconstructions).abs() / _RANGE
        return (self.structure_weight * structure + (1 - self.structure_weight) * absolute).mean(dim=1)


def build_igd(images: Preprocessing, settings: IGD) -> IGDNetwork:
    """Build the untrained network that a recipe's sections describe."""
    return IGDNetwork(
        images.image_size, images.channels, settings.width, settings.latent_size, settings.structure_weight
    )
