"""CutPaste (Li et al. 2021): what a classifier of pasted patches has learned to see, and how usual that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ddad.detectors.base import Curves, FitContext, Scored, block_size
from ddad.detectors.one_class import OneClassDetector
from ddad.networks.classifier import enlarge
from ddad.networks.cutpaste import CutPasteNetwork
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.pixels import ImagePool


class CutPaste(OneClassDetector):
    """Three classes (normal, patch, scar), then a Gaussian of normal images' embeddings; the score is the distance.

    The squared Mahalanobis distance is the negative log density but for constants. The map is Grad-CAM of it. Nothing
    is pretrained. Unlabeled images are not looked at.
    """

    name = "cutpaste"
    sections = ("cutpaste",)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.network: CutPasteNetwork = CutPasteNetwork(recipe.images.channels, recipe.cutpaste.width)

    @override
    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train the classifier, which goes on from its checkpoint in the workspace, then fit the Gaussian."""
        curves = self._train(
            self.network, "cutpaste:train_cutpaste", context.workspace / "network.safetensors", normal, context,
            title="CutPaste classifier", steps=self.recipe.cutpaste.epochs,
        )  # fmt: skip
        network = context.compute.place(self.network.eval())
        pool, size = ImagePool.open([normal]), block_size(self.recipe.images.image_size)
        places = np.arange(len(pool))
        with context.compute.inference(), context.compute.autocast():
            blocks = [
                network.embed(context.compute.send(pool.batch(places[start : start + size])))
                for start in range(0, len(places), size)
            ]
        network.fit_gaussian(torch.cat(blocks))
        return curves

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            grid = self.network.distance(images)
        return Scored({"image": grid.mean(dim=(1, 2))}, {"image": enlarge(grid, images.shape[-1])})
