"""f-AnoGAN (Schlegl et al. 2019): a GAN of normal images, and an encoder that finds the image most like a given one."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from typing_extensions import override

from ddad.detectors.base import Curves, FitContext, Scored
from ddad.detectors.one_class import OneClassDetector
from ddad.networks.f_anogan import FAnoGANNetwork
from ddad.recipe import Recipe
from ddad.training.device import Compute


class FAnoGAN(OneClassDetector):
    """WGAN-GP and the encoder izi_f; A(x) is the squared residual plus κ times that of the critic's features.

    The map is the absolute residual, as published. Unlabeled images are not looked at.
    """

    name = "f-anogan"
    sections = ("f_anogan",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        settings, images = recipe.f_anogan, recipe.images
        self.network: FAnoGANNetwork = FAnoGANNetwork(
            images.image_size, images.channels, settings.width, settings.latent_size
        )

    @override
    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train the GAN, then the encoder; both go on from their checkpoints in the workspace."""
        settings, gan = self.recipe.f_anogan, context.workspace / "gan.safetensors"
        curves = self._train(
            self.network.gan, "f_anogan:train_gan", gan, normal, context,
            title="GAN", steps=settings.gan_epochs,
        )  # fmt: skip
        encoder = self._train(
            self.network.encoder, "f_anogan:train_encoder", context.workspace / "encoder.safetensors", normal,
            context, title="encoder", steps=settings.encoder_epochs, gan=str(gan),
        )  # fmt: skip
        return curves | {"encoder": encoder["network"]}

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            reconstruction, difference = self.network(images)
        residual = images - reconstruction
        score = (residual**2).flatten(1).mean(dim=1) + self.recipe.f_anogan.feature_weight * difference
        return Scored({"image": score}, {"image": residual.abs().mean(dim=1)})
