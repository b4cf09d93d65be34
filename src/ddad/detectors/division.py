"""How DDAD+ divides the images that it learns from: folds for its classifiers, and a part to find the weights on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddad.cohorts.held_out import groups_with_copies
from ddad.cohorts.near_copies import small_images
from ddad.cohorts.split import even_group_folds, group_folds, hold_out, hold_out_groups
from ddad.evaluation.suspicion import LEAST_GROUPS
from ddad.networks.fusion import LEAST_TO_WEIGH
from ddad.recipe import Recipe
from ddad.training.pixels import ImagePool

_GROUPS_FOR_A_FOLD = 10

Places = NDArray[np.int64]
"""Which of the images, by their place in a pool."""


@dataclass(frozen=True)
class Division:
    """The images that are learned from, and how they are divided.

    Attributes:
        sources: `.npy` files of normal, unlabeled and, if there are any, known abnormal images.
        images: of all files, N.
        source: (N,) number of the file of each image.
        groups: (N,) number of its group of near copies.
        folds: (N,) number of the fold that its classifier is trained without; empty if there are too few groups.
        kept: places of the normal and unlabeled images that DDAD is fitted on.
        held: places of those that the weights are found on.
    """

    sources: Sequence[Path]
    images: ImagePool
    source: Places
    groups: Places
    folds: Places
    kept: Places
    held: Places

    @classmethod
    def of(cls, sources: Sequence[Path], recipe: Recipe, given: Mapping[Path, Sequence[str]]) -> Division:
        """Divide images by the recipe's seed and its section `fusion`; groups and near copies stay together.

        Images are spread evenly. Where a large group leaves a part too little, groups are, whatever their size.

        Args:
            sources: `.npy` files of normal, unlabeled and, if there are any, known abnormal images.
            recipe: settings.
            given: by file, the group of each image, such as the patient; images of other files stand alone.
        """
        images = ImagePool.open(sources)
        source = np.repeat(range(len(sources)), [len(array) for array in images.arrays])
        names: list[str] = []
        for path, array in zip(sources, images.arrays, strict=True):
            names += given.get(path) or [f"{path.name}#{place}" for place in range(len(array))]
        # Named for its first image, a group is drawn into the same part wherever the files lie.
        _, first, member = np.unique(names, return_index=True, return_inverse=True)
        joined = groups_with_copies(small_images(images.arrays), [str(place) for place in first[member]])
        groups = np.unique(joined, return_inverse=True)[1]
        division = cls(sources, images, source, groups, *_parts(groups, source, recipe, group_folds, hold_out))
        if division.is_large_enough:
            return division
        return cls(sources, images, source, groups, *_parts(groups, source, recipe, even_group_folds, hold_out_groups))

    @property
    def is_large_enough(self) -> bool:
        """Whether every part has enough images of both kinds to say something."""
        if not len(self.folds):
            return False
        in_folds = [
            len(np.unique(self.groups[(self.folds == fold) & (self.source == kind)]))
            for fold in self.fold_numbers
            for kind in (0, 1)
        ]
        in_parts = [len(self.within(part, kind)) for part in (self.kept, self.held) for kind in (0, 1)]
        return min(in_folds) >= LEAST_GROUPS and min(in_parts) >= LEAST_TO_WEIGH

    @property
    def fold_numbers(self) -> range:
        """The numbers of the folds, from 0."""
        return range(int(self.folds.max()) + 1)

    def within(self, places: Places, number: int) -> Places:
        """Return those of the places that lie in file `number`, counted within it."""
        here: Places = places[self.source[places] == number] - int(np.searchsorted(self.source, number))
        return here


def _parts(
    groups: Places,
    source: Places,
    recipe: Recipe,
    folds_of: Callable[[Places, NDArray[np.bool_], int, int], Places],
    held_of: Callable[[Sequence[str], float, int], tuple[Places, Places]],
) -> tuple[Places, Places, Places]:
    """Return the fold of each image, and which are kept and which held."""
    least = min(len(np.unique(groups[source == kind])) for kind in (0, 1))
    count = min(recipe.fusion.folds, least // _GROUPS_FOR_A_FOLD)
    folds = folds_of(groups, source > 0, count, recipe.seed) if count > 1 else np.empty(0, np.int64)
    known = np.flatnonzero(source < 2)
    kept, held = held_of([str(group) for group in groups[known]], recipe.fusion.holdout, recipe.seed)
    return folds, known[kept], known[held]
