"""Reconstruction baselines: AE, MemAE, AE-U and VAE alone, one network on D_n, scored by its error (Table 2)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ddad import discrepancy
from ddad.detectors.base import Curves, FitContext, Scored
from ddad.detectors.one_class import OneClassDetector
from ddad.networks.factory import build_autoencoder
from ddad.recipe import Recipe
from ddad.recipe_sections import MEMORY_FIELDS, Backbone
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.jobs import Job, run_jobs

_OF_DDAD = tuple(f"reconstruction.{name}" for name in ("backbone", "members", "udm_epochs", "move_below"))


class _ReconstructionBaseline(OneClassDetector):
    """One reconstruction network; an image's score is the mean of A_rec (section 3.3).

    The network is the first of DDAD's NDM with the same seed, unless that sees few images, moved. Unlabeled images are
    not looked at.
    """

    backbone: ClassVar[Backbone]
    sections = ("reconstruction",)
    unread: ClassVar[tuple[str, ...]] = (*_OF_DDAD, *MEMORY_FIELDS)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._own = recipe.changed({"reconstruction.backbone": self.backbone})
        self.network = build_autoencoder(recipe.images, self._own.reconstruction)

    @override
    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train the network on D_n; it goes on from its checkpoint in the workspace."""
        into = context.workspace / "network.safetensors"
        job = Job(
            title=self.name,
            function="ddad.training.reconstruction:train_members_job",
            arguments={
                "recipe": self._own.model_dump(mode="json"),
                "module": "ndm",
                "members": [0],
                "pixels": [str(normal)],
                "into": [str(into)],
                "compute": context.compute.to_json(),
            },
            steps=self._own.reconstruction.ndm_epochs,
            output=into,
        )
        run_jobs([job], workers=context.processes, progress=context.progress, title="reconstruction network, epochs")
        tensors, notes = load_tensors(into)
        self.network.load_state_dict(tensors)
        return {"network": notes["losses"]}

    @override
    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        reconstruction, log_variance = self.network(images)
        sigma = None if log_variance is None else torch.exp(log_variance / 2)
        error = discrepancy.reconstruction_error(images, reconstruction, sigma).mean(dim=1)
        return Scored({"image": discrepancy.image_score(error)}, {"image": error})


class AE(_ReconstructionBaseline):
    """The plain autoencoder of section 4.2."""

    name = backbone = "ae"


class MemAE(_ReconstructionBaseline):
    """MemAE (Gong et al. 2019)."""

    name = backbone = "memae"
    unread = _OF_DDAD


class AEU(_ReconstructionBaseline):
    """AE-U (Mao et al. 2020): the error is divided by the variance that the network predicts."""

    name = backbone = "ae-u"


class VAE(_ReconstructionBaseline):
    """The variational autoencoder (Kingma and Welling 2014), scored by the error of its mean code's reconstruction."""

    name = backbone = "vae"
