"""Which images a model has learned from: copies of those, other slices of their files, and what belongs to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ddad.cohorts.cohort import Cohort
from ddad.images import Address
from ddad.progress import Progress
from ddad.wording import counted


@dataclass(frozen=True)
class Seen:
    """Which of some images are not new to a model; an image counts in the first that holds.

    Attributes:
        copies: (N,), exact copies of files of the fit.
        resaved: (N,), other files that show the same, mirrored or not.
        slices: (N,), other slices of files of the fit.
        related: (N,), others in a group (patient) of which an image is one of these.
    """

    copies: NDArray[np.bool_]
    resaved: NDArray[np.bool_]
    slices: NDArray[np.bool_]
    related: NDArray[np.bool_]

    @property
    def any(self) -> NDArray[np.bool_]:
        """Whether an image is not new, for whatever reason."""
        return self.copies | self.resaved | self.slices | self.related

    def counted(self) -> str:
        """Count each kind that there is, in words."""
        kinds = (
            (
                self.copies,
                "exact copy of an image that the model was fitted on",
                "exact copies of images that the model was fitted on",
            ),
            (
                self.resaved,
                "that shows the same as one of the fit, saved anew or mirrored",
                "that show the same as one of the fit, saved anew or mirrored",
            ),
            (self.slices, "other slice of a file that it was fitted on", "other slices of files that it was fitted on"),
            (self.related, "in a group (patient) with such images", "in a group (patient) with such images"),
        )
        return ", ".join(counted(int(found.sum()), one, several) for found, one, several in kinds if found.any())


def seen_in_fit(
    cohort: Cohort,
    table: pd.DataFrame,
    learned: Mapping[str, Any],
    pixel_digests: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Seen:
    """Tell which rows of a cohort's table a model has learned from.

    Patients are not recognised by what the model keeps, which says nothing of them; only where one of a patient's
    images is recognised, the cohort tells which others belong to it.

    Args:
        cohort: the images' cohort.
        table: some of its rows.
        learned: `cohort` of a model card. Cards of earlier versions have no digests of files with several images, whose
            other slices are then not recognised, or none of pixels.
        pixel_digests: what `pixel_digest` says of images, by path; of others the files are compared alone.
        progress: told of each file that is read.
    """
    files, looks = set(learned.get("digests", ())), set(learned.get("pixel_digests", ()))
    paths = table["path"].tolist()
    containers = [Address.parse(path).container for path in paths]
    copies, slices = (
        np.array([digest in files for digest in cohort.short_digests(named, progress)], bool)
        for named in (paths, containers)
    )
    look_of = pixel_digests or {}
    resaved = np.array([look_of.get(path) in looks for path in paths], bool) & ~copies
    slices &= ~copies & ~resaved
    torn = set(table["group"][copies | resaved | slices])
    related = table["group"].isin(torn).to_numpy(bool) & ~copies & ~resaved & ~slices
    return Seen(copies, resaved, slices, related)


def pixel_digest(image: NDArray[np.float32]) -> str:
    """Return 16 hexadecimal digits for what a network sees of an image, (C, S, S) in [-1, 1], coarsely.

    That is its means over 16x16 cells, in 16 levels: the grey values of a copy in colour, or mirrored, are rounded
    otherwise, and the finer the levels, the more of them lie where that tells. An image and its mirror image have the
    same.
    """
    cells = functional.adaptive_avg_pool2d(torch.from_numpy(np.array(image)), 16).numpy()
    levels = np.rint((cells + 1) * 7.5).astype(np.uint8)
    return min(hashlib.sha256(side.tobytes()).hexdigest() for side in (levels, levels[..., ::-1]))[:16]


def pixel_digests(arrays: Iterable[NDArray[np.float32]]) -> list[str]:
    """Return the digests of all images of several arrays, (N, C, S, S), sorted, each once."""
    return sorted({pixel_digest(image) for array in arrays for image in array})
