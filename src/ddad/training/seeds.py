"""Random streams: one for each purpose, derived from the recipe's seed, so that any step can be replayed."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed that belongs to `purpose` alone, e.g. `derived_seed(0, "ndm", 2, "epoch", 7)`."""
    keys = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in purpose]
    return int(np.random.SeedSequence([seed, *keys]).generate_state(1, np.uint64)[0] >> 1)


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator that belongs to `purpose` alone."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))
