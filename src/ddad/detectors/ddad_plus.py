"""DDAD+: discrepancies, which see any kind of anomaly, joined with what separates normal from unlabeled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddad.cohorts import hold_out
from ddad.cohorts.held_out import groups_with_copies
from ddad.cohorts.near_copies import small_images
from ddad.cohorts.pixels import save_rows
from ddad.cohorts.split import group_folds
from ddad.detectors.base import Curves, Detector, FitContext, Scored, block_size
from ddad.detectors.ddad import DDAD
from ddad.detectors.normal_vs_unlabeled import classifier_job
from ddad.errors import ModelError
from ddad.evaluation.suspicion import suspicion
from ddad.networks.classifier import Classifier, enlarge
from ddad.networks.ensemble import discrepancy_maps
from ddad.networks.fusion import Fusion
from ddad.networks.location import Location
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.jobs import run_jobs
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed
from ddad.training.side_by_side import side_by_side

_EVIDENCE = ("r_dual", "r_intra", "rec_ensemble")
_KINDS = len(_EVIDENCE) + 1  # with the classifiers
_IMAGES_FOR_LOCATION = 256


@dataclass(frozen=True)
class _Training:
    """What classifiers are trained on: files, and of each image of all files the file's number and the fold."""

    sources: Sequence[Path]
    source: NDArray[np.int64]
    folds: NDArray[np.int64]
    context: FitContext


class DDADPlus(Detector):
    """R_dual, R_intra, Rec. (ensemble) and classifiers of likely abnormal images, weighted without a label.

    Classifiers learn D_n against D_u, each without one fold, so that every image has a logit from a classifier that
    has not seen it. From these follows how likely each unlabeled image is abnormal (`suspicion`). Second classifiers
    learn that probability instead of the label: they no longer take the normal images in the pile for abnormal ones.

    DDAD is fitted without a part of the images; on that part, what all say of unseen images gives the weights
    (`Fusion`). Near copies stay together in both divisions. Where the classifiers find nothing in the unlabeled
    images, or there are none, it is DDAD fitted on all images: R_dual, or R_intra.

    The weighted sum says how much, and is the mean of the map. Where in the image it lies is said by the reconstruction
    error and, as far as they have weight, the classifiers (`Location`).

    Images known to be abnormal stand beside the unlabeled ones, in the classifiers and in the search for the weights.
    DDAD itself never sees them, so that R_intra and R_dual keep what they know of other kinds of anomaly.
    """

    name = "ddad+"
    takes_abnormal = True
    sees_unlabeled = True

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.ddad = DDAD(recipe)
        self.classifiers: list[Classifier] = []
        self.fusion = Fusion(_KINDS)
        self.location = self._location()

    @property
    def primary_score(self) -> str:
        """The one score, `image`."""
        return "image"

    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train classifiers and DDAD, then find the weights; everything goes on from its checkpoints."""
        if unlabeled is None:
            return self._fit_ddad_alone(normal, None, context)
        sources = [normal, unlabeled] if context.abnormal is None else [normal, unlabeled, context.abnormal]
        images = ImagePool.open(sources)
        source = np.repeat(range(len(sources)), [len(array) for array in images.arrays])
        groups = _copy_groups(images)
        folds = group_folds(groups, source > 0, self.recipe.fusion.folds, self.recipe.seed)
        training = _Training(sources, source, folds, context)
        curves = self._fit_classifiers(training, "classifier")
        logits = self._unseen_logits(images, folds, context.compute)
        known = np.flatnonzero(source < 2)
        found = suspicion(
            logits[known],
            source[known] == 1,
            groups[known].astype(str),
            folds[known],
            seed=derived_seed(self.recipe.seed, "suspicion"),
        )
        if not found.found and context.abnormal is None:
            context.progress.message(
                "classifiers find nothing in the unlabeled images that the normal ones have not: the score is R_dual"
            )
            self.classifiers = []
            return curves | self._fit_ddad_alone(normal, unlabeled, context)
        suspected = (source > 0).astype(np.float64)
        suspected[source == 1] = found.of_each
        curves |= self._fit_classifiers(training, "second classifier", found.of_each)
        logits = self._unseen_logits(images, folds, context.compute)

        kept, held = (
            known[places]
            for places in hold_out(
                [str(group) for group in groups[known]], self.recipe.fusion.holdout, self.recipe.seed
            )
        )
        kept_normal, kept_unlabeled = context.workspace / "kept-normal.npy", context.workspace / "kept-unlabeled.npy"
        for number, file in enumerate((kept_normal, kept_unlabeled)):
            save_rows(images.arrays[number], kept[source[kept] == number] - np.searchsorted(source, number), file)
        curves |= self.ddad.fit(kept_normal, kept_unlabeled, context)

        unseen_abnormal = np.flatnonzero((source == 2) & ~np.isin(groups, groups[kept]))
        unseen = np.concatenate([held, unseen_abnormal])
        scores = self.ddad.image_scores(images.batch(unseen), context.compute)
        evidence = np.stack([*(scores[name].numpy() for name in _EVIDENCE), logits[unseen]], axis=1)
        normal_here = source[unseen] == 0
        self.fusion.fit(evidence[normal_here], evidence[~normal_here], suspected[unseen][~normal_here])
        self._fit_location(ImagePool.open([kept_normal]), context.compute)
        return curves

    def _fit_ddad_alone(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        curves = self.ddad.fit(normal, unlabeled, context)
        self._fit_location(ImagePool.open([normal]), context.compute)
        return curves

    def _fit_classifiers(self, training: _Training, name: str, suspected: NDArray[np.float64] | None = None) -> Curves:
        """Fit a classifier for each fold, on the others; `suspected` are labels of unlabeled images, None for 1."""
        folds, source, context = training.folds, training.source, training.context
        count = int(folds.max()) + 1
        paths = [context.workspace / f"{name.replace(' ', '-')}-{k}.safetensors" for k in range(count)]
        jobs = []
        for k in range(count):
            others = [np.flatnonzero(folds[source == number] != k).tolist() for number in range(len(training.sources))]
            jobs.append(
                classifier_job(
                    self.recipe,
                    k,
                    paths,
                    training.sources[0],
                    training.sources[1],
                    context,
                    abnormal=context.abnormal,
                    kept=others,
                    suspicion=None if suspected is None else suspected[others[1]].tolist(),
                )
            )
        run_jobs(jobs, workers=context.workers, progress=context.progress, title=f"{name}s")
        self.classifiers, curves = [], {}
        for k, path in enumerate(paths):
            tensors, notes = load_tensors(path)
            self.classifiers.append(self._classifier())
            self.classifiers[k].load_state_dict(tensors)
            curves[f"{name}s.{k}"] = notes["losses"]
        return curves

    def _unseen_logits(self, images: ImagePool, folds: NDArray[np.int64], compute: Compute) -> NDArray[np.float64]:
        """Return for each image the logit of the classifier that has not seen it, (N,)."""
        for classifier in self.classifiers:
            compute.place(classifier.eval())

        def logits(places: NDArray[np.int64]) -> NDArray[np.float64]:
            batch = compute.send(images.batch(places))
            with torch.inference_mode(), compute.autocast():
                all_logits = torch.stack([classifier(batch) for classifier in self.classifiers]).float().cpu()
            unseen: NDArray[np.float64] = all_logits.numpy()[folds[places], np.arange(len(places))].astype(np.float64)
            return unseen

        size = block_size(self.recipe.images.image_size)
        blocks = [np.arange(start, min(start + size, len(images))) for start in range(0, len(images), size)]
        return np.concatenate(list(side_by_side(logits, blocks, compute)))

    def _fit_location(self, normal: ImagePool, compute: Compute) -> None:
        self.location = compute.place(self._location())
        for network in self.modules().values():
            compute.place(network.eval())
        some = np.linspace(0, len(normal) - 1, min(len(normal), _IMAGES_FOR_LOCATION)).round().astype(int)
        size = block_size(self.recipe.images.image_size)
        with torch.inference_mode():
            self.location.fit(
                self._local_evidence(compute.send(normal.batch(some[start : start + size])), compute)[0]
                for start in range(0, len(some), size)
            )

    def _local_evidence(self, images: Tensor, compute: Compute) -> tuple[Tensor, Tensor]:
        """Return the maps that `Location` reads, (N, kinds, S, S), and the evidence, or the score alone, (N, kinds)."""
        maps = discrepancy_maps(self.ddad.ndm, self.ddad.udm, images)
        scores = self.ddad.scores_of(maps, compute)
        if not self.classifiers:
            return maps["rec_ensemble"][:, None], scores[self.ddad.primary_score][:, None]
        with compute.autocast():
            grid = torch.stack([classifier.activation(images) for classifier in self.classifiers]).mean(dim=0)
        local = torch.stack([maps["rec_ensemble"], enlarge(grid, self.recipe.images.image_size)], dim=1)
        return local, torch.stack([*(scores[name] for name in _EVIDENCE), grid.mean(dim=(1, 2))], dim=1)

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        local, evidence = self._local_evidence(images, compute)
        parts = self.location(local)
        score, where = evidence[:, 0], parts[:, 0]
        if self.classifiers:
            score = self.fusion(evidence)
            where = where + self.fusion.weight[-1] / self.fusion.weight.sum() * parts[:, 1]
        return Scored({"image": score}, {"image": score[:, None, None] + where})

    def _block_scores(self, images: Tensor, compute: Compute) -> dict[str, Tensor]:
        _, evidence = self._local_evidence(images, compute)
        return {"image": self.fusion(evidence) if self.classifiers else evidence[:, 0]}

    def _location(self) -> Location:
        return Location(2 if self.classifiers else 1, self.recipe.images.image_size)

    def _classifier(self) -> Classifier:
        return Classifier(self.recipe.images.channels, self.recipe.classification.width)

    def modules(self) -> dict[str, nn.Module]:
        """Return every fitted network by the name its tensors carry."""
        own: dict[str, nn.Module] = {f"ddad_{name}": network for name, network in self.ddad.modules().items()}
        own |= {f"classifier_{k}": classifier for k, classifier in enumerate(self.classifiers)}
        return {**own, "fusion": self.fusion, "location": self.location}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned; classifiers are there if their tensors are."""
        present = {name.split(".", 1)[0] for name in tensors}
        foreign = (
            f"weights: they do not fit the recipe, or are not those of a DDAD+ model (found parts {sorted(present)})."
        )
        self.classifiers = [self._classifier() for name in present if name.startswith("classifier_")]
        self.location = self._location()
        try:
            self.ddad.load_state_dict(
                {name.removeprefix("ddad_"): tensor for name, tensor in tensors.items() if name.startswith("ddad_")}
            )
        except ModelError as error:
            raise ModelError(foreign) from error
        if present != set(self.modules()) or (self.classifiers and "ddad_udm" not in present):
            raise ModelError(foreign)
        self._load_modules(tensors)


def _copy_groups(images: ImagePool) -> NDArray[np.int64]:
    """Number the groups of near copies; where all images are alike, each stands alone."""
    alone = [str(number) for number in range(len(images))]
    return np.unique(groups_with_copies(small_images(images.arrays), alone), return_inverse=True)[1]
