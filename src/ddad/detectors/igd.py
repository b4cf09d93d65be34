"""IGD (Chen et al. 2022): one-class classification by an interpolated Gaussian descriptor."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from typing_extensions import override

from ddad.detectors.base import Curves, FitContext, Scored
from ddad.detectors.one_class import OneClassDetector
from ddad.networks.igd import IGDNetwork, build_igd
from ddad.recipe import Recipe
from ddad.training.device import Compute


class IGD(OneClassDetector):
    """The score is half reconstruction error (MS-SSIM and absolute), half how unlikely the code is under the Gaussian.

    The map is the reconstruction error of each pixel. Unlabeled images are not looked at.
    """

    name = "igd"
    sections = ("igd",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.network: IGDNetwork = build_igd(recipe.images, recipe.igd)

    @override
    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train all networks together; they go on from their checkpoint in the workspace."""
        return self._train(
            self.network, "igd:train_igd", context.workspace / "network.safetensors", normal, context,
            title="IGD networks", steps=self.recipe.igd.epochs,
        )  # fmt: skip

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            codes = self.network.encode(images)
            reconstructions = self.network.decode(codes)
        error = self.network.reconstruction_error(images, reconstructions)
        score = 0.5 * error + 0.5 * self.network.unlikeliness(codes)
        return Scored({"image": score}, {"image": self.network.error_map(images, reconstructions)})
