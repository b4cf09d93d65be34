"""A weighted sum of standardised evidence, its weights found without a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor, nn


class Fusion(nn.Module):
    """Σ w·(evidence - mean) / deviation over several kinds of evidence.

    The weights are not negative. They maximise the likelihood of a logistic model that tells held-out normal from
    held-out unlabeled images, under a normal prior of variance 1 around `prior`. A mixture's normals pull
    both ways alike, so what separates the two sets is what the unlabeled images hold beyond them: evidence that
    does not separate them keeps its prior weight.

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
        weight = _weights((normal - mean) / deviation, (unlabeled - mean) / deviation, np.array(self.prior))
        for own, found in ((self.mean, mean), (self.deviation, deviation), (self.weight, weight)):
            own.copy_(torch.from_numpy(found))

    def forward(self, evidence: Tensor) -> Tensor:
        """Join evidence (N, kinds, H, W) into one map (N, H, W)."""
        standardised = (evidence - self.mean[:, None, None]) / self.deviation[:, None, None]
        return (self.weight[:, None, None] * standardised).sum(dim=1)


def _weights(
    normal: NDArray[np.float64], unlabeled: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    features = np.concatenate([normal, unlabeled])
    side = np.repeat([-1.0, 1.0], [len(normal), len(unlabeled)])
    # Both sides weigh the same, however many images each has.
    share = np.repeat([0.5 / len(normal), 0.5 / len(unlabeled)], [len(normal), len(unlabeled)]) * len(features)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, intercept = parameters[:-1], parameters[-1]
        margin = side * (features @ weight + intercept)
        pull = -share * side * expit(-margin)
        value = share @ np.logaddexp(0, -margin) + 0.5 * ((weight - prior) ** 2).sum()
        return float(value), np.append(features.T @ pull + weight - prior, pull.sum())

    bounds = [(0.0, None)] * len(prior) + [(None, None)]
    found: NDArray[np.float64] = minimize(loss, np.append(prior, 0.0), jac=True, bounds=bounds, method="L-BFGS-B").x
    return found[:-1]
