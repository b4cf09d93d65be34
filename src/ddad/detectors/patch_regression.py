"""FPI and PII: one-stage self-supervised detectors that learn to see foreign patches in normal images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from ddad.detectors.base import Curves, FitContext, Scored
from ddad.detectors.one_class import OneClassDetector
from ddad.networks.unet import UNet
from ddad.recipe import Recipe
from ddad.training.device import Compute


class _PatchRegression(OneClassDetector):
    """A U-Net that predicts, at each pixel, the share α of another image; its mean is the score.

    Unlabeled images are not looked at.
    """

    sections = ("synthesis", "segmentation")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.network: UNet = UNet(recipe.images.channels, 1, recipe.segmentation.width)

    @override
    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train the network on synthetic anomalies; it goes on from its checkpoint in the workspace."""
        return self._train(
            self.network, "patch_regression:train_patch_regression", context.workspace / "network.safetensors",
            normal, context, title="segmentation network", steps=self.recipe.segmentation.epochs, method=self.name,
        )  # fmt: skip

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            share = torch.sigmoid(self.network(images).squeeze(1))
        return Scored({"image": share.flatten(1).mean(dim=1)}, {"image": share})


class FPI(_PatchRegression):
    """Foreign patch interpolation (Tan et al. 2020): pixels of the patch are mixed."""

    name = "fpi"


class PII(_PatchRegression):
    """Poisson image interpolation (Tan et al. 2021): the patch's gradients are mixed, so that no edge gives it away."""

    name = "pii"
