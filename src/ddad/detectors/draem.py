"""DRAEM (Zavrtanik et al. 2021): reconstructs the normal image and learns to see where it differs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from ddad.detectors.base import Curves, FitContext, Scored
from ddad.detectors.one_class import OneClassDetector
from ddad.networks.draem import DRAEMNetwork
from ddad.recipe import Recipe
from ddad.training.device import Compute


class DRAEM(OneClassDetector):
    """A reconstructive and a discriminative network; the score is the map's maximum after smoothing, as published.

    Unlabeled images are not looked at.
    """

    name = "draem"
    sections = ("augmentation", "segmentation")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.network: DRAEMNetwork = DRAEMNetwork(recipe.images.channels, recipe.segmentation.width)

    @override
    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train both networks together; they go on from their checkpoint in the workspace."""
        return self._train(
            self.network, "draem:train_draem", context.workspace / "network.safetensors", normal, context,
            title="DRAEM networks", steps=self.recipe.segmentation.epochs,
        )  # fmt: skip

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            _, logits = self.network(images)
        probability = torch.sigmoid(logits)
        side = 2 * round(images.shape[-1] * 10 / 256) + 1  # 21 pixels at the published 256
        smoothed = functional.avg_pool2d(probability[:, None], side, stride=1, padding=side // 2)
        return Scored({"image": smoothed.flatten(1).amax(dim=1)}, {"image": probability})
