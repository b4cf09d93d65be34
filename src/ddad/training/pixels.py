"""Training images: one or several memory-mapped arrays, read a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddad.files import let_go


class ImagePool:
    """Several arrays of images, (N, C, S, S) float32 in [-1, 1], addressed as one without joining them.

    Args:
        arrays: the images.
        chosen: places, counted over all arrays, of the images that belong to the pool; None for all.
    """

    def __init__(self, arrays: Sequence[NDArray[np.float32]], chosen: NDArray[np.int64] | None = None) -> None:
        self.arrays = list(arrays)
        self._ends = np.cumsum([len(array) for array in self.arrays])
        total = int(self._ends[-1]) if self.arrays else 0
        self._chosen = np.arange(total) if chosen is None else chosen

    @classmethod
    def open(cls, paths: Sequence[str | Path]) -> ImagePool:
        """Memory-map `.npy` files."""
        return cls([np.load(path, mmap_mode="r", allow_pickle=False) for path in paths])

    def __len__(self) -> int:
        return len(self._chosen)

    def __add__(self, other: ImagePool) -> ImagePool:
        total = sum(len(array) for array in self.arrays)
        return ImagePool([*self.arrays, *other.arrays], np.concatenate([self._chosen, other._chosen + total]))

    def subset(self, indices: Sequence[int]) -> ImagePool:
        """Return the pool of some of its images, in the order of `indices`."""
        return ImagePool(self.arrays, self._chosen[np.asarray(indices, dtype=np.int64)])

    def repeated(self, times: int) -> ImagePool:
        """Return the pool in which every image comes `times` as often."""
        return ImagePool(self.arrays, np.tile(self._chosen, times))

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """Copy the images at `indices` into a new tensor (len(indices), C, S, S), in that order."""
        images = np.empty((len(indices), *self.arrays[0].shape[1:]), np.float32)
        places = self._chosen[indices]
        sources = np.searchsorted(self._ends, places, side="right")
        for number, array in enumerate(self.arrays):
            here = np.flatnonzero(sources == number)
            start = self._ends[number] - len(array)
            images[here] = array[places[here] - start]
            let_go(array)
        return torch.from_numpy(images)
