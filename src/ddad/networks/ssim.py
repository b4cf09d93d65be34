"""Structural similarity (Wang et al. 2004) as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SIGMA, _RADIUS = 1.5, 5


def structural_similarity(first: Tensor, second: Tensor, value_range: float = 2.0) -> Tensor:
    """Return the local similarity (N, C, S - 10, S - 10) of images (N, C, S, S), 1 where they are equal.

    Means, variances and covariance are taken under a Gaussian window 11x11 of standard deviation 1.5, where
    it lies wholly inside the image.
    """
    place = torch.arange(-_RADIUS, _RADIUS + 1, dtype=first.dtype, device=first.device)
    window = torch.exp(-(place**2) / (2 * _SIGMA**2))
    window = window / window.sum()
    channels = first.shape[1]
    rows = window.view(1, 1, -1, 1).repeat(channels, 1, 1, 1)

    def blur(images: Tensor) -> Tensor:
        return functional.conv2d(
            functional.conv2d(images, rows, groups=channels), rows.transpose(2, 3), groups=channels
        )

    mean_1, mean_2 = blur(first), blur(second)
    variance_1, variance_2 = blur(first**2) - mean_1**2, blur(second**2) - mean_2**2
    covariance = blur(first * second) - mean_1 * mean_2
    small_1, small_2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    return ((2 * mean_1 * mean_2 + small_1) * (2 * covariance + small_2)) / (
        (mean_1**2 + mean_2**2 + small_1) * (variance_1 + variance_2 + small_2)
    )
