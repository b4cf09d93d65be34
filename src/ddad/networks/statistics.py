"""What is usual at each pixel of maps of normal images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def pixel_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over all images of batches of maps (N, kinds, H, W), at each pixel.

    A batch at a time is in memory (Chan et al. 1983). More than one image in all.

    Returns:
        Both (kinds, H, W), float32.
    """
    count = 0
    mean = squares = torch.zeros(())
    for batch in batches:
        own = batch.double()
        own_mean, total = own.mean(dim=0), count + len(own)
        apart = own_mean - mean
        squares = squares + ((own - own_mean) ** 2).sum(dim=0) + apart**2 * (count * len(own) / total)
        mean, count = mean + apart * (len(own) / total), total
    return mean.float(), (squares / (count - 1)).sqrt().float()
