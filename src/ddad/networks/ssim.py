"""Structural similarity, at one scale (Wang et al. 2004) and at several (Wang et al. 2003)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SIGMA, _RADIUS = 1.5, 5
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def structural_similarity(first: Tensor, second: Tensor, value_range: float = 2.0) -> Tensor:
    """Return the local similarity (N, C, S - 10, S - 10) of images (N, C, S, S), 1 where they are equal.

    Means, variances and covariance are taken under a Gaussian window 11x11 of standard deviation 1.5, where
    it lies wholly inside the image.
    """
    luminance, structure = _luminance_and_structure(first, second, value_range)
    return luminance * structure


def multi_scale_similarity(first: Tensor, second: Tensor, value_range: float = 2.0) -> Tensor:
    """Return the similarity (N,) of images (N, C, S, S): structure at several scales, luminance at the coarsest.

    Each scale halves the image. There are as many of the five published scales as images of this size have room for
    the window; their weights sum to 1.
    """
    weights = scale_weights(first.shape[-1])
    similarity = torch.ones(first.shape[:2], dtype=first.dtype, device=first.device)
    for scale, weight in enumerate(weights):
        luminance, structure = _luminance_and_structure(first, second, value_range)
        local = luminance * structure if scale == len(weights) - 1 else structure
        # A negative mean has no power; where it is held, it has no slope either.
        similarity = similarity * local.flatten(2).mean(dim=2).clamp_min(1e-6) ** weight
        first, second = functional.avg_pool2d(first, 2), functional.avg_pool2d(second, 2)
    return similarity.mean(dim=1)


def similarity_map(first: Tensor, second: Tensor, value_range: float = 2.0) -> Tensor:
    """Return the similarity at every pixel, (N, C, S, S): that of each scale enlarged, and their weighted mean."""
    size = first.shape[-1]
    mean = torch.zeros_like(first)
    for weight in scale_weights(size):
        local = structural_similarity(_padded(first), _padded(second), value_range)
        mean = mean + weight * functional.interpolate(local, size=(size, size), mode="bilinear")
        first, second = functional.avg_pool2d(first, 2), functional.avg_pool2d(second, 2)
    return mean


def scale_weights(size: int) -> list[float]:
    """Return the weights of the scales at which the window fits well into images of side `size`, 16 or more."""
    fitting = [weight for scale, weight in enumerate(_SCALE_WEIGHTS) if 2 * _RADIUS * 2**scale < size]
    return [weight / sum(fitting) for weight in fitting]


def _padded(images: Tensor) -> Tensor:
    return functional.pad(images, (_RADIUS,) * 4, mode="replicate")


def _luminance_and_structure(first: Tensor, second: Tensor, value_range: float) -> tuple[Tensor, Tensor]:
    blur = _blur(first)
    stacked = torch.cat([first, second, first**2, second**2, first * second])
    mean_1, mean_2, *products = (blur @ stacked @ blur.T).chunk(5)
    variance_1, variance_2 = products[0] - mean_1**2, products[1] - mean_2**2
    covariance = products[2] - mean_1 * mean_2
    small_1, small_2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    luminance = (2 * mean_1 * mean_2 + small_1) / (mean_1**2 + mean_2**2 + small_1)
    structure = (2 * covariance + small_2) / (variance_1 + variance_2 + small_2)
    return luminance, structure


def _blur(images: Tensor) -> Tensor:
    """Return the Gaussian window along one axis as a matrix (S - 10, S), many times faster than a convolution."""
    size = images.shape[-1]
    place = torch.arange(size, dtype=images.dtype, device=images.device)
    offset = place[None, :] - (place[: size - 2 * _RADIUS, None] + _RADIUS)
    window = torch.exp(-(offset**2) / (2 * _SIGMA**2)) * (offset.abs() <= _RADIUS)
    return window / window.sum(dim=1, keepdim=True)
