"""GANomaly's networks (Akcay et al. 2018): encoder, decoder, second encoder, and a discriminator."""

from __future__ import annotations

from torch import Tensor, nn

from ddad.networks.dcgan import ConvolutionalDecoder, ConvolutionalEncoder, initialise_as_published


class EncoderDecoderEncoder(nn.Module):
    """Encodes an image, decodes it, and encodes what came out: of an unusual image both codes differ.

    Args:
        image_size: side S of the square images, a multiple of 16.
        channels: of the images.
        width: channels of the layers nearest to the image.
        latent_size: length of both codes.
    """

    def __init__(self, image_size: int, channels: int, width: int, latent_size: int) -> None:
        super().__init__()
        self.encoder = ConvolutionalEncoder(image_size, channels, width, latent_size)
        self.decoder = ConvolutionalDecoder(image_size, channels, width, latent_size)
        self.second_encoder = ConvolutionalEncoder(image_size, channels, width, latent_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return reconstructions (N, C, S, S) of images in [-1, 1], their codes, and the reconstructions' codes."""
        code = self.encoder(images)
        reconstruction = self.decoder(code)
        return reconstruction, code, self.second_encoder(reconstruction)


class GANomalyNetwork(nn.Module):
    """The generator, and the discriminator that it is trained against."""

    def __init__(self, image_size: int, channels: int, width: int, latent_size: int) -> None:
        super().__init__()
        self.generator = EncoderDecoderEncoder(image_size, channels, width, latent_size)
        self.discriminator = ConvolutionalEncoder(image_size, channels, width, 1)
        initialise_as_published(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do as the generator."""
        outputs: tuple[Tensor, Tensor, Tensor] = self.generator(images)
        return outputs
