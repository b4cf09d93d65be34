"""A weighted sum of standardised evidence, its weights found without a label."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2, spearmanr
from torch import Tensor, nn

LEAST_TO_WEIGH = 2
"""Fewest images of both kinds for weights of their own."""
_LEVEL = 0.05
_PRECISION = 2.0  # of the prior
_LEAST_SHARE = 0.01


class Fusion(nn.Module):
    """Σ w·(evidence - mean) / deviation over several kinds of evidence.

    The weights are not negative, and those of a mixture: unlabeled images are normal ones but for a share π, in which
    the density is that of normal images times exp(Σ w·evidence + b), an exponential tilt. What tells the two sets
    apart gives w by its likelihood, with π known, so that the normal images in the pile take nothing from the weights.
    A normal prior draws the weight of the first kind to 1 and the others to 0, which counts where little is there.

    The first and the last kind are there to begin with, the others are taken up, the best first, only where they raise
    the penalised likelihood significantly (ratio, one-sided, 5 % shared among them). Left out is what is not higher in
    unlabeled images that are suspected than in those that are not (the first kind: what is significantly lower): it
    sees how the unlabeled images differ from the known normal ones in something else, in their scanner or in that no
    copy of them was trained on. The sum has a deviation of 1 over both sets.

    Args:
        kinds: how many kinds of evidence there are; until it is fitted, the first is the score. The last is the one
            that images are suspected by.
    """

    mean: Tensor
    deviation: Tensor
    weights: Tensor

    def __init__(self, kinds: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(kinds))
        self.register_buffer("deviation", torch.ones(kinds))
        self.register_buffer("weights", torch.eye(kinds)[0])

    def fit(
        self,
        normal: NDArray[np.float64],
        unlabeled: NDArray[np.float64],
        suspicion: NDArray[np.float64],
        abnormal_share: float,
    ) -> None:
        """Take the scale of each evidence from normal images, and the weights from both.

        Args:
            normal: (N, kinds) evidence of images that no part was trained on, known to be normal.
            unlabeled: (M, kinds), the same for unlabeled images, and for those known to be abnormal. With fewer than
                two of either, nothing changes.
            suspicion: (M,) in [0, 1], how likely each of the latter is abnormal; 1 if that is known.
            abnormal_share: π, in [0, 1].
        """
        if min(len(normal), len(unlabeled)) < LEAST_TO_WEIGH:
            return
        mean, deviation = _scale(normal)
        features = (np.concatenate([normal, unlabeled]) - mean) / deviation
        share = max(abnormal_share, _LEAST_SHARE)
        sides = _Sides(
            np.repeat([-1.0, 1.0], [len(normal), len(unlabeled)]),
            np.concatenate([np.full(len(normal), share), np.where(suspicion == 1, 1, share)]),
        )
        agreeing = [_agrees(evidence, suspicion, first=kind == 0) for kind, evidence in enumerate(unlabeled.T[:-1])]
        agreeing.append(True)
        weight = _weights(features, sides, np.array(agreeing))
        weight /= max((features @ weight).std(), 1e-6)
        self._take(mean, deviation, weight)

    def weigh_alike(self, normal: NDArray[np.float64]) -> None:
        """Give every kind of evidence the same weight, and the sum a deviation of 1 over normal images, (N, kinds)."""
        mean, deviation = _scale(normal)
        total = ((normal - mean) / deviation).sum(axis=1).std()
        self._take(mean, deviation, np.full(len(mean), 1 / total if total > 0 else 1.0))

    def forward(self, evidence: Tensor) -> Tensor:
        """Join evidence (N, kinds) into one score for each image, (N,)."""
        return (self.weights * (evidence - self.mean) / self.deviation).sum(dim=1)

    def _take(self, mean: NDArray[np.float64], deviation: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        for own, found in ((self.mean, mean), (self.deviation, deviation), (self.weights, weights)):
            own.copy_(torch.from_numpy(found))


def _scale(normal: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return normal.mean(axis=0), np.maximum(normal.std(axis=0, ddof=1), 1e-6)


def _agrees(evidence: NDArray[np.float64], suspicion: NDArray[np.float64], *, first: bool) -> bool:
    """Return whether more suspected images have more of the evidence; the first kind need only not be against it."""
    if np.ptp(suspicion) == 0 or np.ptp(evidence) == 0:
        return True
    found = spearmanr(evidence, suspicion, alternative="less")
    return bool(found.pvalue > _LEVEL if first else found.statistic > 0)


class _Sides(NamedTuple):
    """Of each image, its side, -1 or 1, and π where it was drawn."""

    side: NDArray[np.float64]
    share: NDArray[np.float64]


def _weights(features: NDArray[np.float64], sides: _Sides, agreeing: NDArray[np.bool_]) -> NDArray[np.float64]:
    kinds = np.arange(features.shape[1])
    prior = (kinds == 0).astype(float)
    chosen = agreeing & ((kinds == 0) | (kinds == kinds[-1]))
    candidates = agreeing & ~chosen
    significant = float(chi2.isf(2 * _LEVEL / max(1, int(candidates.sum())), 1))
    found, reached = _separate(features[:, chosen], sides, prior[chosen])
    while (candidates & ~chosen).any():
        attempts = {}
        for kind in kinds[candidates & ~chosen]:
            with_it = chosen | (kinds == kind)
            attempts[kind] = _separate(features[:, with_it], sides, prior[with_it])
        best = max(attempts, key=lambda kind: attempts[kind][1])
        if 2 * (attempts[best][1] - reached) < significant:
            break
        chosen[best] = True
        found, reached = attempts[best]
    weight = np.zeros(len(kinds))
    weight[chosen] = found
    # A score must rank images, even where nothing separates them.
    return weight if weight.any() else (kinds == kinds[chosen][0]).astype(float)


def _separate(
    features: NDArray[np.float64], sides: _Sides, prior: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the weights, none below 0, and the log-posterior; both sides weigh the same."""
    side = sides.side
    counts = np.array([(side < 0).sum(), (side > 0).sum()])
    # As many images in all as a comparison of means of these two sides is worth.
    worth = np.where(side < 0, *(2 * counts[::-1] / counts.sum()))
    log_normal, log_abnormal = np.log(np.maximum(1 - sides.share, 1e-12)), np.log(sides.share)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, intercept = parameters[:-1], parameters[-1]
        tilt = log_abnormal + features @ weight + intercept
        log_ratio = np.logaddexp(log_normal, tilt)
        margin = side * log_ratio
        pull = -worth * side * expit(-margin) * np.exp(tilt - log_ratio)
        value = worth @ np.logaddexp(0, -margin) + 0.5 * _PRECISION * ((weight - prior) ** 2).sum()
        return float(value), np.append(features.T @ pull + _PRECISION * (weight - prior), pull.sum())

    bounds = [(0.0, None)] * features.shape[1] + [(None, None)]
    found = minimize(loss, np.append(np.ones(len(prior)), 0.0), jac=True, bounds=bounds, method="L-BFGS-B")
    return found.x[:-1], -float(found.fun)
