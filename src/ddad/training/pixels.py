"""Training images: one or several memory-mapped arrays, read a batch at a time, or kept in a GPU's memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddad.files import let_go
from ddad.training.device import Compute

_SHARE_OF_A_GPU = 0.25
_COPIED_AT_ONCE = 1024


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
        self._copy: Tensor | None = None

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

    def near(self, compute: Compute) -> ImagePool:
        """Return the pool with its images where they are learned from: in a GPU's memory, if they leave room there.

        What is made of it afterwards (`subset`, `+`, `repeated`) reads the arrays again.
        """
        if compute.device != "cuda":
            return self
        free, _ = torch.cuda.mem_get_info()
        if sum(array.nbytes for array in self.arrays) > _SHARE_OF_A_GPU * free:
            return self
        return self.copied_to(compute.device)

    def copied_to(self, device: str) -> ImagePool:
        """Return the pool with all images in the memory of a device, where its batches will be."""
        pool = ImagePool(self.arrays, self._chosen)
        pool._copy = torch.empty(sum(map(len, self.arrays)), *self.arrays[0].shape[1:], device=device)
        start = 0
        for array in self.arrays:
            for first in range(0, len(array), _COPIED_AT_ONCE):
                part = torch.from_numpy(np.array(array[first : first + _COPIED_AT_ONCE]))
                pool._copy[start : start + len(part)] = part
                start += len(part)
            let_go(array)
        return pool

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """Copy the images at `indices` into a new tensor (len(indices), C, S, S), in that order."""
        if self._copy is not None:
            return self._copy[torch.from_numpy(self._chosen[indices]).to(self._copy.device, non_blocking=True)]
        images = np.empty((len(indices), *self.arrays[0].shape[1:]), np.float32)
        places = self._chosen[indices]
        sources = np.searchsorted(self._ends, places, side="right")
        for number, array in enumerate(self.arrays):
            here = np.flatnonzero(sources == number)
            start = self._ends[number] - len(array)
            images[here] = array[places[here] - start]
            let_go(array)
        return torch.from_numpy(images)
