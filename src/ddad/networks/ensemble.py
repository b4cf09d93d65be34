"""K reconstruction networks as one: the NDM or the UDM of section 3.2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ddad import discrepancy
from ddad.networks.autoencoder import Autoencoder
from ddad.networks.streams import together


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
        outputs = together([partial(member, images) for member in self.members], images.device.type)
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
    modules = [ndm] if udm is None else [ndm, udm]
    (normative, log_variances), *unknown = together([partial(module, images) for module in modules], images.device.type)
    sigma = single_sigma = None
    if log_variances is not None:
        sigma = discrepancy.ensemble_sigma(log_variances)
        single_sigma = torch.exp(log_variances[0] / 2)
    maps = {
        "rec": discrepancy.reconstruction_error(images, normative[0], single_sigma),
        "rec_ensemble": discrepancy.reconstruction_error(images, normative.mean(dim=0), sigma),
        "a_intra": discrepancy.intra_discrepancy(normative, sigma),
    }
    for reconstructions, _ in unknown:
        maps["a_inter"] = discrepancy.inter_discrepancy(normative, reconstructions, sigma)
    return {name: score_map.mean(dim=1) for name, score_map in maps.items()}
