"""Training images: one or several memory-mapped arrays, read a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ImagePool:
    """Several arrays of images, (N, C, S, S) float32 in [-1, 1], addressed as one without joining them."""

    def __init__(self, arrays: Sequence[NDArray[np.float32]]) -> None:
        self.arrays = list(arrays)
        self._ends = np.cumsum([len(array) for array in self.arrays])

    @classmethod
    def open(cls, paths: Sequence[str | Path]) -> ImagePool:
        """Memory-map `.npy` files."""
        return cls([np.load(path, mmap_mode="r", allow_pickle=False) for path in paths])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.arrays else 0

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """Copy the images at `indices` into a new tensor (len(indices), C, S, S), in that order."""
        images = np.empty((len(indices), *self.arrays[0].shape[1:]), np.float32)
        sources = np.searchsorted(self._ends, indices, side="right")
        for number, array in enumerate(self.arrays):
            here = np.flatnonzero(sources == number)
            start = self._ends[number] - len(array)
            images[here] = array[indices[here] - start]
        return torch.from_numpy(images)
