"""DRAEM (Zavrtanik et al. 2021): reconstructs the normal image and learns to see where it differs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddad.detectors.base import Curves, Detector, FitContext, Scored
from ddad.networks.draem import DRAEMNetwork
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.jobs import Job, run_jobs


class DRAEM(Detector):
    """A reconstructive and a discriminative network; the score is the map's maximum after smoothing, as published.

    Unlabeled images are not looked at.
    """

    name = "draem"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.network = DRAEMNetwork(recipe.images.channels, recipe.segmentation.width)

    @property
    def primary_score(self) -> str:
        """The one score, `image`: the largest smoothed anomaly probability."""
        return "image"

    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:  # noqa: ARG002
        """Train both networks together; they go on from their checkpoint in the workspace."""
        into = context.workspace / "network.safetensors"
        job = Job(
            title=self.name,
            function="ddad.training.draem:train_draem_job",
            arguments={
                "recipe": self.recipe.model_dump(mode="json"),
                "normal": str(normal),
                "into": str(into),
                "compute": context.compute.to_json(),
            },
            steps=self.recipe.segmentation.epochs,
            output=into,
        )
        run_jobs([job], workers=context.workers, progress=context.progress, title="DRAEM networks")
        tensors, notes = load_tensors(into)
        self.network.load_state_dict(tensors)
        return {"network": notes["losses"]}

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            _, logits = self.network(images)
        probability = torch.sigmoid(logits)
        side = 2 * round(images.shape[-1] * 10 / 256) + 1  # 21 pixels at the published 256
        smoothed = functional.avg_pool2d(probability[:, None], side, stride=1, padding=side // 2)
        return Scored({"image": smoothed.flatten(1).amax(dim=1)}, {"image": probability})

    def modules(self) -> dict[str, nn.Module]:
        """Return both networks as one."""
        return {"network": self.network}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned."""
        self._load_modules(tensors)
