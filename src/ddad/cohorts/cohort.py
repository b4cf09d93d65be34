"""`Cohort`: the table of images, what each is for, and what is known of it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Self, cast

import pandas as pd

from ddad.cohorts.benchmark_folder import read_benchmark
from ddad.cohorts.file_by_file import file_by_file
from ddad.cohorts.folders import Folders, read_folders
from ddad.cohorts.manifest import read_manifest
from ddad.cohorts.patients import find_groups
from ddad.cohorts.rows import Role, Row, SkippedImage, listed, printable
from ddad.errors import CohortError, ImageError
from ddad.files import is_file
from ddad.images import ALL, Address, Selection, byte_count, content
from ddad.progress import Progress
from ddad.wording import counted

__all__ = ["COLUMNS", "Cohort", "Role"]

COLUMNS = ("path", "role", "label", "group", "mask")
_UNREADABLE = "unreadable"


@dataclass(frozen=True, eq=False)
class Cohort:
    """Images and their roles; make one with `from_folders`, `from_manifest` or `from_benchmark`.

    Attributes:
        table: one row an image, columns `path`, `role`, `label` (0, 1 or missing; missing outside the
            test images), `group` (the patient; where none was given, the first DICOM file of the same
            patient, else the file, so that its slices stay together), `mask` (or missing).
        name: the cohort in a word, for titles and file names.
        origins: where each row was named, for messages; may be empty.
        notes: what was left out or adapted while reading, one sentence each.
        torn_patients: patients in both training and test, by their DICOM headers: the group in training by that in
            test.
        skipped: files in the folders that cannot be taken, and why.
    """

    table: pd.DataFrame
    name: str
    origins: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    torn_patients: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[SkippedImage, ...] = ()

    @classmethod
    def from_folders(
        cls,
        *,
        normal: Folders = None,
        unlabeled: Folders = None,
        abnormal: Folders = None,
        test_normal: Folders = None,
        test_abnormal: Folders = None,
        test_masks: Folders = None,
        selection: Selection = ALL,
        progress: Progress | None = None,
    ) -> Self:
        """Take all images in folders, in folders and ZIP archives within them, and all slices of files with several.

        Hidden files and files that are no image are left out and counted in `notes`;
        links to folders are not followed.

        Args:
            normal: images known to be normal.
            unlabeled: images that nobody has looked at.
            abnormal: a few images known to be abnormal, to learn from.
            test_normal: normal images to evaluate on.
            test_abnormal: abnormal images to evaluate on.
            test_masks: masks of abnormal images, each named as its image but for the suffix.
            selection: which slices of files with several.
            progress: told of each file that is looked at.

        Raises:
            CohortError: a folder is missing, empty or a file, a file has two roles, or a mask is ambiguous.
        """
        rows, skipped, notes, name = read_folders(
            normal, unlabeled, test_normal, test_abnormal, test_masks, selection, abnormal, progress
        )
        return replace(cls._checked(rows, notes, name, progress), skipped=tuple(skipped))

    @classmethod
    def from_manifest(cls, csv: str | Path, *, allow_torn: bool = False, progress: Progress | None = None) -> Self:
        """Read a CSV file with the columns path and role, and optionally label, group and mask.

        Relative paths are relative to the manifest's folder.

        Args:
            csv: the manifest.
            allow_torn: whether a group may be in both training and test, as an audit wants it, to say so.
            progress: told of each file that is looked at.

        Raises:
            CohortError: a column is missing, a row is wrong (its line is named), or a file is missing.
        """
        rows, notes = read_manifest(Path(csv))
        return cls._checked(rows, notes, Path(csv).stem, progress, allow_torn=allow_torn)

    @classmethod
    def from_benchmark(
        cls,
        folder: str | Path,
        *,
        split: str | Path = "data.json",
        anomaly_rate: float | None = None,
        unlabeled_total: int | None = None,
        unseen: str | None = None,
        normals: tuple[int, int] | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Read a folder as the paper's authors publish it: `images/` and a JSON file with the split.

        Args:
            folder: the benchmark folder.
            split: the JSON file, in the folder or elsewhere.
            anomaly_rate: share of abnormal images among the unlabeled: the first names of each list
                are taken. None takes all names.
            unlabeled_total: how many unlabeled images to take at that rate; all that the lists hold if
                None. It shrinks where a list is too short.
            unseen: pattern of names, such as `*-me_*`: a class of anomaly that is kept out of the unlabeled
                images; the abnormal test images are then of this class alone.
            normals: how many normal images to take, and the seed that draws them; all if None.
            progress: told of each file that is looked at.

        Raises:
            CohortError: the folder, the split or an image is missing, the split is malformed or names an
                image twice, or the anomaly rate, unseen class or number of normals cannot be had.
        """
        rows, notes = read_benchmark(Path(folder), Path(split), anomaly_rate, unlabeled_total, unseen, normals)
        return cls._checked(rows, notes, Path(folder).resolve().name, progress)

    @classmethod
    def _checked(
        cls,
        rows: Sequence[Row],
        notes: Sequence[str],
        name: str,
        progress: Progress | None,
        *,
        allow_torn: bool = False,
    ) -> Self:
        for row in rows:
            if (shown := printable(row.path)) != row.path:
                raise CohortError(f"{shown} ({row.origin}): its name is not UTF-8. Rename the file, or its folder.")
        groups, torn, doubts = find_groups(rows, progress)
        table = pd.DataFrame(
            {
                "path": pd.array([str(row.path) for row in rows], "string"),
                "role": pd.array([row.role.value for row in rows], "string"),
                "label": pd.array([row.label for row in rows], "Int64"),
                "group": pd.array(groups, "string"),
                "mask": pd.array([None if row.mask is None else str(row.mask) for row in rows], "string"),
            }
        )
        cohort = cls(table, name, tuple(row.origin for row in rows), (*notes, *doubts), torn)
        cohort.validate(allow_torn=allow_torn)
        return cohort

    def __len__(self) -> int:
        return len(self.table)

    def of(self, role: Role | str, label: int | None = None) -> pd.DataFrame:
        """Return the rows of a role, of a label if one is given."""
        chosen = self.table["role"] == Role(role).value
        if label is not None:
            chosen &= (self.table["label"] == label).fillna(False).astype(bool)
        return self.table[chosen.astype(bool)]

    def paths(self, role: Role | str, label: int | None = None) -> list[Path]:
        """Return the files of a role, of a label if one is given, in the order of the table."""
        return [Path(path) for path in self.of(role, label)["path"]]

    def folders(self) -> set[Path]:
        """Return the folders that the files of all roles lie in."""
        return {Path(path).parent for path in self.table["path"]}

    def counts(self) -> dict[str, int]:
        """Count the images: normal, unlabeled, test, test_normal, test_abnormal, and abnormal if there are any."""
        abnormal = len(self.of(Role.ABNORMAL))
        return {
            "normal": len(self.of(Role.NORMAL)),
            "unlabeled": len(self.of(Role.UNLABELED)),
            "test": len(self.of(Role.TEST)),
            "test_normal": len(self.of(Role.TEST, 0)),
            "test_abnormal": len(self.of(Role.TEST, 1)),
            **({"abnormal": abnormal} if abnormal else {}),
        }

    def validate(self, *, allow_torn: bool = False) -> None:
        """Check that the table is whole and consistent; every constructor does.

        Args:
            allow_torn: whether a group may be in both training and test.

        Raises:
            CohortError: no image at all, a missing file, a file named twice or in two roles, a label
                that is not 0 or 1 or stands outside the test images, or a group in both training and test.
        """
        if tuple(self.table.columns) != COLUMNS:
            raise CohortError(
                f"{self.name}: columns are {', '.join(self.table.columns)}; they must be {', '.join(COLUMNS)}."
            )
        if self.table.empty:
            raise CohortError(f"{self.name}: holds no images. Name at least one folder or file.")
        self._check_values()
        self._check_files()
        self._check_paths()
        if not allow_torn:
            self._check_groups()

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """The notes, and files of different roles that are the same byte for byte (reads files once)."""
        return self.notes + tuple(self._copies_between_roles())

    def fingerprint(self, progress: Progress | None = None) -> str:
        """Return a SHA-256 of all images, roles, labels and groups, the same wherever the files lie.

        Every file is read, the first time; `progress` is told of each.
        """
        self._read([*self.table["path"], *self.table["mask"].dropna()], progress)
        containers = {Address.parse(path).container for path in self.table["path"]}
        rows = sorted(
            [
                role,
                "" if pd.isna(label) else str(label),
                _named(path, group, containers),
                Path(path).name,
                self.digest(path),
                "" if pd.isna(mask) else self.digest(mask),
            ]
            for path, role, label, group, mask in self.table.itertuples(index=False)
        )
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def order(self) -> str:
        """Return a SHA-256 of the images of each role in the order in which they are listed, as batches follow it."""
        rows = [[role, self.digest(path)] for path, role in zip(self.table["path"], self.table["role"], strict=True)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def digests(self, *roles: Role) -> list[str]:
        """Return short digests of the images of some roles, and of the whole files of those with several, sorted."""
        paths = {str(path) for role in roles for path in self.paths(role)}
        paths |= {Address.parse(path).container for path in paths}
        return sorted(set(self.short_digests(sorted(paths))) - {_UNREADABLE})

    def short_digests(self, paths: Sequence[str], progress: Progress | None = None) -> list[str]:
        """Return the short digest of each image or file, in order; `progress` is told of each file that is read."""
        self._read(paths, progress)
        return [short_digest(self.digest(path)) for path in paths]

    @cached_property
    def _digests(self) -> dict[str, str]:
        """Of the files that were read so far, by their addresses."""
        return {}

    def _read(self, paths: Iterable[str], progress: Progress | None = None) -> None:
        """Read the files of images that were not read before, each once however many images it holds."""
        named = dict.fromkeys(Address.parse(path).container for path in paths)
        files = [file for file in named if file not in self._digests]
        self._digests.update(zip(files, file_by_file(_digest, files, "fingerprinting files", progress), strict=True))

    def digest(self, path: str) -> str:
        """Return the SHA-256 of an image's file, and of its place there if the file holds several."""
        self._read([path])
        file = Address.parse(path).container
        digest = self._digests[file]
        if file == path or digest.startswith(_UNREADABLE):
            return digest
        # One of several images in a file: its own digest is that of the file and its place in it.
        place = path.removeprefix(file)
        return hashlib.sha256(f"{digest}{place}".encode()).hexdigest()

    def _where(self, index: int) -> str:
        path = str(self.table["path"].iloc[index])
        return f"{path} ({self.origins[index]})" if self.origins else path

    def _check_values(self) -> None:
        for index, (role, label) in enumerate(zip(self.table["role"], self.table["label"], strict=True)):
            if role not in set(Role):
                raise CohortError(f"{self._where(index)}: role is {role!r}; use {', '.join(Role)}.")
            if pd.isna(label):
                continue
            if label not in (0, 1):
                raise CohortError(
                    f"{self._where(index)}: label is {label}; use 0 for normal, 1 for abnormal, or leave it empty."
                )
            if role != Role.TEST:
                raise CohortError(
                    f"{self._where(index)}: has a label but its role is {role}. Only test images have one."
                )

    def _check_files(self) -> None:
        for column in ("path", "mask"):
            named = [(index, path) for index, path in enumerate(self.table[column]) if not pd.isna(path)]
            missing = [
                path + (f" ({self.origins[index]})" if self.origins else "")
                for index, path in named
                if not is_file(Address.parse(path).file)
            ]
            if missing:
                what = "images" if column == "path" else "masks"
                raise CohortError(
                    f"{self.name}: {len(missing)} of {len(named)} {what} are missing: {listed(missing)}. "
                    "Correct their paths, or take them out."
                )

    def _check_paths(self) -> None:
        seen: dict[str, int] = {}
        roles = self.table["role"]
        for index, path in enumerate(self.table["path"]):
            first = seen.setdefault(Address.real(path), index)
            if first == index:
                continue
            if roles.iloc[first] != roles.iloc[index]:
                raise CohortError(
                    f"The same file is both {roles.iloc[first]} and {roles.iloc[index]}: "
                    f"{self._where(first)} and {self._where(index)}. Leave it in one role."
                )
            raise CohortError(
                f"The same file is named twice: {self._where(first)} and {self._where(index)}. Name it once."
            )

    def _check_groups(self) -> None:
        sides: dict[str, dict[bool, int]] = defaultdict(dict)
        for index, (group, role) in enumerate(zip(self.table["group"], self.table["role"], strict=True)):
            sides[group].setdefault(role == Role.TEST, index)
        torn = {group: side for group, side in sides.items() if len(side) == 2}
        if torn:
            group, side = next(iter(torn.items()))
            more = f" So are {len(torn) - 1} other groups." if len(torn) > 1 else ""
            raise CohortError(
                f"{self.name}: group {group!r} is in both training and test: {self._where(side[False])} and "
                f"{self._where(side[True])}.{more} Move all images of a group to one side, as ddad audit --write-split "
                "does."
            )

    def _copies_between_roles(self) -> list[str]:
        by_size: dict[int, list[int]] = defaultdict(list)
        paths, roles = self.table["path"].tolist(), self.table["role"].tolist()
        for index, path in enumerate(paths):
            with suppress(OSError, ImageError):  # what is gone is no copy
                by_size[byte_count(Address.parse(path))].append(index)
        by_content: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        # Files of a size that is found in one role only need not be read.
        alike = [same for same in by_size.values() if len({roles[index] for index in same}) > 1]
        self._read(paths[index] for same in alike for index in same)
        for index in (index for same in alike for index in same):
            by_content[self.digest(paths[index])][roles[index]].append(index)
        warnings = []
        for role, other in (
            (Role.TEST, Role.NORMAL),
            (Role.TEST, Role.UNLABELED),
            (Role.UNLABELED, Role.NORMAL),
            (Role.TEST, Role.ABNORMAL),
            (Role.ABNORMAL, Role.NORMAL),
        ):
            both = [found for found in by_content.values() if role in found and other in found]
            if both:
                count = sum(len(found[role]) for found in both)
                example = f"{paths[both[0][role][0]]} = {paths[both[0][other][0]]}"
                warnings.append(
                    f"{counted(count, f'{role} image has', f'{role} images have')} an exact copy among the {other} "
                    f"images, e.g. {example}" + (": what is measured on them is memory." if role == Role.TEST else ".")
                )
        return warnings


def _digest(file: str) -> str:
    try:
        with content(Address.parse(file)) as opened:
            return hashlib.file_digest(cast(BufferedIOBase, opened), "sha256").hexdigest()
    except (OSError, ImageError) as error:
        # Decoding will report it; a fingerprint is due all the same.
        return f"{_UNREADABLE}: {error.strerror if isinstance(error, OSError) else error.reason}"


def short_digest(digest: str) -> str:
    """Return the first 16 hexadecimal digits of a digest, or that its file is unreadable."""
    return _UNREADABLE if digest.startswith(_UNREADABLE) else digest[:16]


def _named(path: str, group: str, containers: set[str]) -> str:
    """Name a group wherever the files lie: a group that is a file bears its name without the folder."""
    if group == Address.parse(path).container:
        return Path(path).name
    return Path(group).name if group in containers else group
