"""DDAD with ASR-Net (Cai et al. 2023): the detector that this project exists for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ddad import discrepancy
from ddad.detectors.base import Curves, Detector, FitContext, Scored
from ddad.detectors.ddad_training import INPUTS, DDADTraining, train_side_by_side
from ddad.errors import ModelError
from ddad.networks.asr_net import ASRNet
from ddad.networks.ensemble import Ensemble, discrepancy_maps
from ddad.networks.factory import build_asr_net, build_autoencoder
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.reconstruction import are_moved

SCORES = ("rec", "rec_ensemble", "a_intra", "a_inter", "r_intra", "r_dual")
"""The six rows of Table 3."""


REFINED_AT_ONCE = 8
"""Images that ASR-Net refines together: few enough for its hidden layers to stay in a processor's cache."""


class DDAD(Detector):
    """Two ensembles of reconstruction networks, their discrepancies, and two refinement networks.

    Stage 1 fits NDM on D_n and, where there are unlabeled images, UDM on D_n ∪ D_u. Stage 2 fits an
    ASR-Net on A_intra alone (R_intra, equation 13) and one on A_intra and A_inter (R_dual, equation 8).
    """

    name = "ddad"
    is_spread_alone = True
    sections = ("reconstruction", "synthesis", "refinement")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.ndm = self._ensemble()
        self.udm: Ensemble | None = None
        self.refiners: dict[str, ASRNet] = {}

    @property
    def primary_score(self) -> str:
        """R_dual, or R_intra where there were no unlabeled images (equation 13)."""
        return "r_intra" if self.udm is None else "r_dual"

    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train both stages; every network goes on from its own checkpoint in the workspace."""
        if are_moved(self.recipe, normal):
            context.progress.message(
                "reconstruction networks see all images turned, scaled and shifted a little, since few normal ones "
                f"are trained on: fewer than {self.recipe.reconstruction.move_below}"
            )
        training = DDADTraining(self.recipe, normal, unlabeled, context.workspace, context.compute)
        train_side_by_side([training], context.processes, context.progress)
        tensors, curves = training.trained()
        self.load_state_dict(tensors)
        return curves

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        maps = discrepancy_maps(self.ndm, self.udm, images)
        scores = {name: discrepancy.image_score(score_map) for name, score_map in maps.items()}
        with compute.autocast():
            for name, refiner in self.refiners.items():
                parts = [refiner.refine_and_score(part) for part in _parts(maps, refiner.inputs)]
                maps[name], scores[name] = (torch.cat(kind) for kind in zip(*parts, strict=True))
        return Scored(scores, maps)

    def _block_scores(self, images: Tensor, compute: Compute) -> dict[str, Tensor]:
        return self.scores_of(discrepancy_maps(self.ndm, self.udm, images), compute)

    def scores_of(self, maps: Mapping[str, Tensor], compute: Compute) -> dict[str, Tensor]:
        """Return all image scores, (N,) each, for unrefined maps (N, S, S) of `discrepancy_maps`."""
        scores = {name: discrepancy.image_score(score_map) for name, score_map in maps.items()}
        with compute.autocast():
            for name, refiner in self.refiners.items():
                scores[name] = torch.cat([refiner.image_score(part) for part in _parts(maps, refiner.inputs)])
        return scores

    def modules(self) -> dict[str, nn.Module]:
        """Return every fitted network by the name its tensors carry."""
        parts: dict[str, nn.Module] = {"ndm": self.ndm, **self.refiners}
        return parts if self.udm is None else {**parts, "udm": self.udm}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned; UDM and ASR-Nets are there if their tensors are."""
        present = {name.split(".", 1)[0] for name in tensors}
        self.udm = self._ensemble() if "udm" in present else None
        self.refiners = {
            score: build_asr_net(self.recipe, inputs) for score, inputs in INPUTS.items() if score in present
        }
        unknown = present - set(self.modules())
        if unknown or "r_intra" not in present or ("r_dual" in present) != ("udm" in present):
            raise ModelError(f"weights: these are not the weights of a DDAD model (found parts {sorted(present)}).")
        self._load_modules(tensors)

    def _ensemble(self) -> Ensemble:
        settings = self.recipe.reconstruction
        return Ensemble([build_autoencoder(self.recipe.images, settings) for _ in range(settings.members)])


def _parts(maps: Mapping[str, Tensor], inputs: Sequence[str]) -> tuple[Tensor, ...]:
    """Stack the maps that an ASR-Net reads, (N, inputs, S, S), and cut them into parts; a GPU takes all at once."""
    stacked = torch.stack([maps[name] for name in inputs], dim=1)
    return torch.split(stacked, len(stacked) if stacked.is_cuda else REFINED_AT_ONCE)
