"""A split without leaks: the same images, whole groups of copies on one side, counts close to the source's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddad.audit.audit import Audit
from ddad.cohorts.benchmark_folder import LISTS, read_split
from ddad.cohorts.rows import listed
from ddad.errors import CohortError
from ddad.files import write_atomically

_UNKNOWN = "train.unlabeled"
_FROM_PART = {
    "normal": "train.0",
    "unlabeled": _UNKNOWN,
    "abnormal": "train.1",
    "test normal": "test.0",
    "test abnormal": "test.1",
}
_LEFT = 0.5
"""Share of its images that a list must at least keep."""


@dataclass(frozen=True)
class Resplit:
    """Lists of names, as in a benchmark folder's `data.json`.

    Attributes:
        lists: by `train.0`, `train.unlabeled.0`, `train.unlabeled.1`, `test.0`, `test.1`, and `train.1` if the
            source has it.
        before: how many names each list of the source had.
        left_out: images that are in no list, because they could not be read or have no place.
        contradicted: names that became unlabeled, because images that belong together contradict each other in label.
    """

    lists: dict[str, list[str]]
    before: dict[str, int]
    left_out: int
    contradicted: list[str]

    @property
    def note(self) -> str:
        """How many images became unlabeled, why, and the first of them; empty if none did."""
        if not self.contradicted:
            return ""
        return (
            f"{len(self.contradicted)} of the images with a label became unlabeled, because images that belong to them "
            f"have the other one: {listed(self.contradicted)}"
        )

    def write(self, file: Path) -> None:
        """Write the JSON file.

        Raises:
            CohortError: a list lost more than half of its images, because too many belong together.
            OutputError: the disk is full or the place may not be written to.
        """
        lost = [key for key, names in self.lists.items() if len(names) < _LEFT * self.before[key]]
        if lost:
            counts = ", ".join(f"{key} with {len(self.lists[key])} of {self.before[key]} images" for key in lost)
            raise CohortError(
                f"{file}: not written, because too many images belong together: a split without leaks would leave "
                f"{counts}. Look at the copies on the page of --out, and remove copies or add other images."
            )
        content = {
            "train": {
                "0": self.lists["train.0"],
                **({"1": self.lists["train.1"]} if "train.1" in self.lists else {}),
                "unlabeled": {"0": self.lists["train.unlabeled.0"], "1": self.lists["train.unlabeled.1"]},
            },
            "test": {"0": self.lists["test.0"], "1": self.lists["test.1"]},
        }
        write_atomically(file, (json.dumps(content, indent=1) + "\n").encode())


def source_lists(audit: Audit, data: Path | None, split: str) -> dict[str, str]:
    """Return by path in which list each image of the audit is.

    Only a benchmark folder knows the labels of unlabeled images; those of other cohorts are in `train.unlabeled`.
    """
    if data is None:
        return {path: _FROM_PART.get(part, "") for path, part in zip(audit.paths, audit.parts, strict=True)}
    file = Path(split) if Path(split).is_absolute() else data / split
    key_of = {str(data / "images" / name): key for key, names in read_split(file).items() for name in names}
    # At an anomaly rate, not every name of the split is in the cohort.
    seen = {*audit.paths, *(str(image.path) for image in audit.skipped)}
    return {path: key for path, key in key_of.items() if path in seen}


def leak_free_split(audit: Audit, lists: Mapping[str, str], images: Path | None, seed: int = 0) -> Resplit:
    """Deal whole groups out to the lists, so that no group is in both training and test.

    A group stays where it is if it lies in one list, or in training alone and its labels agree; the others go, the
    largest first, to the list of their label that lacks most. Those of which a label is unknown or contradicted go to
    the unlabeled images.

    Args:
        audit: with its groups.
        lists: from `source_lists`.
        images: folder that names are relative to; without one they are absolute.
        seed: of the order of groups of the same size.
    """
    before = {key: sum(value == key for value in lists.values()) for key in (*LISTS, _UNKNOWN)}
    counts = dict.fromkeys(before, 0)
    members: dict[int, list[int]] = {}
    for index, group in enumerate(audit.groups.tolist()):
        if lists.get(audit.paths[index]):
            members.setdefault(group, []).append(index)
    order = np.random.default_rng(seed).permutation(len(members))
    found = list(members.values())
    groups = [found[place] for place in order]
    groups.sort(key=len, reverse=True)
    chosen: dict[int, str] = {}
    waiting = []
    for group in groups:
        homes = {index: lists[audit.paths[index]] for index in group}
        if _may_stay(set(homes.values())):
            _put(group, homes, chosen, counts)
        else:
            waiting.append(group)
    for group in waiting:
        _put(group, _place(group, audit.paths, lists, before, counts), chosen, counts)
    kept = [key for key in LISTS if before[key] or key != "train.1"]
    named: dict[str, list[str]] = {key: [] for key in kept}
    for index, key in sorted(chosen.items()):
        named["train.unlabeled.0" if key == _UNKNOWN else key].append(_name(audit.paths[index], images))
    contradicted = sorted(
        index
        for group in waiting
        if _contradicted({lists[audit.paths[index]] for index in group})
        for index in group
        if not lists[audit.paths[index]].startswith("train.unlabeled")
    )
    return Resplit(
        named,
        {key: before[key] + (before[_UNKNOWN] if key == "train.unlabeled.0" else 0) for key in kept},
        len(audit.paths) + len(audit.skipped) - len(chosen),
        [_name(audit.paths[index], images) for index in contradicted],
    )


def _may_stay(homes: set[str]) -> bool:
    return len(homes) == 1 or not (_contradicted(homes) or any(key.startswith("test") for key in homes))


def _contradicted(homes: set[str]) -> bool:
    return {"0", "1"} <= {key[-1] for key in homes}


def _put(group: Sequence[int], keys: Mapping[int, str], chosen: dict[int, str], counts: dict[str, int]) -> None:
    for index in group:
        chosen[index] = keys[index]
        counts[keys[index]] += 1


def _place(
    group: Sequence[int],
    paths: Sequence[str],
    lists: Mapping[str, str],
    before: Mapping[str, int],
    counts: Mapping[str, int],
) -> dict[int, str]:
    homes = {index: lists[paths[index]] for index in group}
    labels = {key[-1] if key != _UNKNOWN else "?" for key in homes.values()}
    if labels in ({"0"}, {"1"}):
        (label,) = labels
        open_ = [key for key in LISTS if key.endswith(label) and before[key]]
        best = max(open_, key=lambda key: before[key] - counts[key])
        return dict.fromkeys(group, best)
    known = not before[_UNKNOWN]  # a pile of which some have a label would look like one of a known anomaly rate
    return {index: f"train.unlabeled.{key[-1]}" if known else _UNKNOWN for index, key in homes.items()}


def _name(path: str, images: Path | None) -> str:
    if images is not None and Path(path).is_relative_to(images):
        return str(Path(path).relative_to(images))
    return str(Path(path).resolve())
