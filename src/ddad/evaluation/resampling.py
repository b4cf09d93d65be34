"""Bootstrap resamples of test images: groups (patients) are drawn with replacement, each with all its images.

Slices of one patient are no independent images: drawn one by one, they give intervals that are several times too
narrow. So whole clusters are drawn (Rutter 2000, "Bootstrap estimation of diagnostic accuracy with patient-clustered
data"). Groups with normal images alone, with abnormal ones alone and with both are drawn apart from each other; a kind
of one group, which would never vary, is drawn with another. A resample in which a class has vanished is drawn again.
Where each image is a group of its own, normals and abnormals are drawn apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ddad.errors import CohortError

_CELLS_PER_CHUNK = 2_000_000
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Resamples:
    """How often each group of images is drawn in each resample.

    Attributes:
        abnormal: (N,), whether an image is abnormal.
        members: (N,), the number of its group, from 0.
        times: (resamples + 1, groups), how often a group is drawn; each once in the first row, the images themselves.
    """

    abnormal: npt.NDArray[np.bool_]
    members: npt.NDArray[np.int64]
    times: npt.NDArray[np.int16]

    @classmethod
    def draw(cls, labels: npt.ArrayLike, groups: npt.ArrayLike | None, resamples: int, seed: int) -> Self:
        """Draw as many groups of each kind as there are.

        Args:
            labels: (N,), 0 for a normal image, 1 for an abnormal one.
            groups: (N,), names or numbers of the images' groups; None where each image is a group of its own.
            resamples: how many.
            seed: of the drawing.

        Raises:
            CohortError: there is not one group an image.
        """
        abnormal = np.asarray(labels).astype(bool)
        members = group_numbers(groups, len(abnormal))
        count = int(members.max()) + 1
        has_normal, has_abnormal = (
            np.bincount(members, weights=side, minlength=count) > 0 for side in (~abnormal, abnormal)
        )
        times = np.ones((resamples + 1, count), np.int16)
        rng = np.random.default_rng(seed)
        undrawn = np.arange(1, resamples + 1)
        while len(undrawn):
            for kind in _drawn_together(has_normal, has_abnormal):
                size = int(kind.sum())
                for rows in _blocks(0, len(undrawn), size):
                    drawn = rng.multinomial(size, np.full(size, 1 / size), size=len(undrawn[rows]))
                    times[np.ix_(undrawn[rows], kind)] = drawn
            # A class can be missing only where kinds are drawn together.
            lacks = [~times[np.ix_(undrawn, side)].any(axis=1) for side in (has_normal, has_abnormal) if side.any()]
            undrawn = undrawn[np.any(lacks, axis=0)]
        return cls(abnormal, members, times)

    def counts(self, scores: npt.NDArray[np.float64]) -> Iterator[tuple[Counts, Counts]]:
        """Yield, for block after block of resamples, how often normals and abnormals have each score.

        Args:
            scores: (N,), finite.

        Yields:
            Two arrays (rows, levels), from the lowest score to the highest; images with equal scores share a level.
        """
        order = np.argsort(scores, kind="stable")
        ordered, members, abnormal = scores[order], self.members[order], self.abnormal[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        for rows in _blocks(0, len(self.times), len(order)):
            weights = self.times[rows, members]
            normal, positive = (
                np.add.reduceat(weights * side, starts, axis=1, dtype=np.int64) for side in (~abnormal, abnormal)
            )
            yield normal, positive


def _drawn_together(
    has_normal: npt.NDArray[np.bool_], has_abnormal: npt.NDArray[np.bool_]
) -> list[npt.NDArray[np.bool_]]:
    """Divide groups by the kinds of images they have; a kind of one group joins one that it shares a class with.

    Drawn by itself, a single group would be the same in every resample.
    """
    both = has_normal & has_abnormal
    of_one = [has_normal & ~has_abnormal, has_abnormal & ~has_normal]
    if not both.any():
        return [kind for kind in of_one if kind.any()]
    for kind in of_one:
        if kind.sum() == 1:
            both = both | kind
    apart = [kind for kind in of_one if kind.sum() > 1]
    if both.sum() == 1 and apart:
        return [*apart[:-1], apart[-1] | both]
    return [*apart, both]


def group_numbers(groups: npt.ArrayLike | None, count: int) -> npt.NDArray[np.int64]:
    """Number the groups of `count` images from 0, each image its own where there are none.

    Raises:
        CohortError: there is not one group an image.
    """
    if groups is None:
        return np.arange(count)
    names = np.asarray(groups)
    if names.shape != (count,):
        raise CohortError(f"{count} labels, but groups of shape {names.shape}; give one group an image.")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _blocks(first: int, last: int, cells: int) -> Iterator[slice]:
    """Cut rows of so many cells into blocks that fit into memory."""
    rows = max(1, _CELLS_PER_CHUNK // cells)
    for start in range(first, last, rows):
        yield slice(start, min(start + rows, last))
