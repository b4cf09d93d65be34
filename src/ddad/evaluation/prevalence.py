"""How many of the unlabeled images are unlike the known normal ones: an estimate with its interval, without a label.

Unlabeled images are a mixture: a share π of abnormal ones, the rest normal. A conformal p-value of a normal one is
uniform, so of those above λ, where few abnormal ones are left, the normal share can be read off: Storey (2002),
π₀(λ) = #{p > λ} / ((1 - λ) m), which is "best bin estimation" of the mixture proportion (Garg et al. 2021) when λ is
the value with the lowest upper confidence bound. With few normal images, `chances_of_few` takes the place of 1 - λ.

What it can know: 1 - π₀(λ) is at most π, whatever the classifier is worth. It is π itself only if no abnormal image
has a p-value above λ (irreducibility, Blanchard, Lee and Scott 2010); abnormal images that the classifier takes for
normal are missed. And it counts what is unlike the *known normals*: another scanner as much as a disease.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ddad.evaluation.cross_fitting import appearance, cross_fitted_scores

LEVEL = 0.95
LEAST = 40
"""Fewest normal and fewest unlabeled images of which the share is estimated."""
_MOST = 3000
_FOLDS = 5
_LEAST_GROUPS = 2 * _FOLDS
_REPEATS = 5
STEPS = _REPEATS * _FOLDS
"""Folds that are scored in one estimate, for a bar."""
_RESAMPLES = 200
# Above a λ of 0.8, less than a fifth of the normal images is left to compare with.
_LAMBDAS = np.arange(0.1, 0.81, 0.1)
CHANCES_OF_MANY = 1 - _LAMBDAS
"""The chance for each λ that a new normal image has p > λ, where p is by very many normal images."""

NOT_ESTIMATED = (
    f"The share of abnormal images among the unlabeled ones is not estimated: that takes at least {LEAST} normal and "
    f"{LEAST} unlabeled images, each in at least {_LEAST_GROUPS} groups (patients, or images without a near copy)."
)
"""Why a fit gives no estimate."""


@dataclass(frozen=True)
class Prevalence:
    """The share of abnormal images among the unlabeled ones.

    Attributes:
        estimate: in [0, 1].
        low: lower end of the interval.
        high: upper end; it holds only as far as coarse brightness and texture tell abnormal images from normal ones.
        level: of the interval.
        normal_count: normal images that were looked at.
        unlabeled_count: unlabeled images that were looked at.
    """

    estimate: float
    low: float
    high: float
    level: float
    normal_count: int
    unlabeled_count: int

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


@dataclass(frozen=True)
class Side:
    """The scores of one kind of images in one fold, and the number of each image's group there, from 0."""

    scores: NDArray[np.float64]
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], groups: NDArray[np.str_], chosen: NDArray[np.bool_]) -> Side:
        """Take the chosen ones of a fold's images."""
        return cls(scores[chosen], np.unique(groups[chosen], return_inverse=True)[1].astype(np.int64))

    def resampled(self, random: np.random.Generator, rounds: int = 1) -> NDArray[np.float64]:
        """Draw as many groups as there are, with replacement, then so of those; return their images' scores."""
        count = int(self.groups.max()) + 1
        drawn = np.arange(count)
        for _ in range(rounds):
            drawn = drawn[random.integers(count, size=count)]
        times = np.bincount(drawn, minlength=count)
        return np.repeat(self.scores, times[self.groups])


def estimate_prevalence(
    normal: NDArray[np.float32],
    unlabeled: NDArray[np.float32],
    groups: Sequence[str] | NDArray[np.int64],
    *,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> Prevalence | None:
    """Estimate the share of abnormal images among unlabeled ones; None where there are too few images or groups.

    The score is that of small classifiers of normal against unlabeled images, each applied to images that it was not
    trained on. A detector's own scores would not do: the UDM has learned from the unlabeled images, and no longer
    scores a normal one among them as it scores a held-out normal.

    The interval is a percentile bootstrap over groups. Estimate and interval are medians over divisions into folds.
    An interval is never narrower than if the labels were known: where nothing unlike normal images is found, every
    resample may say 0, and the truth may not be 0 for all that.

    Args:
        normal: (N, C, S, S) in [-1, 1], known normal images.
        unlabeled: (M, C, S, S).
        groups: of the normal and then of the unlabeled images: patients, copies; they stay together.
        seed: of everything random.
        advance: called for each of the `STEPS` folds that are scored.
    """
    if min(len(normal), len(unlabeled)) < LEAST:
        return None
    random = np.random.default_rng(seed)
    chosen = [np.sort(random.permutation(len(images))[:_MOST]) for images in (normal, unlabeled)]
    features = np.concatenate([appearance(normal, chosen[0]), appearance(unlabeled, chosen[1])])
    is_unlabeled = np.repeat([False, True], [len(places) for places in chosen])
    own_groups = np.asarray(groups, dtype=str)[np.concatenate([chosen[0], len(normal) + chosen[1]])]
    if min(len(np.unique(own_groups[is_unlabeled == side])) for side in (False, True)) < _LEAST_GROUPS:
        return None
    found = []
    for repeat in range(_REPEATS):
        folds = []
        divided = cross_fitted_scores(features, is_unlabeled, own_groups, folds=_FOLDS, seed=seed + repeat)
        for places, scores in divided:
            sides = [Side.of(scores, own_groups[places], is_unlabeled[places] == side) for side in (False, True)]
            if min(len(side.scores) for side in sides) < 2:
                return None
            folds.append((sides[0], sides[1]))
            advance()
        found.append(normal_share(folds, chances_of_few(folds, random), random))
    share, lowest, highest = np.median(found, axis=0)
    estimate = float(np.clip(1 - share, 0, 1))
    low, high = _with_known_labels(estimate, len(np.unique(own_groups[is_unlabeled])))
    return Prevalence(
        estimate=estimate,
        low=min(low, float(np.clip(1 - highest, 0, 1))),
        high=max(high, float(np.clip(1 - lowest, 0, 1))),
        level=LEVEL,
        normal_count=int((~is_unlabeled).sum()),
        unlabeled_count=int(is_unlabeled.sum()),
    )


def chances_of_few(folds: Sequence[tuple[Side, Side]], random: np.random.Generator) -> NDArray[np.float64]:
    """Return the chance that a new normal image has p > λ, for each fold and λ: (2, folds, λ), first and resampled.

    The k-th lowest of n independent scores has on average k / (n + 1) of all others below it, and the (1 - λ) quantile
    is the one with k = (1 - λ)(n - 1) + 1. Images of a group are not independent, so the bootstrap over groups is
    asked: what share of the fold's own normal images, ties counted half, lies below the quantile of resampled ones.
    Its mean is k / (n + 1) where each image stands alone, for there the k-th resampled has mean rank nk / (n + 1) + ½.
    Resampled images repeat, and their own quantile is off once more: by how much, images resampled twice say.

    Args:
        folds: scores of normal and of unlabeled images.
        random: draws the resamples.
    """
    found = np.empty((2, len(folds), len(_LAMBDAS)))
    for fold, (normal, _) in enumerate(folds):
        values, counts = np.unique(normal.scores, return_counts=True)
        below = (np.cumsum(counts) - counts / 2) / len(normal.scores)
        for rounds in (1, 2):
            limits = np.array([_limits(normal.resampled(random, rounds)) for _ in range(_RESAMPLES)])
            found[rounds - 1, fold] = np.interp(limits, values, below).mean(axis=0)
    return found


def normal_share(
    folds: Sequence[tuple[Side, Side]], chances: NDArray[np.float64], random: np.random.Generator
) -> tuple[float, float, float]:
    """Return π₀, the share of normal images among unlabeled ones, and its interval; noise may bring them above 1.

    λ is chosen for each fold on the other folds: the lowest of several estimates of the same images would be too low.

    Args:
        folds: scores of normal and of unlabeled images, of at least two folds; only scores of one fold are compared.
        chances: the chance that a normal image has p > λ: of `chances_of_few`, or `CHANCES_OF_MANY`.
        random: draws the resamples.
    """
    first, resampled = np.broadcast_to(chances, (2, len(folds), len(_LAMBDAS)))
    found = np.array([_below(normal.scores, others.scores) for normal, others in folds]) / first
    drawn = np.array(
        [
            [_below(normal.resampled(random), others.resampled(random)) for _ in range(_RESAMPLES)]
            for normal, others in folds
        ]
    )
    drawn = drawn / resampled[:, None]
    sizes = np.array([len(others.scores) for _, others in folds])
    share, spread = 0.0, np.zeros(_RESAMPLES)
    for own in range(len(folds)):
        rest = np.arange(len(folds)) != own
        upper = found[rest].sum(axis=0) + 2 * drawn[rest].sum(axis=0).std(axis=0)
        chosen = int(np.argmin(upper))
        share += found[own, chosen] / sizes.sum()
        spread += drawn[own, :, chosen] / sizes.sum()
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(share), float(low), float(high)


def _with_known_labels(share: float, groups: int) -> tuple[float, float]:
    """Return the interval (Clopper and Pearson 1934) if this share of the unlabeled groups were seen to be abnormal."""
    interval = binomtest(round(share * groups), groups).proportion_ci(LEVEL)
    return float(interval.low), float(interval.high)


def _below(normal: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count for each λ the others with p > λ: below the (1 - λ) quantile of the normal images, of ties a half."""
    ordered, limits = np.sort(others), _limits(normal)
    counts: NDArray[np.float64] = (
        np.searchsorted(ordered, limits, side="left") + np.searchsorted(ordered, limits, side="right")
    ) / 2
    return counts


def _limits(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (1 - λ) quantiles of the normal images."""
    limits: NDArray[np.float64] = np.quantile(normal, 1 - _LAMBDAS)
    return limits
