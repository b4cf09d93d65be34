"""DDAD+: discrepancies, which see any kind of anomaly, joined with what separates normal from unlabeled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddad.cohorts import hold_out
from ddad.cohorts.near_copies import near_copy_groups
from ddad.cohorts.split import group_folds
from ddad.detectors.base import Curves, Detector, FitContext, Scored, block_size
from ddad.detectors.ddad import DDAD
from ddad.detectors.normal_vs_unlabeled import classifier_job
from ddad.errors import ModelError
from ddad.networks.classifier import Classifier, enlarge
from ddad.networks.fusion import Fusion
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.jobs import run_jobs
from ddad.training.pixels import ImagePool

_PRIOR = (1.0, 0.0, 0.0)  # of r_intra, r_dual and the classifiers: without evidence it is R_intra


class DDADPlus(Detector):
    """R_intra, R_dual and a cross-fitted classifier of D_n against D_u, weighted without a label.

    Each classifier is trained without one fold, so that every image has a logit from a classifier that has not seen
    it. DDAD is fitted without a part of the images; on that part, what all say of unseen normal and unlabeled images
    gives the weights (`Fusion`). Near copies stay together in both divisions. The score is the mean of the map.
    Without unlabeled images it is R_intra.

    Images known to be abnormal stand beside the unlabeled ones, in the classifiers and in the search for the weights.
    DDAD itself never sees them, so that R_intra and R_dual keep what they know of other kinds of anomaly.
    """

    name = "ddad+"
    takes_abnormal = True

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.ddad = DDAD(recipe)
        self.classifiers: list[Classifier] = []
        self.fusion = Fusion(_PRIOR)

    @property
    def primary_score(self) -> str:
        """The one score, `image`."""
        return "image"

    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train classifiers and DDAD, then find the weights; everything goes on from its checkpoints."""
        if unlabeled is None:
            return self.ddad.fit(normal, None, context)
        sources = [normal, unlabeled] if context.abnormal is None else [normal, unlabeled, context.abnormal]
        images = ImagePool.open(sources)
        source = np.repeat(range(len(sources)), [len(array) for array in images.arrays])
        groups = near_copy_groups(np.concatenate(images.arrays))
        folds = group_folds(groups, source > 0, self.recipe.fusion.folds, self.recipe.seed)
        curves = self._fit_classifiers(sources, folds, source, context)

        known = np.flatnonzero(source < 2)
        kept, held = (
            known[places]
            for places in hold_out(
                [str(group) for group in groups[known]], self.recipe.fusion.holdout, self.recipe.seed
            )
        )
        kept_normal, kept_unlabeled = context.workspace / "kept-normal.npy", context.workspace / "kept-unlabeled.npy"
        np.save(kept_normal, images.batch(kept[source[kept] == 0]).numpy())
        np.save(kept_unlabeled, images.batch(kept[source[kept] == 1]).numpy())
        curves |= self.ddad.fit(kept_normal, kept_unlabeled, context)

        unseen_abnormal = np.flatnonzero((source == 2) & ~np.isin(groups, groups[kept]))
        unseen = np.concatenate([held, unseen_abnormal])
        evidence = self._unseen_evidence(images, unseen, folds, context.compute)
        self.fusion.fit(evidence[source[unseen] == 0], evidence[source[unseen] > 0])
        return curves

    def _fit_classifiers(
        self,
        sources: Sequence[Path],
        folds: NDArray[np.int64],
        source: NDArray[np.int64],
        context: FitContext,
    ) -> Curves:
        count = int(folds.max()) + 1
        paths = [context.workspace / f"classifier-{k}.safetensors" for k in range(count)]
        jobs = []
        for k in range(count):
            others = [np.flatnonzero(folds[source == number] != k).tolist() for number in range(len(sources))]
            jobs.append(
                classifier_job(
                    self.recipe, k, paths, sources[0], sources[1], context, abnormal=context.abnormal, kept=others
                )
            )
        run_jobs(jobs, workers=context.workers, progress=context.progress, title="classifiers")
        self.classifiers, curves = [], {}
        for k, path in enumerate(paths):
            tensors, notes = load_tensors(path)
            self.classifiers.append(self._classifier())
            self.classifiers[k].load_state_dict(tensors)
            curves[f"classifiers.{k}"] = notes["losses"]
        return curves

    def _unseen_evidence(
        self, images: ImagePool, held: NDArray[np.int64], folds: NDArray[np.int64], compute: Compute
    ) -> NDArray[np.float64]:
        """Return R_intra, R_dual and the logit of the classifier that has not seen the image, (len(held), 3)."""
        evidence = np.empty((len(held), len(_PRIOR)))
        for network in self.modules().values():
            compute.place(network.eval())
        size = block_size(self.recipe.images.image_size)
        for start in range(0, len(held), size):
            chosen = held[start : start + size]
            batch = images.batch(chosen)
            scores = self.ddad.score(batch, compute).scores
            with torch.inference_mode(), compute.autocast():
                logits = torch.stack([classifier(compute.send(batch)) for classifier in self.classifiers]).float().cpu()
            own = logits.numpy()[folds[chosen], np.arange(len(chosen))]
            evidence[start : start + size] = np.stack([scores["r_intra"], scores["r_dual"], own], axis=1)
        return evidence

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        maps = self.ddad._score_block(images, compute).maps
        if not self.classifiers:
            fused = maps["r_intra"]
        else:
            with compute.autocast():
                grid = torch.stack([classifier.activation(images) for classifier in self.classifiers]).mean(dim=0)
            evidence = [maps["r_intra"], maps["r_dual"], _spread(grid, self.recipe.images.image_size)]
            fused = self.fusion(torch.stack(evidence, dim=1))
        return Scored({"image": fused.flatten(1).mean(dim=1)}, {"image": fused})

    def _classifier(self) -> Classifier:
        return Classifier(self.recipe.images.channels, self.recipe.classification.width)

    def modules(self) -> dict[str, nn.Module]:
        """Return every fitted network by the name its tensors carry."""
        own: dict[str, nn.Module] = {f"ddad_{name}": network for name, network in self.ddad.modules().items()}
        own |= {f"classifier_{k}": classifier for k, classifier in enumerate(self.classifiers)}
        return {**own, "fusion": self.fusion}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned; classifiers are there if their tensors are."""
        present = {name.split(".", 1)[0] for name in tensors}
        foreign = (
            f"weights: they do not fit the recipe, or are not those of a DDAD+ model (found parts {sorted(present)})."
        )
        self.classifiers = [self._classifier() for name in present if name.startswith("classifier_")]
        try:
            self.ddad.load_state_dict(
                {name.removeprefix("ddad_"): tensor for name, tensor in tensors.items() if name.startswith("ddad_")}
            )
        except ModelError as error:
            raise ModelError(foreign) from error
        if present != set(self.modules()) or bool(self.classifiers) != ("ddad_udm" in present):
            raise ModelError(foreign)
        self._load_modules(tensors)


def _spread(grid: Tensor, size: int) -> Tensor:
    """Enlarge a grid (N, h, w) to (N, size, size) and keep each image's mean, which is its logit."""
    enlarged = enlarge(grid, size)
    return enlarged + (grid.mean(dim=(1, 2)) - enlarged.mean(dim=(1, 2)))[:, None, None]
