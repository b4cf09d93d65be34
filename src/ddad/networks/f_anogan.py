"""f-AnoGAN's networks (Schlegl et al. 2019): a generator, its critic, and an encoder back to the generator's code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddad.networks.dcgan import ConvolutionalDecoder, ConvolutionalEncoder


class WGAN(nn.Module):
    """A generator and a critic (Gulrajani et al. 2017); the critic's layers are normalised image by image.

    Args:
        image_size: side S of the square images, a multiple of 16.
        channels: of the images.
        width: channels of the layers nearest to the image.
        latent_size: length of the generator's code z, drawn from N(0, 1).
    """

    def __init__(self, image_size: int, channels: int, width: int, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.generator = ConvolutionalDecoder(image_size, channels, width, latent_size)
        self.critic = ConvolutionalEncoder(image_size, channels, width, 1, norm="layer")

    def gradient_penalty(self, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """Return the mean of (‖∇D‖ - 1)² where real and fake images (N, C, S, S) are mixed in shares (N,)."""
        mixed = torch.lerp(real, fake, mix[:, None, None, None]).requires_grad_()
        (slopes,) = torch.autograd.grad(self.critic(mixed).sum(), mixed, create_graph=True)
        penalty: Tensor = ((slopes.flatten(1).norm(dim=1) - 1) ** 2).mean()
        return penalty


class FAnoGANNetwork(nn.Module):
    """The GAN and the encoder E: an image is compared with G(E(x)), in its pixels and in what the critic sees."""

    def __init__(self, image_size: int, channels: int, width: int, latent_size: int) -> None:
        super().__init__()
        self.gan = WGAN(image_size, channels, width, latent_size)
        self.encoder = ConvolutionalEncoder(image_size, channels, width, latent_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return G(E(x)) (N, C, S, S), and the mean squared difference of the critic's features (N,)."""
        reconstruction = self.gan.generator(self.encoder(images))
        difference = self.gan.critic.features(reconstruction).float() - self.gan.critic.features(images).float()
        return reconstruction, (difference**2).flatten(1).mean(dim=1)
