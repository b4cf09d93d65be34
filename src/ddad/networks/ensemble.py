"""K reconstruction networks as one: the NDM or the UDM of section 3.2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddad import discrepancy
from ddad.networks.autoencoder import Autoencoder


class Ensemble(nn.Module):
    """Members of one architecture, each trained apart."""

    def __init__(self, members: Sequence[Autoencoder]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reconstruct `images`, (N, C, S, S) in [-1, 1], with every member.

        Returns:
            Reconstructions (K, N, C, S, S), and log σ² of the same shape or None without uncertainty.
        """
        outputs = [member(images) for member in self.members]
        reconstructions = torch.stack([reconstruction for reconstruction, _ in outputs])
        log_variances = [log_variance for _, log_variance in outputs if log_variance is not None]
        return reconstructions, torch.stack(log_variances) if log_variances else None


def discrepancy_maps(ndm: Ensemble, udm: Ensemble | None, images: Tensor) -> dict[str, Tensor]:
    """Compute the unrefined score maps of Table 3, (N, H, W) each, averaged over the channels of colour images.

    Args:
        ndm: normative distribution module.
        udm: unknown distribution module; without it there is no `a_inter`.
        images: (N, C, H, W) in [-1, 1].
    """
    normative, log_variances = ndm(images)
    sigma = single_sigma = None
    if log_variances is not None:
        sigma = discrepancy.ensemble_sigma(log_variances)
        single_sigma = torch.exp(log_variances[0] / 2)
    maps = {
        "rec": discrepancy.reconstruction_error(images, normative[0], single_sigma),
        "rec_ensemble": discrepancy.reconstruction_error(images, normative.mean(dim=0), sigma),
        "a_intra": discrepancy.intra_discrepancy(normative, sigma),
    }
    if udm is not None:
        unknown, _ = udm(images)
        maps["a_inter"] = discrepancy.inter_discrepancy(normative, unknown, sigma)
    return {name: score_map.mean(dim=1) for name, score_map in maps.items()}
