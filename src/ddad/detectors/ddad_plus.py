"""DDAD+: discrepancies, which see any kind of anomaly, joined with what separates normal from unlabeled images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddad.cohorts.pixels import save_batches, save_rows
from ddad.detectors.base import Curves, Detector, FitContext, Scored, block_size
from ddad.detectors.ddad import DDAD
from ddad.detectors.division import Division, Places
from ddad.detectors.normal_vs_unlabeled import classifier_job
from ddad.errors import ModelError
from ddad.evaluation.suspicion import Suspicion, suspicion
from ddad.files import write_atomically
from ddad.networks.classifier import Classifier, enlarge
from ddad.networks.ensemble import discrepancy_maps
from ddad.networks.extent import Extent, as_share
from ddad.networks.fusion import Fusion
from ddad.networks.location import Location
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.jobs import Job, run_jobs
from ddad.training.pixels import ImagePool
from ddad.training.side_by_side import side_by_side

_BESIDE_CLASSIFIERS = ("r_dual", "r_intra", "rec_ensemble")
_WITHOUT_CLASSIFIERS = ("r_dual", "r_intra")
_WITHOUT_UNLABELED = ("r_intra",)
_IMAGES_TO_COMPARE_WITH = 256


class DDADPlus(Detector):
    """R_dual, R_intra, Rec. (ensemble) and classifiers of likely abnormal images, weighted without a label.

    Classifiers learn D_n against D_u, each without one fold, so that every image has a logit from a classifier that
    has not seen it. From these follows how likely each unlabeled image is abnormal (`suspicion`). Second classifiers
    learn that probability instead of the label: they no longer take the normal images in the pile for abnormal ones.

    DDAD is fitted without a part of the images; on that part, what all say of unseen images gives the weights
    (`Fusion`). Groups (patients) and near copies stay together in both divisions. Where the classifiers find nothing in
    the unlabeled images and no abnormal one is known, or where there are too few images to divide, it is DDAD fitted on
    all of them: R_dual, which is better where the pile holds a few abnormal images after all, and R_intra, which is
    better where it holds none, weigh alike. Without unlabeled images it is R_intra.

    A first classifier knows nothing of the image that it judges. A second one knows a little: its labels come from
    first ones that have seen the image. So the weights are found with first classifiers' logits, and scores have the
    second ones', which are better.

    The weighted sum says how much, and is the mean of the map. Where in the image it lies is said by the reconstruction
    error, as far as the classifiers see an anomaly there (`Location`), and by a network that has learned from all
    images of the fit how far that reaches (`Extent`). Without classifiers it is the error alone.

    Images known to be abnormal stand beside the unlabeled ones, in the classifiers and in the search for the weights.
    DDAD itself never sees them, so that R_intra and R_dual keep what they know of other kinds of anomaly.
    """

    name = "ddad+"
    is_spread_alone = True
    sections = ("reconstruction", "synthesis", "refinement", "augmentation", "classification", "segmentation", "fusion")
    unread = ("classification.members",)
    takes_abnormal = True
    sees_unlabeled = True

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.ddad = DDAD(recipe)
        self.classifiers: list[Classifier] = []
        self.fusion = self._fusion()
        self.location = self._location()
        self.extent = self._extent()

    @property
    def primary_score(self) -> str:
        """The one score, `image`."""
        return "image"

    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train classifiers and DDAD, then find the weights; everything goes on from its checkpoints."""
        if unlabeled is None:
            context.progress.message(
                "no unlabeled images: there is nothing for classifiers to learn, the score is R_intra"
            )
            return self._fit_ddad_alone(normal, None, context)
        sources = [normal, unlabeled] if context.abnormal is None else [normal, unlabeled, context.abnormal]
        division = Division.of(sources, self.recipe, context.groups)
        if not division.is_large_enough:
            reason = (
                "too few images, patients and near copies counted once, to train classifiers on some and judge them "
                "on others: in the score R_dual and R_intra weigh alike"
            )
            context.progress.message(reason)
            if context.abnormal is not None:
                self.abnormal_unused = reason
            return self._fit_ddad_alone(normal, unlabeled, context)
        curves = self._fit_classifiers(division, "classifier", context)
        logits = self._first_logits(division, context)
        known = division.source < 2
        found = suspicion(logits[known], division.source[known] == 1, division.groups[known], division.folds[known])
        if not found.found and context.abnormal is None:
            context.progress.message(
                "classifiers find nothing in the unlabeled images that the normal ones have not: in the score R_dual "
                "and R_intra weigh alike"
            )
            self.classifiers = []
            return curves | self._fit_ddad_alone(normal, unlabeled, context)
        curves |= self._fit_classifiers(division, "second classifier", context, found.of_each)
        return curves | self._fit_ddad_and_weights(division, logits, found, context)

    def _first_logits(self, division: Division, context: FitContext) -> NDArray[np.float64]:
        """Return the logits of unseen images; a fit that goes on, maybe on another processor, takes those it had."""
        file = context.workspace / "first-logits.npy"
        if not file.exists():
            content = io.BytesIO()
            np.save(content, self._unseen_logits(division, context.compute))
            write_atomically(file, content.getvalue())
        logits: NDArray[np.float64] = np.load(file, allow_pickle=False)
        return logits

    def _fit_ddad_and_weights(
        self, division: Division, first_logits: NDArray[np.float64], found: Suspicion, context: FitContext
    ) -> Curves:
        source, groups = division.source, division.groups
        normal, unlabeled = context.workspace / "kept-normal.npy", context.workspace / "kept-unlabeled.npy"
        for number, file in enumerate((normal, unlabeled)):
            save_rows(division.images.arrays[number], division.within(division.kept, number), file)
        curves = self.ddad.fit(normal, unlabeled, context)

        unseen_abnormal = np.flatnonzero((source == 2) & ~np.isin(groups, groups[division.kept]))
        unseen = np.concatenate([division.held, unseen_abnormal])
        score = self.ddad.block_scorer(context.compute, maps=False)
        blocks = self._blocks(unseen)
        scored = list(side_by_side(lambda places: score(division.images.batch(places)).scores, blocks, context.compute))
        scores = [torch.cat([block[name] for block in scored]).numpy() for name in _BESIDE_CLASSIFIERS]
        normal_held = division.held[source[division.held] == 0]
        second_logits = self._unseen_logits(division, context.compute)[normal_held]
        logits = _rescaled(first_logits[unseen], first_logits[normal_held], second_logits)
        evidence = np.stack([*scores, logits], axis=1)
        suspected = (source > 0).astype(np.float64)
        suspected[source == 1] = found.of_each
        is_normal = source[unseen] == 0
        self.fusion = self._fusion()
        self.fusion.fit(
            evidence[is_normal], evidence[~is_normal], suspected[unseen][~is_normal], 1 - found.normal_share
        )
        self._fit_location(ImagePool.open([normal]), context.compute)
        return curves | self._fit_extent(division, context)

    def _fit_ddad_alone(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        curves = self.ddad.fit(normal, unlabeled, context)
        self.fusion = self._fusion()
        evidence = self._fit_location(ImagePool.open([normal]), context.compute)
        if unlabeled is not None:
            self.fusion.weigh_alike(evidence.double().cpu().numpy())
        return curves

    def _fit_classifiers(
        self, division: Division, name: str, context: FitContext, suspected: NDArray[np.float64] | None = None
    ) -> Curves:
        """Fit a classifier for each fold, on the others; `suspected` are labels of unlabeled images, None for 1."""
        paths = [context.workspace / f"{name.replace(' ', '-')}-{fold}.safetensors" for fold in division.fold_numbers]
        jobs = []
        for fold in division.fold_numbers:
            others = np.flatnonzero(division.folds != fold)
            kept = [division.within(others, number).tolist() for number in range(len(division.sources))]
            jobs.append(
                classifier_job(
                    self.recipe,
                    fold,
                    paths,
                    division.sources[0],
                    division.sources[1],
                    context,
                    abnormal=context.abnormal,
                    kept=kept,
                    suspicion=None if suspected is None else suspected[kept[1]].tolist(),
                )
            )
        run_jobs(jobs, workers=context.processes, progress=context.progress, title=f"{name}s, epochs")
        self.classifiers, curves = [], {}
        for fold, path in enumerate(paths):
            tensors, notes = load_tensors(path)
            self.classifiers.append(self._classifier())
            self.classifiers[fold].load_state_dict(tensors)
            curves[f"{name}s.{fold}"] = notes["losses"]
        return curves

    def _unseen_logits(self, division: Division, compute: Compute) -> NDArray[np.float64]:
        """Return for each image the logit of the classifier that was not trained on it, (N,)."""
        for classifier in self.classifiers:
            compute.place(classifier.eval())

        def logits(places: Places) -> NDArray[np.float64]:
            batch = compute.send(division.images.batch(places))
            with compute.inference(), compute.autocast():
                each = torch.stack([classifier(batch) for classifier in self.classifiers]).float().cpu().numpy()
            own: NDArray[np.float64] = each[division.folds[places], np.arange(len(places))].astype(np.float64)
            return own

        blocks = self._blocks(np.arange(len(division.images)))
        return np.concatenate(list(side_by_side(logits, blocks, compute)))

    def _blocks(self, places: Places) -> list[Places]:
        size = block_size(self.recipe.images.image_size)
        return [places[start : start + size] for start in range(0, len(places), size)]

    def _fit_location(self, normal: ImagePool, compute: Compute) -> Tensor:
        """Take what is usual from some normal images; return their evidence, (N, kinds)."""
        self.location = compute.place(self._location())
        for network in self.modules().values():
            compute.place(network.eval())
        some = np.linspace(0, len(normal) - 1, min(len(normal), _IMAGES_TO_COMPARE_WITH)).round().astype(int)
        evidence = []

        def maps(places: Places) -> Tensor:
            local, own = self._local_evidence(compute.send(normal.batch(places)), compute)
            evidence.append(own)
            return local

        with compute.inference():
            self.location.fit(maps(places) for places in self._blocks(some))
        return torch.cat(evidence)

    def _fit_extent(self, division: Division, context: FitContext) -> Curves:
        """Train the network that says how far an anomaly reaches; a fit that goes on has it learn the same."""
        size = self.recipe.images.image_size
        shares, weights = context.workspace / "extent-shares.npy", context.workspace / "extent.safetensors"
        if not shares.exists():

            def share(places: Places) -> NDArray[np.float32]:
                with context.compute.inference():
                    local, _ = self._local_evidence(
                        context.compute.send(division.images.batch(places)), context.compute
                    )
                    return as_share(self._seen_there(local))[:, None].float().cpu().numpy()

            blocks = self._blocks(np.arange(len(division.images)))
            save_batches(side_by_side(share, blocks, context.compute), (len(division.images), 1, size, size), shares)
        job = Job(
            title="extent network",
            function="ddad.training.extent:train_extent_job",
            arguments={
                "recipe": self.recipe.model_dump(mode="json"),
                "images": [str(path) for path in division.sources],
                "shares": str(shares),
                "into": str(weights),
                "compute": context.compute.to_json(),
            },
            steps=self.recipe.segmentation.epochs,
            output=weights,
        )
        run_jobs([job], workers=context.processes, progress=context.progress, title="extent network, epochs")
        tensors, notes = load_tensors(weights)
        self.extent = context.compute.place(self._extent().eval())
        self.extent.network.load_state_dict(tensors)
        return {"extent network": notes["losses"]}

    def _seen_there(self, local: Tensor) -> Tensor:
        """Return the evidence at each pixel, (N, S, S), 0 or more, of what `_local_evidence` returned."""
        parts = self.location(local)
        # Less error than normal images show is nothing unusual.
        error: Tensor = parts[:, 0].clamp_min(0)
        # Where the classifiers see an anomaly the error counts twice, where they see none not at all.
        return 2 * error * torch.sigmoid(parts[:, 1]) if self.classifiers else error

    def _local_evidence(self, images: Tensor, compute: Compute) -> tuple[Tensor, Tensor]:
        """Return the maps that `Location` reads, (N, kinds, S, S), and the evidence that is joined, (N, kinds)."""
        maps = discrepancy_maps(self.ddad.ndm, self.ddad.udm, images)
        scores = self.ddad.scores_of(maps, compute)
        # The error itself: of its square, a sharp edge of a few pixels would outweigh a lesion.
        error = maps["rec_ensemble"].sqrt()
        if not self.classifiers:
            return error[:, None], torch.stack([scores[name] for name in self._evidence_of_ddad()], dim=1)
        with compute.autocast():
            grid = torch.stack([classifier.activation(images) for classifier in self.classifiers]).mean(dim=0)
        local = torch.stack([error, enlarge(grid, self.recipe.images.image_size)], dim=1)
        return local, torch.stack([*(scores[name] for name in self._evidence_of_ddad()), grid.mean(dim=(1, 2))], dim=1)

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        local, evidence = self._local_evidence(images, compute)
        score, where = self.fusion(evidence), self._seen_there(local)
        if self.classifiers:
            with compute.autocast():
                where = self.extent(images, where)
        where = where - where.mean(dim=(1, 2), keepdim=True)
        return Scored({"image": score}, {"image": score[:, None, None] + where})

    def _block_scores(self, images: Tensor, compute: Compute) -> dict[str, Tensor]:
        _, evidence = self._local_evidence(images, compute)
        return {"image": self.fusion(evidence)}

    def _evidence_of_ddad(self) -> tuple[str, ...]:
        if self.classifiers:
            return _BESIDE_CLASSIFIERS
        return _WITHOUT_UNLABELED if self.ddad.udm is None else _WITHOUT_CLASSIFIERS

    def _fusion(self) -> Fusion:
        return Fusion(len(self._evidence_of_ddad()) + bool(self.classifiers))

    def _location(self) -> Location:
        if not self.classifiers:
            return Location(1, self.recipe.images.image_size, spread=1 / 32)
        # The extent network averages over many images: what it learns from can be sharper.
        return Location(2, self.recipe.images.image_size, spread=1 / 64)

    def _extent(self) -> Extent:
        return Extent(self.recipe.images.channels, self.recipe.segmentation.width)

    def _classifier(self) -> Classifier:
        return Classifier(self.recipe.images.channels, self.recipe.classification.width)

    def modules(self) -> dict[str, nn.Module]:
        """Return every fitted network by the name its tensors carry."""
        own: dict[str, nn.Module] = {f"ddad_{name}": network for name, network in self.ddad.modules().items()}
        own |= {f"classifier_{k}": classifier for k, classifier in enumerate(self.classifiers)}
        own |= {"extent": self.extent} if self.classifiers else {}
        return {**own, "fusion": self.fusion, "location": self.location}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned; classifiers are there if their tensors are."""
        present = {name.split(".", 1)[0] for name in tensors}
        foreign = (
            f"weights: they do not fit the recipe, or are not those of a DDAD+ model (found parts {sorted(present)})."
        )
        self.classifiers = [self._classifier() for name in present if name.startswith("classifier_")]
        self.location, self.extent = self._location(), self._extent()
        try:
            self.ddad.load_state_dict(
                {name.removeprefix("ddad_"): tensor for name, tensor in tensors.items() if name.startswith("ddad_")}
            )
        except ModelError as error:
            raise ModelError(foreign) from error
        self.fusion = self._fusion()
        if present != set(self.modules()) or (self.classifiers and "ddad_udm" not in present):
            raise ModelError(foreign)
        self._load_modules(tensors)


def _rescaled(
    first: NDArray[np.float64], first_normal: NDArray[np.float64], second_normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bring first classifiers' logits to the level and spread that second ones have in normal images."""
    standardised = (first - first_normal.mean()) / max(float(first_normal.std()), 1e-12)
    rescaled: NDArray[np.float64] = standardised * float(second_normal.std()) + float(second_normal.mean())
    return rescaled
