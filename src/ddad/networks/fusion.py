"""A weighted sum of standardised evidence, its weights found without a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2
from torch import Tensor, nn

_LEVEL = 0.05
_FAINT = 0.1


class Fusion(nn.Module):
    """Σ w·(evidence - mean) / deviation over several kinds of evidence.

    The weights are not negative, and those of a logistic model that tells held-out normal from held-out unlabeled
    images. A mixture's normals pull both ways alike, so what separates the two sets is what the unlabeled images hold
    beyond them. Evidence outside the prior is taken up, the best first, only where it raises the likelihood
    significantly (likelihood ratio, one-sided, 5 % shared among the candidates): where unlabeled images hold nothing
    that is seen, the prior stays as it is. The sum has a deviation of 1 over both sets.

    Args:
        prior: the weight of each kind of evidence where the images say nothing.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor

    def __init__(self, prior: Sequence[float]) -> None:
        super().__init__()
        self.prior = tuple(prior)
        self.register_buffer("mean", torch.zeros(len(prior)))
        self.register_buffer("deviation", torch.ones(len(prior)))
        self.register_buffer("weight", torch.tensor(self.prior))

    def fit(self, normal: NDArray[np.float64], unlabeled: NDArray[np.float64]) -> None:
        """Take the scale of each evidence from normal images, and the weights from both.

        Args:
            normal: (N, kinds) evidence of images that no part was trained on, known to be normal.
            unlabeled: (M, kinds), the same for unlabeled images, and for those known to be abnormal. With fewer than
                two of either, nothing changes.
        """
        if min(len(normal), len(unlabeled)) < 2:
            return
        mean, deviation = normal.mean(axis=0), np.maximum(normal.std(axis=0, ddof=1), 1e-6)
        sides = ((normal - mean) / deviation, (unlabeled - mean) / deviation)
        weight = _weights(*sides, np.array(self.prior))
        weight /= max((np.concatenate(sides) @ weight).std(), 1e-6)
        for own, found in ((self.mean, mean), (self.deviation, deviation), (self.weight, weight)):
            own.copy_(torch.from_numpy(found))

    def forward(self, evidence: Tensor) -> Tensor:
        """Join evidence (N, kinds) into one score for each image, (N,)."""
        return (self.weight * (evidence - self.mean) / self.deviation).sum(dim=1)


def _weights(
    normal: NDArray[np.float64], unlabeled: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    chosen = prior > 0
    none_else = chosen.copy()
    significant = float(chi2.isf(2 * _LEVEL / max(1, int((~chosen).sum())), 1))
    _, reached = _separate(normal[:, chosen], unlabeled[:, chosen])
    while not chosen.all():
        gains = {}
        for kind in np.flatnonzero(~chosen):
            with_it = chosen | (np.arange(len(prior)) == kind)
            gains[kind] = _separate(normal[:, with_it], unlabeled[:, with_it])[1] - reached
        best = max(gains, key=lambda kind: gains[kind])
        if 2 * gains[best] < significant:
            break
        chosen[best], reached = True, reached + gains[best]
    weight = prior.copy()
    if (chosen != none_else).any():
        weight[chosen] = _separate(normal[:, chosen], unlabeled[:, chosen])[0]
    return weight


def _separate(normal: NDArray[np.float64], unlabeled: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the weights, none below 0, and the log-likelihood of a logistic model; both sides weigh the same."""
    counts = np.array([len(normal), len(unlabeled)])
    features = np.concatenate([normal, unlabeled])
    side = np.repeat([-1.0, 1.0], counts)
    # As many images in all as a comparison of means of these two sides is worth.
    share = np.repeat(2 * counts[::-1] / counts.sum(), counts)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, intercept = parameters[:-1], parameters[-1]
        margin = side * (features @ weight + intercept)
        pull = -share * side * expit(-margin)
        # A faint pull to 0 keeps weights finite where the sides separate wholly.
        value = share @ np.logaddexp(0, -margin) + 0.5 * _FAINT * (weight**2).sum()
        return float(value), np.append(features.T @ pull + _FAINT * weight, pull.sum())

    bounds = [(0.0, None)] * features.shape[1] + [(None, None)]
    found = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, bounds=bounds, method="L-BFGS-B")
    return found.x[:-1], -float(found.fun)
