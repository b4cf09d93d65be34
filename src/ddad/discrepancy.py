"""Discrepancies between reconstructions: equations 3, 4, 6 and 7 as pure functions of tensors.

Reconstructions are stacked over the K members of a module: (K, N, C, H, W). Maps are (N, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor


def reconstruction_error(images: Tensor, reconstruction: Tensor, sigma: Tensor | None = None) -> Tensor:
    """A_rec = (x - x̂)² (section 3.3), divided by σ² where AE-U predicts it (Mao et al. 2020).

    Args:
        images: (N, C, H, W).
        reconstruction: (N, C, H, W): one network's, or the mean of several.
        sigma: (N, C, H, W), positive.
    """
    error = (images - reconstruction) ** 2
    return error if sigma is None else error / sigma**2


def intra_discrepancy(normative: Tensor, sigma: Tensor | None = None) -> Tensor:
    """A_intra: the spread of the NDM's K reconstructions around their mean (equations 3 and 6).

    Args:
        normative: (K, N, C, H, W), the reconstructions of the NDM's members.
        sigma: (N, C, H, W), positive: σ of equation 6.
    """
    spread = normative.std(dim=0, correction=0)
    return spread if sigma is None else spread / sigma


def inter_discrepancy(normative: Tensor, unknown: Tensor, sigma: Tensor | None = None) -> Tensor:
    """A_inter: the distance between the mean reconstructions of NDM and UDM (equations 4 and 7).

    Args:
        normative: (K, N, C, H, W), the reconstructions of the NDM's members.
        unknown: (K', N, C, H, W), the reconstructions of the UDM's members.
        sigma: (N, C, H, W), positive: σ of equation 7.
    """
    distance = (normative.mean(dim=0) - unknown.mean(dim=0)).abs()
    return distance if sigma is None else distance / sigma


def ensemble_sigma(log_variances: Tensor) -> Tensor:
    """σ of equations 6 and 7: the root of the variance averaged over the NDM's members.

    Args:
        log_variances: (K, N, C, H, W), log σ² as AE-U predicts it.
    """
    return torch.exp(log_variances).mean(dim=0).sqrt()


def image_score(score_map: Tensor) -> Tensor:
    """Average the pixels of each map, (N, C, H, W) to (N,): the image-level score (section 3.3)."""
    return score_map.flatten(1).mean(dim=1)
