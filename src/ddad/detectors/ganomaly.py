"""GANomaly (Akcay et al. 2018): an image is unusual where its code and that of its reconstruction differ."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from typing_extensions import override

from ddad.detectors.base import Curves, FitContext, Scored
from ddad.detectors.one_class import OneClassDetector
from ddad.networks.ganomaly import GANomalyNetwork
from ddad.recipe import Recipe
from ddad.training.device import Compute


class GANomaly(OneClassDetector):
    """Encoder, decoder and encoder, trained against a discriminator; the score is the codes' mean squared difference.

    The map is the absolute residual of the image. Unlabeled images are not looked at.
    """

    name = "ganomaly"
    sections = ("ganomaly",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        settings, images = recipe.ganomaly, recipe.images
        self.network: GANomalyNetwork = GANomalyNetwork(
            images.image_size, images.channels, settings.width, settings.latent_size
        )

    @override
    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train all networks together; they go on from their checkpoint in the workspace."""
        return self._train(
            self.network, "ganomaly:train_ganomaly", context.workspace / "network.safetensors", normal, context,
            title="GANomaly networks", steps=self.recipe.ganomaly.epochs,
        )  # fmt: skip

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            reconstruction, code, second_code = self.network(images)
        distance = ((code - second_code) ** 2).mean(dim=1)
        return Scored({"image": distance}, {"image": (images - reconstruction).abs().mean(dim=1)})
