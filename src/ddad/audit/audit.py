"""`audit_cohort`: look once at every image, and say what would fool a detector."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddad.audit.copies import CopyCount, CopyPairs, count_copies, find_copies, images_with_copy
from ddad.audit.look import Look, look_at
from ddad.audit.shortcuts import Memorisation, Shortcut, find_shortcuts, measure_memorisation
from ddad.cohorts import Cohort, Role, SkippedImage
from ddad.cohorts.near_copies import Indices, joined_groups
from ddad.errors import BlankSliceError, CohortError, ImageError
from ddad.machine import processor_cores
from ddad.progress import Progress, listener
from ddad.wording import counted

PARTS = ("normal", "unlabeled", "abnormal", "test normal", "test abnormal", "test of unknown label")
"""Parts of a cohort, in the order in which they are reported."""

_EXAMPLES = 10
_ALIKE = 0.5
_FEWEST_ALIKE = 10


@dataclass(frozen=True)
class Audit:
    """What was found in a cohort. Images are numbered in its order, without those that could not be read.

    Attributes:
        name: of the cohort.
        paths: (N,) the images.
        parts: (N,) the part of each, one of `PARTS`.
        features: (N rows) the trivial features.
        groups: (N,) numbers of what belongs together: copies, and groups of the cohort such as patients.
        skipped: images that could not be read, and blank slices of volumes.
        pairs: copies of one another.
        copies: how many images of each part have a copy in each.
        conflicts: indices into `pairs`: one image known to be normal, the other abnormal.
        torn_groups: how many groups of copies lie in both training and test.
        torn_patients: how many groups of the cohort, such as patients, do.
        torn_examples: of the first of these, a training and a test image each.
        mixed_groups: how many groups of the cohort, such as patients, are in both the normal and the unlabeled images.
        mixed_examples: of the first of these, a normal and an unlabeled image each.
        shortcuts: trivial features and how well they separate.
        memorisation: what remembering the training normals is worth.
        notes: what was noted while the cohort was read; and whether its images are too alike to tell copies.
    """

    name: str
    paths: list[str]
    parts: list[str]
    features: pd.DataFrame
    groups: Indices
    skipped: list[SkippedImage]
    pairs: CopyPairs
    copies: list[CopyCount]
    conflicts: Indices
    torn_groups: int
    torn_patients: int
    torn_examples: list[tuple[str, str]]
    mixed_groups: int
    mixed_examples: list[tuple[str, str]]
    shortcuts: list[Shortcut]
    memorisation: Memorisation | None
    notes: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether a test image has a copy or its patient in training, or copies have contradicting labels."""
        return bool(self.torn_patients or len(self.conflicts)) or self.tests_have_copies

    @property
    def tests_have_copies(self) -> bool:
        """Whether a test image has a copy in training."""
        return any(
            count.near and count.first.startswith("test") and not count.second.startswith("test")
            for count in self.copies
        )

    @property
    def has_shortcuts(self) -> bool:
        """Whether a trivial feature, or all together, separate two groups strongly."""
        return any(shortcut.strong for shortcut in self.shortcuts)

    def to_json(self) -> dict[str, Any]:
        """Return what was found as plain values."""
        return {
            "cohort": self.name,
            "images": {part: self.parts.count(part) for part in PARTS if part in self.parts},
            "copies": [count.to_json() for count in self.copies],
            "label_conflicts": {
                "count": len(self.conflicts),
                "examples": [
                    [self.paths[self.pairs.first[index]], self.paths[self.pairs.second[index]]]
                    for index in self.conflicts[:_EXAMPLES]
                ],
            },
            "groups": {
                "copies_in_training_and_test": self.torn_groups,
                "patients_in_training_and_test": self.torn_patients,
                "patients_examples": self.torn_examples,
                "normal_and_unlabeled": self.mixed_groups,
                "normal_and_unlabeled_examples": self.mixed_examples,
            },
            "shortcuts": [shortcut.to_json() for shortcut in self.shortcuts],
            "memorisation": None if self.memorisation is None else self.memorisation.to_json(),
            "found": {"copies": self.leaks, "shortcuts": self.has_shortcuts},
            "skipped": [[str(image.path), image.reason] for image in self.skipped],
            "warnings": list(self.notes),
        }


def audit_cohort(cohort: Cohort, *, workers: int | None = None, progress: Progress | None = None) -> Audit:
    """Look at every image of a cohort once and compare all of them.

    Args:
        cohort: the images.
        workers: threads that decode; by default one a processor core.
        progress: told of every image.

    Raises:
        CohortError: fewer than two images can be read.
    """
    progress = listener(progress)
    looks, kept, skipped = _look(cohort, workers or processor_cores(), progress)
    if len(looks) < 2:
        reason = f" The first: {skipped[0].path}: {skipped[0].reason}." if skipped else " Name more."
        count = counted(len(looks), "image")
        raise CohortError(f"{cohort.name}: {count} can be read; an audit compares at least two.{reason}")
    table = cohort.table.iloc[kept]
    parts = [part_of(role, label) for role, label in zip(table["role"], table["label"], strict=True)]
    names = np.asarray(parts, dtype=str)
    pairs, copy_groups = find_copies(looks, parts, progress)
    whole = [cohort.torn_patients.get(group, group) for group in table["group"]]
    own_groups = pd.factorize(np.asarray(whole, dtype=object))[0].astype(np.int64)
    groups = joined_groups(copy_groups, own_groups)
    normal, abnormal = np.isin(names, ("normal", "test normal")), np.isin(names, ("abnormal", "test abnormal"))
    first, second = pairs.first, pairs.second
    conflicts = np.flatnonzero((normal[first] & abnormal[second]) | (abnormal[first] & normal[second]))
    tested = np.char.startswith(names, "test")
    copied = images_with_copy(pairs, tested, names == "normal")
    shortcuts = find_shortcuts(looks, parts, groups, progress)
    memorisation = measure_memorisation(looks, parts, groups, copied)
    paths = table["path"].astype(str).tolist()
    torn, mixed = (~tested, tested), (names == "normal", names == "unlabeled")
    return Audit(
        name=cohort.name,
        paths=paths,
        parts=parts,
        features=pd.DataFrame([look.features for look in looks]),
        groups=groups,
        skipped=[*cohort.skipped, *skipped],
        pairs=pairs,
        copies=count_copies(pairs, parts, PARTS),
        conflicts=conflicts,
        torn_groups=_shared(copy_groups, ~tested, tested),
        torn_patients=_shared(own_groups, *torn),
        torn_examples=_examples(paths, own_groups, *torn),
        mixed_groups=_shared(own_groups, *mixed),
        mixed_examples=_examples(paths, own_groups, *mixed),
        shortcuts=shortcuts,
        memorisation=memorisation,
        notes=(*cohort.notes, *_alike(looks, copy_groups)),
    )


def part_of(role: str, label: Any) -> str:
    """Return the part of a cohort that an image of this role and label belongs to, one of `PARTS`."""
    if role != Role.TEST:
        return str(role)
    if pd.isna(label):
        return PARTS[-1]
    return "test abnormal" if label == 1 else "test normal"


def _alike(looks: Sequence[Look], copy_groups: Indices) -> list[str]:
    """Note if copies chain through more than half of the pictures that differ."""
    _, different = np.unique([look.pixel_digest for look in looks], return_index=True)
    largest = int(np.bincount(copy_groups[different]).max())
    if largest < _FEWEST_ALIKE or largest <= _ALIKE * len(different):
        return []
    return [
        f"the images are so alike that near copies cannot be told from others: {largest} of {len(different)} different "
        "ones chain into one group. Look at pairs on the page of --out before you believe how many copies there are."
    ]


def _shared(groups: Indices, one: np.typing.NDArray[np.bool_], other: np.typing.NDArray[np.bool_]) -> int:
    return len(np.intersect1d(groups[one], groups[other]))


def _examples(
    paths: Sequence[str], groups: Indices, one: np.typing.NDArray[np.bool_], other: np.typing.NDArray[np.bool_]
) -> list[tuple[str, str]]:
    """Name an image of either side for the first groups that both share."""
    shared = np.intersect1d(groups[one], groups[other])[:_EXAMPLES]
    first = [[int(np.flatnonzero((groups == group) & side)[0]) for side in (one, other)] for group in shared]
    return [(paths[here], paths[there]) for here, there in first]


def _look(cohort: Cohort, workers: int, progress: Progress) -> tuple[list[Look], list[int], list[SkippedImage]]:
    paths = [Path(path) for path in cohort.table["path"]]
    looks: list[Look] = []
    kept: list[int] = []
    skipped: list[SkippedImage] = []
    with ThreadPoolExecutor(workers) as pool, progress.task("looking at images", len(paths)) as task:
        for index, found in enumerate(pool.map(_try, paths)):
            if isinstance(found, Look):
                looks.append(found)
                kept.append(index)
            else:
                skipped.append(found)
            task.advance(note=paths[index].name)
    return looks, kept, skipped


def _try(path: Path) -> Look | SkippedImage:
    try:
        return look_at(path)
    except ImageError as error:
        return SkippedImage(path, error.reason, isinstance(error, BlankSliceError))
