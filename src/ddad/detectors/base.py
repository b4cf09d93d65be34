"""The contract that DDAD and every rival keep, and that experiments and saved models rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ddad.errors import ModelError
from ddad.progress import Progress, SilentProgress
from ddad.recipe import Recipe
from ddad.recipe_sections import MEMORY_FIELDS
from ddad.training.device import Compute
from ddad.training.side_by_side import side_by_side

Curves = dict[str, list[float]]


@dataclass(frozen=True)
class FitContext:
    """Where and with what a detector is fitted.

    Attributes:
        workspace: folder for unfinished work; a fit that finds its own work there goes on.
        compute: device and precision.
        workers: processes that may train side by side on processor cores.
        progress: told what is being fitted.
        abnormal: `.npy` file of a few images known to be abnormal, for a detector that `takes_abnormal`.
        groups: by `.npy` file, the group of each image in it, such as the patient: a detector that divides images keeps
            groups together. A file that is not named has images that each stand alone.
    """

    workspace: Path
    compute: Compute
    workers: int = 1
    progress: Progress = field(default_factory=SilentProgress)
    abnormal: Path | None = None
    groups: Mapping[Path, Sequence[str]] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """How many processes jobs are given: none on a GPU, where they run in this one."""
        return 0 if self.compute.device == "cuda" else self.workers


@dataclass(frozen=True)
class Scored:
    """What a detector says of N images.

    Attributes:
        scores: by name, (N,): higher is more anomalous; each belongs to its image alone.
        maps: by name, (N, S, S): the same for every pixel of the network's input.
    """

    scores: dict[str, Tensor]
    maps: dict[str, Tensor]

    def images(self) -> Iterator[tuple[dict[str, float], dict[str, NDArray[np.float32]]]]:
        """Yield the scores and maps of one image after another."""
        for index in range(len(next(iter(self.scores.values())))):
            yield (
                {name: float(values[index]) for name, values in self.scores.items()},
                {name: score_map[index].numpy() for name, score_map in self.maps.items()},
            )


class Detector(ABC):
    """Learns from normal and unlabeled images; gives every image scores and maps."""

    name: ClassVar[str]
    needs_unlabeled: ClassVar[bool] = False
    """Whether it cannot be fitted without unlabeled images."""
    sees_unlabeled: ClassVar[bool] = False
    """Whether unlabeled images have part in its one score."""
    takes_abnormal: ClassVar[bool] = False
    is_spread_alone: ClassVar[bool] = False
    """Whether its score without unlabeled images is the spread of an ensemble, which one network has not."""
    sections: ClassVar[tuple[str, ...]]
    """Sections of the recipe that it reads, beside `images`."""
    abnormal_unused: str = ""
    """Why the fit left the known abnormal images unused; empty if it learned from them, or had none."""
    unread: ClassVar[tuple[str, ...]] = ()
    """Fields of these sections, dotted, that it does not read all the same, whatever the backbone."""

    @classmethod
    def unread_with(cls, backbone: str) -> tuple[str, ...]:
        """Return the fields of its sections, dotted, that it does not read where the recipe names this backbone."""
        chooses = "reconstruction.backbone" not in cls.unread
        return (*cls.unread, *MEMORY_FIELDS) if chooses and backbone != "memae" else cls.unread

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
        return self._scored(images, compute, maps=True)

    def image_scores(self, images: Tensor, compute: Compute) -> dict[str, Tensor]:
        """Return the scores of `score`, the same to the last bit, without the maps: they may cost less."""
        return self._scored(images, compute, maps=False).scores

    def _scored(self, images: Tensor, compute: Compute, *, maps: bool) -> Scored:
        size = block_size(self.recipe.images.image_size)
        blocks = [images[start : start + size] for start in range(0, len(images), size)]
        scored = list(side_by_side(self.block_scorer(compute, maps=maps), blocks, compute))
        return Scored(_joined([block.scores for block in scored]), _joined([block.maps for block in scored]))

    def block_scorer(self, compute: Compute, *, maps: bool) -> Callable[[Tensor], Scored]:
        """Return a function that scores up to `block_size` images and may be called by several threads at once.

        What it returns lies on the CPU; without `maps`, it has none.
        """
        size = block_size(self.recipe.images.image_size)
        for network in self.modules().values():
            compute.place(network.eval())

        def score(images: Tensor) -> Scored:
            filled = compute.send(functional.pad(images, (0, 0, 0, 0, 0, 0, 0, size - len(images))))
            with compute.inference():
                scored = self._score_block(filled, compute) if maps else Scored(self._block_scores(filled, compute), {})
            return Scored(_first(scored.scores, len(images)), _first(scored.maps, len(images)))

        return score

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


def _first(values: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    return {name: tensor[:count].cpu() for name, tensor in values.items()}


def _joined(blocks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([values[name] for values in blocks]) for name in blocks[0]}
