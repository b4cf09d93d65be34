"""FPI and PII: one-stage self-supervised detectors that learn to see foreign patches in normal images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ddad.detectors.base import Curves, Detector, FitContext, Scored
from ddad.networks.unet import UNet
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.jobs import Job, run_jobs


class _PatchRegression(Detector):
    """A U-Net that predicts, at each pixel, the share α of another image; its mean is the score.

    Unlabeled images are not looked at.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.network = UNet(recipe.images.channels, 1, recipe.segmentation.width)

    @property
    def primary_score(self) -> str:
        """The one score, `image`: the mean predicted share."""
        return "image"

    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:  # noqa: ARG002
        """Train the network on synthetic anomalies; it goes on from its checkpoint in the workspace."""
        into = context.workspace / "network.safetensors"
        job = Job(
            title=self.name,
            function="ddad.training.patch_regression:train_patch_regression_job",
            arguments={
                "recipe": self.recipe.model_dump(mode="json"),
                "method": self.name,
                "normal": str(normal),
                "into": str(into),
                "compute": context.compute.to_json(),
            },
            steps=self.recipe.segmentation.epochs,
            output=into,
        )
        run_jobs([job], workers=context.workers, progress=context.progress, title="segmentation network")
        tensors, notes = load_tensors(into)
        self.network.load_state_dict(tensors)
        return {"network": notes["losses"]}

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            share = torch.sigmoid(self.network(images).squeeze(1))
        return Scored({"image": share.flatten(1).mean(dim=1)}, {"image": share})

    def modules(self) -> dict[str, nn.Module]:
        """Return the network."""
        return {"network": self.network}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned."""
        self._load_modules(tensors)


class FPI(_PatchRegression):
    """Foreign patch interpolation (Tan et al. 2020): pixels of the patch are mixed."""

    name = "fpi"


class PII(_PatchRegression):
    """Poisson image interpolation (Tan et al. 2021): the patch's gradients are mixed, so that no edge gives it away."""

    name = "pii"
