"""`Role` and `Row`: what a source of images says of each, before anything is checked."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Role(StrEnum):
    """What an image is for."""

    NORMAL = "normal"
    """Known to be normal: trains NDM and ASR-Net."""
    UNLABELED = "unlabeled"
    """Normal or not, nobody has looked: trains UDM."""
    TEST = "test"
    """Never trained on; evaluated where a label is known."""
    ABNORMAL = "abnormal"
    """Known to be abnormal: a few examples, for detectors that take them."""


class SkippedImage(NamedTuple):
    """A file that could not be used, and why; `blank` is a slice without content, with which nothing is wrong."""

    path: Path
    reason: str
    blank: bool = False


def described(skipped: Iterable[SkippedImage]) -> dict[str, list[list[str]]]:
    """Return [path, reason] of each file, for JSON: under `skipped`, or under `blank` a slice without content."""
    found: dict[str, list[list[str]]] = {"skipped": [], "blank": []}
    for image in skipped:
        found["blank" if image.blank else "skipped"].append([str(image.path), image.reason])
    return found


class Row(NamedTuple):
    """One image of a cohort.

    Attributes:
        path: the image file, or the address of an image within it.
        role: what it is for.
        origin: where it was named, for messages: `manifest.csv, line 7`.
        label: of test images, 0 (normal), 1 (abnormal) or unknown.
        group: what must not be split, such as the patient; unknown: the file, with all its slices.
        mask: an image that is non-zero where something is abnormal.
    """

    path: Path
    role: Role
    origin: str
    label: int | None = None
    group: str | None = None
    mask: Path | None = None


def listed(items: list[str], most: int = 3) -> str:
    """Name the first few of many, for a message."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def printable(path: Path) -> Path:
    """Return a path as it can be written down: what is not UTF-8 in it is spelled out, `udce9` after a backslash."""
    return Path(str(path).encode("utf-8", "backslashreplace").decode())
