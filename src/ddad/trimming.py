"""The unsupervised mode: which of many unlabeled images are likely to be normal, by iterative trimming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddad.cohorts.near_copies import joined_groups, near_copy_groups
from ddad.cohorts.pixels import save_rows
from ddad.cohorts.split import Indices, group_folds, hold_out
from ddad.detectors import FitContext
from ddad.networks.factory import training_memory
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.jobs import Job, run_jobs
from ddad.training.refinement import load_ensemble
from ddad.wording import counted, whole_percent

NOT_KNOWN_NORMAL = (
    "no image was known to be normal: trusted images score lower than normal ones do, so that nothing is flagged "
    "before 'ddad calibrate' has seen normal images."
)
"""What to know about a model that was fitted without known normal images."""

_BATCH = 64


@dataclass(frozen=True)
class Trust:
    """Which images are trusted to be normal.

    Attributes:
        trusted: (N,) of each image, whether it is.
        errors: (N,) share of each image's variance that a network which has not seen it leaves unexplained, in the last
            round; it is compared within a fold only.
        folds: (N,) number of the fold that each image was judged in.
        agreement: share of the trusted images that were trusted in the round before, too; None where there was none.
        doubts: what to know of the folds.
    """

    trusted: NDArray[np.bool_]
    errors: NDArray[np.float64]
    folds: Indices
    agreement: float | None
    doubts: Sequence[str] = ()


def trust_likely_normals(pile: Path, groups: Sequence[str], recipe: Recipe, context: FitContext) -> Trust:
    """Choose the images of a pile that reconstruction networks, trained on the chosen ones, reconstruct best.

    Least trimmed squares (Rousseeuw 1984) with networks: begin with all images; train on the trusted ones; trust
    those with the smallest error; repeat. An image is judged by a network that was trained without its fold (Yoon et
    al. 2022 judge so, too), for a network reconstructs what it has seen, abnormal or not. Near copies and groups
    share a fold, unless `doubts` says that they cannot. The share of the trusted images is a setting: a share of one
    half is right as long as most of the images are normal, and no smaller one withstands more.

    Args:
        pile: `.npy` file of N images, (N, C, S, S) float32 in [-1, 1].
        groups: of each image, the patient.
        recipe: its sections `trimming` and `reconstruction` are followed.
        context: workspace, device, workers and progress; networks that are in the workspace are not trained again.
    """
    settings = recipe.trimming
    images = np.load(pile, mmap_mode="r", allow_pickle=False)
    together = joined_groups(groups, near_copy_groups(images))
    doubts = []
    if np.bincount(together).max() > len(images) / settings.folds:
        together = joined_groups(groups)
        doubts.append(
            f"unlabeled images are so alike that near copies fill more than one of {settings.folds} folds: they are "
            "not kept together where it is judged which images are trusted, and networks know near copies of what "
            "they judge."
        )
    if (count := len(np.unique(together))) < min(2 * settings.folds, len(images)):
        doubts.append(
            f"the unlabeled images are of {counted(count, 'group')} (patients), too few for {settings.folds} folds: "
            "each image stands alone where it is judged which are trusted, and networks know other images of its "
            "patient."
        )
    folds = group_folds(together, np.zeros(len(images), np.int64), settings.folds, recipe.seed)
    trusted = np.ones(len(images), bool)
    agreement: float | None = None
    errors = np.zeros(len(images))
    for number in range(settings.rounds):
        networks = _train(images, trusted, folds, number, recipe, context)
        chosen = np.zeros(len(images), bool)
        for fold, network in enumerate(networks):
            own = np.flatnonzero(folds == fold)
            errors[own] = _errors(images, own, recipe, network, context.compute)
            best = np.argsort(errors[own], kind="stable")[: _trusted_of(len(own), settings.trusted)]
            chosen[own[best]] = True
        # Before the first round all images are trusted, with which to agree says nothing.
        agreement = float((chosen & trusted).sum() / chosen.sum()) if number else None
        trusted = chosen
    return Trust(trusted, errors, folds, agreement, doubts)


def expected_trust(count: int, recipe: Recipe) -> int:
    """Return how many of so many images will be trusted, where each is a group of its own."""
    folds = min(recipe.trimming.folds, count)
    sizes = [count // folds + (place < count % folds) for place in range(folds)]
    return sum(_trusted_of(size, recipe.trimming.trusted) for size in sizes)


def _trusted_of(count: int, share: float) -> int:
    """Return how many of a fold's images are trusted: at least one, and not all unless the share is 1."""
    if share == 1:
        return count
    return max(1, min(round(share * count), count - 1))


@dataclass(frozen=True)
class DividedPile:
    """Unlabeled images, divided into those that stand for normal ones and the rest.

    Attributes:
        pixels: by the names of their files in the workspace, without suffix: `normal`, `held-out normal`, and
            `unlabeled` if any are left.
        places: by the same names, which images of the pile they are.
        trust: what the division follows.
        paths: of all images.
        rounds: how often networks were trained on the trusted images.
    """

    pixels: dict[str, NDArray[np.float32]]
    places: dict[str, Indices]
    trust: Trust
    paths: Sequence[str]
    rounds: int

    def describe(self) -> str:
        """Say how many images are trusted, and why."""
        count, total, agreement = int(self.trust.trusted.sum()), len(self.paths), self.trust.agreement
        described = (
            f"no image is known to be normal: {count} of {total} unlabeled images are trusted to be, those that "
            "networks which have not seen them reconstruct best."
        )
        if agreement is None:
            return described
        return f"{described} In the round before, {whole_percent(agreement)} of them were trusted too."

    def to_json(self) -> dict[str, Any]:
        """Return the division for the model card: counts, and [path, error, fold, trusted] of every image."""
        rows = zip(self.paths, self.trust.errors, self.trust.folds, self.trust.trusted, strict=True)
        return {
            "trusted": int(self.trust.trusted.sum()),
            "of": len(self.paths),
            "rounds": self.rounds,
            "agreement": None if self.trust.agreement is None else round(self.trust.agreement, 4),
            "images": [[path, float(f"{error:.6g}"), int(fold), bool(is_in)] for path, error, fold, is_in in rows],
        }


def divide_pile(
    pile: Path, paths: Sequence[str], groups: Sequence[str], recipe: Recipe, context: FitContext
) -> DividedPile:
    """Let the trusted images of a pile stand for normal ones, and write all parts into the workspace.

    Args:
        pile: `.npy` file of N images.
        paths: of the images, N.
        groups: the patient of each.
        recipe: its `trimming`, `reconstruction` and `holdout` are followed.
        context: workspace, device, workers and progress.
    """
    trust = trust_likely_normals(pile, groups, recipe, context)
    trusted = np.flatnonzero(trust.trusted)
    kept, held = hold_out([groups[index] for index in trusted.tolist()], recipe.holdout, recipe.seed)
    parts = {"normal": trusted[kept], "held-out normal": trusted[held], "unlabeled": np.flatnonzero(~trust.trusted)}
    images = np.load(pile, mmap_mode="r", allow_pickle=False)
    pixels = {}
    for name, places in parts.items():
        if len(places):
            file = context.workspace / f"{name}.npy"
            save_rows(images, places, file)
            pixels[name] = np.load(file, mmap_mode="r", allow_pickle=False)
    return DividedPile(pixels, parts, trust, paths, recipe.trimming.rounds)


def _train(
    images: NDArray[np.float32],
    trusted: NDArray[np.bool_],
    folds: Indices,
    number: int,
    recipe: Recipe,
    context: FitContext,
) -> list[Path]:
    """Train a network for each fold on the trusted images of the others, and return their files."""
    jobs = []
    for fold in range(int(folds.max()) + 1):
        into = context.workspace / f"trimming-{number}-{fold}.safetensors"
        pixels = into.with_suffix(".npy")
        if not into.exists():
            save_rows(images, np.flatnonzero(trusted & (folds != fold)), pixels)
        arguments = {
            "recipe": recipe.model_dump(mode="json"),
            "module": f"trimming-{number}",
            "members": [fold],
            "pixels": [str(pixels)],
            "into": [str(into)],
            "compute": context.compute.to_json(),
        }
        function = "ddad.training.reconstruction:train_members_job"
        memory = training_memory(recipe.images, recipe.reconstruction)
        jobs.append(Job(f"network {fold + 1}", function, arguments, recipe.reconstruction.ndm_epochs, into, memory))
    title = f"looking for normal images, round {number + 1} of {recipe.trimming.rounds}, epochs"
    run_jobs(jobs, workers=context.processes, progress=context.progress, title=title)
    for job in jobs:
        job.output.with_suffix(".npy").unlink(missing_ok=True)
    return [job.output for job in jobs]


def _errors(
    images: NDArray[np.float32], rows: Indices, recipe: Recipe, network: Path, compute: Compute
) -> NDArray[np.float64]:
    """Return the share of the variance of some images that a network leaves unexplained, (rows,).

    The error itself grows with contrast: by it, flat and blurred images would be trusted, whatever they show.
    """
    ensemble = compute.place(load_ensemble(recipe, [network]))
    found = []
    with compute.inference():
        for start in range(0, len(rows), _BATCH):
            block = compute.send(torch.from_numpy(images[rows[start : start + _BATCH]]))
            error = (block - ensemble(block)[0][0]).square().flatten(1).mean(dim=1)
            variance = block.flatten(1).var(dim=1, correction=0).clamp_min(1e-6)
            found.append((error / variance).double().cpu().numpy())
    return np.concatenate(found)
