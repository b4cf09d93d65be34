"""The contract that DDAD and every rival keep, and that experiments and saved models rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
        size = block_size(self.recipe.images.image_size)
        blocks = []
        for network in self.modules().values():
            compute.place(network.eval())
        with torch.inference_mode():
            for start in range(0, len(images), size):
                block = images[start : start + size]
                filled = functional.pad(block, (0, 0, 0, 0, 0, 0, 0, size - len(block)))
                scored = self._score_block(compute.send(filled), compute)
                blocks.append(_head(scored, len(block)))
        return Scored(
            scores={name: torch.cat([b.scores[name] for b in blocks]) for name in blocks[0].scores},
            maps={name: torch.cat([b.maps[name] for b in blocks]) for name in blocks[0].maps},
        )

    @abstractmethod
    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        """Score one block of images that already are on the device."""

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


def _head(scored: Scored, count: int) -> Scored:
    return Scored(
        scores={name: values[:count].cpu() for name, values in scored.scores.items()},
        maps={name: values[:count].cpu() for name, values in scored.maps.items()},
    )
