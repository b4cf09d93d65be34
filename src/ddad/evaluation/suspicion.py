"""How likely it is of each unlabeled image that it is unlike the known normal ones: a probability without a label.

Unlabeled images are a mixture, p_u = π₀ p_n + (1 - π₀) p_a, so of one with score s the chance to be normal is
π₀ p_n(s) / p_u(s): the local false discovery rate (Efron et al. 2001). π₀ is the share that `prevalence` estimates;
the ratio of densities follows from the chance g(s) that an image with score s is an unlabeled one,
p_n / p_u = (1 - g) / g with both kinds weighing the same, for which g is fitted by isotonic regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from ddad.evaluation.prevalence import CHANCES_OF_MANY, Side, normal_share

LEAST_GROUPS = 5
"""Fewest groups of normal and of unlabeled images in a fold of which anything is said."""
# Where nothing is there, classifiers that were believed all the same cost more than they give where little is there.
_LEVEL = 0.001
_RESAMPLES = 200
# Whether a few images stand out shows above the highest scores of normal ones; how many they are, further down.
_TAILS = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
_SEED = 0  # of bootstraps alone: what is found does not hang on the seed of a fit


@dataclass(frozen=True)
class Suspicion:
    """What cross-fitted scores say of unlabeled images.

    Attributes:
        of_each: (M,) the probability in [0, 1] that an unlabeled image is unlike the normal ones.
        normal_share: π₀, the estimated share of normal images among them, at most 1.
        found: whether more of them than chance allows score high: they hold something that the score sees.
    """

    of_each: NDArray[np.float64]
    normal_share: float
    found: bool


def suspicion(
    scores: NDArray[np.float64],
    is_unlabeled: NDArray[np.bool_],
    groups: NDArray[np.int64],
    folds: NDArray[np.int64],
) -> Suspicion:
    """Estimate how likely each unlabeled image is to be unlike the normal ones.

    Args:
        scores: (N,) of normal and unlabeled images, each from what was not trained on it or its group; higher is more
            like unlabeled images.
        is_unlabeled: (N,).
        groups: (N,) numbers: patients, copies.
        folds: (N,) the number of the fold of each image; scores of one fold come from one classifier. A group lies in
            one fold. With fewer than `LEAST_GROUPS` groups of a kind in a fold, nothing is suspected.
    """
    names = groups.astype(str)
    sides, standardised = [], np.empty(len(scores))
    for fold in np.unique(folds):
        here = folds == fold
        kinds = [here & (is_unlabeled == kind) for kind in (False, True)]
        if min(len(np.unique(groups[kind])) for kind in kinds) < LEAST_GROUPS:
            return Suspicion(np.zeros(int(is_unlabeled.sum())), 1.0, False)
        normal = scores[kinds[0]]
        # Classifiers differ in level and spread.
        standardised[here] = (scores[here] - normal.mean()) / max(float(normal.std()), 1e-12)
        sides.append((Side.of(scores, names, kinds[0]), Side.of(scores, names, kinds[1])))
    random = np.random.default_rng(_SEED)
    # Not `chances_of_few`, so that stored runs can be repeated: of few normal images the share is a little too low.
    share = float(np.clip(normal_share(sides, CHANCES_OF_MANY, random)[0], 0, 1))
    normal_chance = np.clip(share * _density_ratio(standardised, is_unlabeled, folds), 0, 1)
    return Suspicion(1 - normal_chance, share, _stand_out(sides, random))


def _density_ratio(
    scores: NDArray[np.float64], is_unlabeled: NDArray[np.bool_], folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return p_n / p_u at the score of each unlabeled image, (M,), fitted on the images of the other folds."""
    chance = np.empty(len(scores))
    for fold in np.unique(folds):
        others = folds != fold
        # A normal image higher than all stands for those that were not drawn: nothing is beyond doubt.
        known = np.append(scores[others], scores[others].max() + 1)
        kind = np.append(is_unlabeled[others], False)
        weight = np.where(kind, 1 / kind.sum(), 1 / (~kind).sum())
        fitted = IsotonicRegression(out_of_bounds="clip").fit(known, kind, sample_weight=weight)
        chance[~others] = fitted.predict(scores[~others])
    unlabeled = np.clip(chance[is_unlabeled], 1e-12, 1)
    ratio: NDArray[np.float64] = (1 - unlabeled) / unlabeled
    return ratio


def _stand_out(folds: Sequence[tuple[Side, Side]], random: np.random.Generator) -> bool:
    """Return whether more unlabeled images than chance allows score above the highest 1 %, 2 %, … of the normal ones.

    A few abnormal images among many change means and ranks hardly, and the tail much. A group counts once, by its mean.
    The spread of the number is that of a bootstrap; `_LEVEL` is shared among the tails.
    """
    alone = [(_one_a_group(normal), _one_a_group(others)) for normal, others in folds]
    # A quantile of few images lies lower than that of all: the chance to be above it is that of an order statistic.
    expected = np.sum(
        [
            len(others.scores) * (_TAILS * (len(normal.scores) - 1) + 1) / (len(normal.scores) + 1)
            for normal, others in alone
        ],
        axis=0,
    )
    found = np.sum([_above(normal.scores, others.scores) for normal, others in alone], axis=0)
    drawn = [
        [_above(normal.resampled(random), others.resampled(random)) for normal, others in alone]
        for _ in range(_RESAMPLES)
    ]
    spread = np.maximum(np.sum(drawn, axis=1).std(axis=0), 1e-12)
    return bool(((found - expected) / spread > norm.isf(_LEVEL / len(_TAILS))).any())


def _one_a_group(side: Side) -> Side:
    means = np.bincount(side.groups, side.scores) / np.bincount(side.groups)
    return Side(means, np.arange(len(means)))


def _above(normal: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count the others above the normal images' quantile of each tail."""
    limits = np.quantile(normal, 1 - _TAILS)
    counts: NDArray[np.float64] = (others[:, None] > limits).sum(axis=0).astype(np.float64)
    return counts
