"""Cohorts from folders: one or several folders a role, searched through and through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ddad.cohorts.rows import Role, Row, listed
from ddad.errors import CohortError
from ddad.images import IMAGE_SUFFIXES

Folders = str | Path | Sequence[str | Path] | None


def read_folders(
    normal: Folders, unlabeled: Folders, test_normal: Folders, test_abnormal: Folders, test_masks: Folders
) -> tuple[list[Row], list[str], str]:
    """List the images of each role; return rows, notes and a name for the cohort.

    Raises:
        CohortError: a folder is missing, empty or a file, or a mask is ambiguous or has no image.
    """
    plan: tuple[tuple[str, Folders, Role, int | None], ...] = (
        ("normal", normal, Role.NORMAL, None),
        ("unlabeled", unlabeled, Role.UNLABELED, None),
        ("test_normal", test_normal, Role.TEST, 0),
        ("test_abnormal", test_abnormal, Role.TEST, 1),
    )
    masks_of = _Masks(test_masks) if _several(test_masks) else None
    rows: list[Row] = []
    notes: list[str] = []
    first: Path | None = None
    for argument, folders, role, label in plan:
        for folder in _several(folders):
            first = first or folder
            found, ignored = list_images(folder, argument)
            if ignored:
                notes.append(f"{folder}: {ignored} files left out, hidden or without an image's suffix.")
            for path in found:
                mask = masks_of.find(path, folder) if masks_of and label == 1 else None
                rows.append(Row(path, role, argument, label, mask=mask))
    if first is None:
        raise CohortError("No folder was named: give at least one of normal, unlabeled, test_normal, test_abnormal.")
    if masks_of:
        notes += masks_of.notes(sum(row.label == 1 and row.mask is None for row in rows))
    return rows, notes, first.resolve().parent.name or first.resolve().name


def list_images(folder: Path, argument: str) -> tuple[list[Path], int]:
    """Return the images in a folder and in all within it, sorted, and how many other files there are.

    Raises:
        CohortError: the folder is missing, a file, unreadable, or holds no image.
    """
    if not folder.exists():
        raise CohortError(f"{argument}: {folder} does not exist. Check the path.")
    if not folder.is_dir():
        raise CohortError(f"{argument}: {folder} is a file. Name the folder that holds it.")
    found: list[Path] = []
    ignored = 0
    try:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if hidden or path.suffix.lower() not in IMAGE_SUFFIXES:
                ignored += 1
            else:
                found.append(path)
    except OSError as error:
        raise CohortError(f"{argument}: {folder} cannot be listed ({error.strerror}).") from error
    if not found:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        others = f"none of its {ignored} files is" if ignored else "it is empty, without"
        raise CohortError(f"{argument}: {folder} holds no images: {others} a visible {suffixes} file.")
    return found, ignored


def find_images(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """List files to score: those that are named, and all images in the folders that are named.

    A named file is taken whatever its suffix, and even if it is missing: reading it will say so.

    Raises:
        CohortError: nothing was named, or a folder holds no image.
    """
    found: dict[Path, None] = {}
    for path in _several(paths):
        found |= dict.fromkeys(list_images(path, "paths")[0] if path.is_dir() else [path])
    if not found:
        raise CohortError("paths: no image was named. Give files, or folders that hold images.")
    return list(found)


def _several(folders: Folders) -> list[Path]:
    if folders is None:
        return []
    several: Iterable[str | Path] = [folders] if isinstance(folders, str | Path) else folders
    return [Path(folder) for folder in several]


class _Masks:
    """Masks by the name of their image: at the same place within its folder, else anywhere."""

    def __init__(self, folders: Folders) -> None:
        self._by_place: dict[Path, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._used: set[Path] = set()
        for folder in _several(folders):
            for path in list_images(folder, "test_masks")[0]:
                self._by_place[path.relative_to(folder).with_suffix("")].append(path)
                self._by_stem[path.stem].append(path)

    def find(self, image: Path, folder: Path) -> Path | None:
        found = self._by_place.get(image.relative_to(folder).with_suffix("")) or self._by_stem.get(image.stem, [])
        if len(found) > 1 or (found and found[0] in self._used):
            names = listed([str(path) for path in found])
            raise CohortError(
                f"test_masks: it is unclear which image and mask belong together: {image} and {names}. "
                "Give them names of their own, or list them in a manifest."
            )
        self._used.update(found)
        return found[0] if found else None

    def notes(self, images_without: int) -> list[str]:
        """Say what did not match.

        Raises:
            CohortError: nothing did.
        """
        masks = {path for paths in self._by_stem.values() for path in paths}
        if not self._used:
            raise CohortError(
                f"test_masks: none of {len(masks)} masks bears the name of an image in test_abnormal, "
                f"e.g. {min(masks)}. Name each mask as its image, but for the suffix."
            )
        notes = []
        if unused := sorted(str(path) for path in masks - self._used):
            notes.append(f"{len(unused)} masks belong to no abnormal test image: {listed(unused)}.")
        if images_without:
            notes.append(f"{images_without} abnormal test images have no mask.")
        return notes
