"""Cohorts from folders: one or several folders a role, searched through and through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ddad.cohorts.listing import list_images
from ddad.cohorts.rows import Role, Row, SkippedImage, listed
from ddad.errors import CohortError
from ddad.images import Address, Selection
from ddad.progress import Progress
from ddad.wording import counted

Folders = str | Path | Sequence[str | Path] | None


def read_folders(
    normal: Folders,
    unlabeled: Folders,
    test_normal: Folders,
    test_abnormal: Folders,
    test_masks: Folders,
    selection: Selection,
    abnormal: Folders = None,
    progress: Progress | None = None,
) -> tuple[list[Row], list[SkippedImage], list[str], str]:
    """List the images of each role; return rows, files that cannot be taken, notes and a name for the cohort.

    Raises:
        CohortError: a folder is missing, empty or a file, or a mask is ambiguous or has no image.
    """
    plan: tuple[tuple[str, Folders, Role, int | None], ...] = (
        ("normal", normal, Role.NORMAL, None),
        ("unlabeled", unlabeled, Role.UNLABELED, None),
        ("abnormal", abnormal, Role.ABNORMAL, None),
        ("test_normal", test_normal, Role.TEST, 0),
        ("test_abnormal", test_abnormal, Role.TEST, 1),
    )
    masks_of = _Masks(test_masks, selection, progress) if _several(test_masks) else None
    rows: list[Row] = []
    skipped = masks_of.skipped if masks_of else []
    notes: list[str] = []
    named: dict[tuple[str, Role, int | None], int] = {}
    first: Path | None = None
    for argument, folders, role, label in plan:
        for folder in _several(folders):
            first = first or folder
            found = list_images(folder, argument, selection, progress)
            skipped += found.skipped
            if found.passed_over:
                count = len(found.passed_over)
                files = "file" if count == 1 else "files"
                notes.append(f"{folder}: {count} {files} left out, hidden or no image.")
            links = 0
            for path in found.images:
                mask = masks_of.find(path, folder) if masks_of and label == 1 else None
                first_named = named.setdefault((Address.real(path), role, label), len(rows))
                if first_named < len(rows) and rows[first_named].path != path:
                    links += 1
                    rows[first_named] = rows[first_named]._replace(mask=rows[first_named].mask or mask)
                    continue
                rows.append(Row(path, role, argument, label, mask=mask))
            if links:
                what = counted(links, "image")
                notes.append(f"{folder}: {what} left out: other names of images that are there already.")
    if first is None:
        raise CohortError("No folder was named: give at least one of normal, unlabeled, test_normal, test_abnormal.")
    if masks_of:
        notes += masks_of.notes(sum(row.label == 1 and row.mask is None for row in rows))
    return rows, skipped, notes, first.resolve().parent.name or first.resolve().name


def _several(folders: Folders) -> list[Path]:
    if folders is None:
        return []
    several: Iterable[str | Path] = [folders] if isinstance(folders, str | Path) else folders
    return [Path(folder) for folder in several]


def _place(path: Path, folder: Path) -> Path:
    """Where an image lies within its folder, without the suffix of its file but with its frame."""
    address = Address.parse(path)
    file = Path(address.container).relative_to(folder)
    stem, _, suffix = file.name.removesuffix(".gz").rpartition(".")
    # Many DICOM files are named by a UID: the number behind its last point is no suffix.
    stem = file.name if not stem or suffix.isdigit() else stem
    frame = "" if address.frame is None else f"#{address.frame.number}"
    return file.with_name(f"{stem}{frame}")


class _Masks:
    """Masks by the name of their image: at the same place within its folder, else anywhere."""

    def __init__(self, folders: Folders, selection: Selection, progress: Progress | None) -> None:
        self._by_place: dict[Path, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._used: set[Path] = set()
        self.skipped: list[SkippedImage] = []
        for folder in _several(folders):
            found = list_images(folder, "test_masks", selection, progress)
            self.skipped += found.skipped
            for path in found.images:
                place = _place(path, folder)
                self._by_place[place].append(path)
                self._by_stem[place.name].append(path)

    def find(self, image: Path, folder: Path) -> Path | None:
        found = self._by_place.get(_place(image, folder)) or self._by_stem.get(_place(image, folder).name, [])
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
                f"test_masks: {counted(len(masks), 'mask')}, none of which bears the name of an image in "
                f"test_abnormal, e.g. {min(masks)}. Name each mask as its image, but for the suffix."
            )
        notes = []
        if unused := sorted(str(path) for path in masks - self._used):
            notes.append(
                f"{counted(len(unused), 'mask belongs', 'masks belong')} to no abnormal test image: {listed(unused)}."
            )
        if images_without:
            notes.append(f"{counted(images_without, 'abnormal test image has', 'abnormal test images have')} no mask.")
        return notes
