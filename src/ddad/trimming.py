"""The unsupervised mode: which of many unlabeled images are likely to be normal, by iterative trimming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddad.cohorts.near_copies import joined_groups, near_copy_groups
from ddad.cohorts.pixels import save_rows
from ddad.cohorts.split import Indices, group_folds, hold_out
from ddad.detectors import DDAD, DDADTraining, FitContext, score_unseen, train_side_by_side
from ddad.errors import CohortError
from ddad.files import write_atomically
from ddad.recipe import Recipe
from ddad.wording import counted, whole_percent

NOT_KNOWN_NORMAL = (
    "no image was known to be normal: trusted images score lower than normal ones do, so that nothing is flagged "
    "before 'ddad calibrate' has seen normal images."
)
"""What to know about a model that was fitted without known normal images."""

_LEAST_TO_JUDGE_BY = 2  # a synthetic patch comes from another image


@dataclass(frozen=True)
class Trust:
    """Which images are trusted to be normal.

    Attributes:
        trusted: (N,) of each image, whether it is.
        scores: (N,) R_intra of each image by networks which have not seen it, in the last round; it is compared
            within a fold only. NaN where all are trusted anyway.
        folds: (N,) number of the fold that each image was judged in.
        agreement: share of the trusted images that were trusted in the round before, too; None where there was none.
        doubts: what to know of the folds.
    """

    trusted: NDArray[np.bool_]
    scores: NDArray[np.float64]
    folds: Indices
    agreement: float | None
    doubts: Sequence[str] = ()


def trust_likely_normals(pile: Path, groups: Sequence[str], recipe: Recipe, context: FitContext) -> Trust:
    """Choose the images of a pile that DDAD, fitted on the chosen ones, finds least unusual.

    Least trimmed squares (Rousseeuw 1984) with R_intra for the error: begin with all images; fit on the trusted ones;
    trust those with the smallest score; repeat. An image is judged by networks that were trained without its fold
    (Yoon et al. 2022 judge so, too), for a network reconstructs what it has seen, abnormal or not. Near copies and
    groups share a fold, unless `doubts` says that they cannot. The share of the trusted images is a setting.

    Args:
        pile: `.npy` file of N images, (N, C, S, S) float32 in [-1, 1].
        groups: of each image, the patient.
        recipe: its sections `trimming`, `reconstruction`, `synthesis` and `refinement` are followed.
        context: workspace, device, workers and progress; parts that are judged in the workspace are not judged again.

    Raises:
        CohortError: too few images are trusted to fit on.
        DivergenceError: a network did not learn.
    """
    settings = recipe.trimming
    images = np.load(pile, mmap_mode="r", allow_pickle=False)
    trusted = np.ones(len(images), bool)
    scores = np.full(len(images), np.nan)
    if settings.trusted == 1:
        return Trust(trusted, scores, np.zeros(len(images), np.int64), None)
    folds, doubts = _folds(images, groups, recipe)
    agreement: float | None = None
    # Moved, the abnormal images of a small pile are learned with the rest.
    judging = recipe.changed({"reconstruction.move_below": 0})
    for number in range(settings.rounds):
        chosen = np.zeros(len(images), bool)
        parts = []
        for fold in np.unique(folds).tolist():
            own, others = np.flatnonzero(folds == fold), np.flatnonzero(trusted & (folds != fold))
            name = f"part {fold + 1} of {folds.max() + 1}"
            parts.append(_Part(name, own, others, context.workspace / f"trimming-{number}-{fold}"))
        _judge(parts, images, judging, f"round {number + 1} of {settings.rounds}", context)
        for part in parts:
            scores[part.own] = part.scores()
            best = np.argsort(scores[part.own], kind="stable")[: _trusted_of(len(part.own), settings.trusted)]
            chosen[part.own[best]] = True
        # Before the first round all images are trusted, with which to agree says nothing.
        agreement = float((chosen & trusted).sum() / chosen.sum()) if number else None
        trusted = chosen
    return Trust(trusted, scores, folds, agreement, doubts)


def _folds(images: NDArray[np.float32], groups: Sequence[str], recipe: Recipe) -> tuple[Indices, list[str]]:
    """Return the number of each image's fold, (N,), and what to know of the folds."""
    count_of_folds = recipe.trimming.folds
    together = joined_groups(groups, near_copy_groups(images))
    doubts = []
    if np.bincount(together).max() > len(images) / count_of_folds:
        together = joined_groups(groups)
        doubts.append(
            f"unlabeled images are so alike that near copies fill more than one of {count_of_folds} folds: they are "
            "not kept together where it is judged which images are trusted, and networks know near copies of what "
            "they judge."
        )
    if (count := len(np.unique(together))) < min(2 * count_of_folds, len(images)):
        doubts.append(
            f"the unlabeled images are of {counted(count, 'group')} (patients), too few for {count_of_folds} folds: "
            "each image stands alone where it is judged which are trusted, and networks know other images of its "
            "patient."
        )
    return group_folds(together, np.zeros(len(images), np.int64), count_of_folds, recipe.seed), doubts


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
        rounds: how often the trusted images were chosen.
    """

    pixels: dict[str, NDArray[np.float32]]
    places: dict[str, Indices]
    trust: Trust
    paths: Sequence[str]
    rounds: int

    def describe(self) -> str:
        """Say how many images are trusted, and why."""
        count, total, agreement = int(self.trust.trusted.sum()), len(self.paths), self.trust.agreement
        if count == total:
            return f"no image is known to be normal: all {total} unlabeled images are taken for it."
        described = (
            f"no image is known to be normal: {count} of {total} unlabeled images are trusted to be, those that "
            "networks which have not seen them find least unusual."
        )
        if agreement is None:
            return described
        return f"{described} In the round before, {whole_percent(agreement)} of them were trusted too."

    def to_json(self) -> dict[str, Any]:
        """Return the division for the model card: counts, and [path, score, fold, trusted] of every image."""
        rows = zip(self.paths, self.trust.scores, self.trust.folds, self.trust.trusted, strict=True)
        return {
            "trusted": int(self.trust.trusted.sum()),
            "of": len(self.paths),
            "rounds": self.rounds,
            "agreement": None if self.trust.agreement is None else round(self.trust.agreement, 4),
            "images": [
                [path, None if np.isnan(score) else float(f"{score:.6g}"), int(fold), bool(is_in)]
                for path, score, fold, is_in in rows
            ],
        }


def divide_pile(
    pile: Path, paths: Sequence[str], groups: Sequence[str], recipe: Recipe, context: FitContext
) -> DividedPile:
    """Let the trusted images of a pile stand for normal ones, and write all parts into the workspace.

    Args:
        pile: `.npy` file of N images.
        paths: of the images, N.
        groups: the patient of each.
        recipe: what `trust_likely_normals` reads of it, and `holdout`, are followed.
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
    rounds = 0 if recipe.trimming.trusted == 1 else recipe.trimming.rounds
    return DividedPile(pixels, parts, trust, paths, rounds)


@dataclass(frozen=True)
class _Part:
    """Images of one fold, to be judged by DDAD that is fitted on others.

    Attributes:
        name: for messages.
        own: places in the pile of those that are judged.
        others: of those that are fitted on.
        workspace: folder for unfinished work, beside which the scores are kept.
    """

    name: str
    own: Indices
    others: Indices
    workspace: Path

    @property
    def stored(self) -> Path:
        return self.workspace.with_suffix(".json")

    def scores(self) -> list[float]:
        found: list[float] = json.loads(self.stored.read_text(encoding="utf-8"))
        return found


def _judge(
    parts: Sequence[_Part], images: NDArray[np.float32], recipe: Recipe, title: str, context: FitContext
) -> None:
    """Store R_intra of the images of each part by DDAD that is fitted on its others alone, unless that is stored.

    All such fits begin with the networks and batches of one seed: they differ by their images.

    Raises:
        CohortError: `others` are too few to fit on.
        DivergenceError: a network did not learn.
    """
    for part in parts:
        if len(part.others) < _LEAST_TO_JUDGE_BY:
            raise CohortError(
                f"unlabeled: {title}, {part.name}: {counted(len(part.others), 'image')} of other parts to judge this "
                f"one by, at least {_LEAST_TO_JUDGE_BY} are needed. Trust more (--set trimming.trusted), or add "
                "unlabeled images."
            )
    parts = [part for part in parts if not part.stored.exists()]
    if not parts:
        return
    context.progress.message(f"looking for normal images: {title}, {counted(len(parts), 'part')}")
    trainings = []
    for part in parts:
        part.workspace.mkdir(exist_ok=True)
        save_rows(images, part.others, part.workspace / "others.npy")
        trainings.append(
            DDADTraining(
                recipe, part.workspace / "others.npy", None, part.workspace, context.compute, name=f"{part.name}: "
            )
        )
    train_side_by_side(trainings, context.processes, context.progress)
    for part, training in zip(parts, trainings, strict=True):
        detector = DDAD(recipe)
        detector.load_state_dict(training.trained()[0])
        own = part.workspace / "own.npy"
        save_rows(images, part.own, own)
        scores = score_unseen(detector, np.load(own, mmap_mode="r", allow_pickle=False), context.compute)
        write_atomically(part.stored, json.dumps(scores.tolist()).encode())
        shutil.rmtree(part.workspace)
