"""The contract that DDAD and every rival keep, and that experiments and saved models rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddad.errors import ModelError
from ddad.progress import Progress, SilentProgress
from ddad.recipe import Recipe
from ddad.training.device import Compute

Curves = dict[str, list[float]]


@dataclass(frozen=True)
class FitContext:
    """Where and with what a detector is fitted.

    Attributes:
        workspace: folder for unfinished work; a fit that finds its own work there goes on.
        compute: device and precision.
        workers: processes that may train side by side.
        progress: told what is being fitted.
        abnormal: `.npy` file of a few images known to be abnormal, for a detector that `takes_abnormal`.
    """

    workspace: Path
    compute: Compute
    workers: int = 1
    progress: Progress = field(default_factory=SilentProgress)
    abnormal: Path | None = None


@dataclass(frozen=True)
class Scored:
    """What a detector says of N images.

    Attributes:
        scores: by name, (N,): higher is more anomalous; each belongs to its image alone.
        maps: by name, (N, S, S): the same for every pixel of the network's input.
    """

    scores: dict[str, Tensor]
    maps: dict[str, Tensor]


class Detector(ABC):
    """Learns from normal and unlabeled images; gives every image scores and maps."""

    name: ClassVar[str]
    needs_unlabeled: ClassVar[bool] = False
    takes_abnormal: ClassVar[bool] = False

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @property
    @abstractmethod
    def primary_score(self) -> str:
        """Name of the score that stands for this detector once it is fitted."""

    @abstractmethod
    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Learn from `.npy` files of images, (N, C, S, S) float32 in [-1, 1].

        Args:
            normal: known normal images, D_n.
            unlabeled: unlabeled images, D_u, or None where there are none.
            context: workspace, device, workers and progress.

        Returns:
            Training curves by name, one value an epoch.
        """

    def score(self, images: Tensor, compute: Compute) -> Scored:
        """Score images (N, C, S, S) in [-1, 1].

        The work is done in blocks of one shape, the last one filled up with zeros, so that a score does not
        depend on how many images are scored together: libraries choose another arithmetic for other shapes.
        """
        blocks = [(self._score_block(block, compute), count) for block, count in self._blocks(images, compute)]
        return Scored(
            scores=_joined([(scored.scores, count) for scored, count in blocks]),
            maps=_joined([(scored.maps, count) for scored, count in blocks]),
        )

    def image_scores(self, images: Tensor, compute: Compute) -> dict[str, Tensor]:
        """Return the scores of `score`, the same to the last bit, without the maps: they may cost less."""
        blocks = self._blocks(images, compute)
        return _joined([(self._block_scores(block, compute), count) for block, count in blocks])

    def _blocks(self, images: Tensor, compute: Compute) -> Iterator[tuple[Tensor, int]]:
        """Yield blocks of one shape on the device, and how many images each holds before it was filled up."""
        size = block_size(self.recipe.images.image_size)
        for network in self.modules().values():
            compute.place(network.eval())
        with torch.inference_mode():
            for start in range(0, len(images), size):
                block = images[start : start + size]
                filled = functional.pad(block, (0, 0, 0, 0, 0, 0, 0, size - len(block)))
                yield compute.send(filled), len(block)

    @abstractmethod
    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        """Score one block of images that already are on the device."""

    def _block_scores(self, images: Tensor, compute: Compute) -> dict[str, Tensor]:
        """Return the scores alone; to be overridden where maps cost more."""
        return self._score_block(images, compute).scores

    @abstractmethod
    def modules(self) -> Mapping[str, nn.Module]:
        """Return every fitted network by the name that its tensors carry."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything learned, as named tensors."""
        return {
            f"{part}.{name}": tensor
            for part, network in self.modules().items()
            for name, tensor in network.state_dict().items()
        }

    @abstractmethod
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ModelError: names or shapes do not fit the recipe.
        """

    def _load_modules(self, tensors: Mapping[str, Tensor]) -> None:
        for part, network in self.modules().items():
            own = {
                name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")
            }
            try:
                network.load_state_dict(own)
            except RuntimeError as error:
                raise ModelError(f"weights of {part}: they do not fit the recipe. {error}") from error


def block_size(image_size: int) -> int:
    """Return how many images are scored at once: 32 at 64x64, fewer when they are larger."""
    return max(1, 32 * 64 * 64 // (image_size * image_size))


def _joined(blocks: Sequence[tuple[Mapping[str, Tensor], int]]) -> dict[str, Tensor]:
    """Join the blocks' values by name, without what stands for no image."""
    return {name: torch.cat([values[name][:count].cpu() for values, count in blocks]) for name in blocks[0][0]}
