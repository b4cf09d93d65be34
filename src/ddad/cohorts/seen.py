"""Which images a model has learned from: copies of those, other slices of their files, and what belongs to them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ddad.cohorts.cohort import Cohort
from ddad.images import Address
from ddad.progress import Progress


@dataclass(frozen=True)
class Seen:
    """Which of some images are not new to a model; an image counts in the first that holds.

    Attributes:
        copies: (N,), exact copies of images of the fit.
        slices: (N,), other slices of files of the fit.
        related: (N,), others in a group (patient) of which an image is one of these.
    """

    copies: NDArray[np.bool_]
    slices: NDArray[np.bool_]
    related: NDArray[np.bool_]

    @property
    def any(self) -> NDArray[np.bool_]:
        """Whether an image is not new, for whatever reason."""
        return self.copies | self.slices | self.related

    def counted(self) -> str:
        """Count each kind that there is, in words."""
        kinds = {
            "exact copies of images that the model was fitted on": self.copies,
            "other slices of files that it was fitted on": self.slices,
            "in a group (patient) with such images": self.related,
        }
        return ", ".join(f"{int(found.sum())} {words}" for words, found in kinds.items() if found.any())


def seen_in_fit(
    cohort: Cohort, table: pd.DataFrame, digests: Collection[str], progress: Progress | None = None
) -> Seen:
    """Tell which rows of a cohort's table a model has learned from.

    Patients are not recognised by what the model keeps, which says nothing of them; only where one of a patient's
    images is recognised, the cohort tells which others belong to it.

    Args:
        cohort: the images' cohort.
        table: some of its rows.
        digests: `cohort.digests` of a model card. Cards of earlier versions have none of files with several images:
            other slices of these are not recognised.
        progress: told of each file that is read.
    """
    known, paths = set(digests), table["path"].tolist()
    files = [Address.parse(path).container for path in paths]
    copies, slices = (
        np.array([digest in known for digest in cohort.short_digests(named, progress)], bool)
        for named in (paths, files)
    )
    slices &= ~copies
    torn = set(table["group"][copies | slices])
    related = table["group"].isin(torn).to_numpy(bool) & ~copies & ~slices
    return Seen(copies, slices, related)
