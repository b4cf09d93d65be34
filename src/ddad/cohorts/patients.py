"""Which images belong together where nobody said so: the slices of a file, and the DICOM files of a patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ddad.cohorts.file_by_file import file_by_file
from ddad.cohorts.rows import Role, Row
from ddad.errors import ImageError
from ddad.images import Address, Identity, read_identity
from ddad.progress import Progress
from ddad.wording import whole_percent

MOST_STUDIES, MOST_OF_ALL = 20, 0.1
"""A patient identifier with more studies than this, and a larger share of all studies, is that of no one patient."""

LEAST_FOLDERS, MOST_FILES = 10, 20
"""So many folders of 2 to so many files each may be one for each patient."""


def find_groups(rows: Sequence[Row], progress: Progress | None = None) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the group of each row, torn patients, and notes; `progress` is told of each file.

    A torn patient is in training and test, and is a group in each: the dictionary tells the one in training by that
    in test.

    A row's own group stands. Else DICOM files of a patient are one group, named for the first of them, so that no
    identity is kept. Where an identifier stands for many patients, as anonymising often leaves it (all files have it,
    or it has more than `MOST_STUDIES` studies and `MOST_OF_ALL` of all), those of a study are. Any other file is a
    group of its own, with its slices. Only a group that was given is refused in both training and test: an identifier
    may be made up.
    """
    containers = [Address.parse(row.path).container for row in rows]
    unknown = list(dict.fromkeys(box for row, box in zip(rows, containers, strict=True) if row.group is None))
    identities = dict(zip(unknown, file_by_file(_identity, unknown, "grouping by patient", progress), strict=True))
    placeholders = _placeholders(identities.values())
    first: dict[tuple[str, bool], str] = {}
    groups: list[str] = []
    for row, box in zip(rows, containers, strict=True):
        who = _who(identities[box], placeholders) if row.group is None else ""
        own = first.setdefault((who, row.role == Role.TEST), box) if who else box
        groups.append(row.group or own)
    alone = [box for box in unknown if not _who(identities[box], placeholders)]
    notes = [*_placeholder_notes(identities, placeholders), *_folder_notes(alone)]
    torn = sorted(who for who, is_test in first if is_test and (who, False) in first)
    if not torn:
        return groups, {}, notes
    studies = {one.study for one in identities.values()}
    what = " or ".join(sorted({"studies" if who in studies else "patients" for who in torn}))
    note = (
        f"{len(torn)} {what}, by their DICOM headers, are in both training and test, e.g. {first[torn[0], False]} and "
        f"{first[torn[0], True]}: what is measured on them is too good. Move all images of a patient to one side, "
        "as ddad audit --write-split does."
    )
    return groups, {first[who, True]: first[who, False] for who in torn}, [*notes, note]


def _identity(container: str) -> Identity:
    try:
        return read_identity(container)
    except ImageError:
        return Identity()  # reading the image will say what is wrong


def _placeholders(identities: Iterable[Identity]) -> set[str]:
    """Return the patient identifiers that many patients have, in place of their own."""
    studies: dict[str, set[str]] = defaultdict(set)
    for one in identities:
        if one.patient:
            studies[one.patient].add(one.study)
    if len(studies) == 1:
        return set(studies)
    # Without a study there is nothing to fall back to, and all slices of a volume would stand alone.
    counts = {patient: len(found - {""}) for patient, found in studies.items()}
    limit = max(MOST_STUDIES, MOST_OF_ALL * sum(counts.values()))
    return {patient for patient, count in counts.items() if count > limit}


def _placeholder_notes(identities: dict[str, Identity], placeholders: set[str]) -> list[str]:
    """Say which files are grouped by study although others are by patient."""
    if len({one.patient for one in identities.values()} - {""}) < 2 or not placeholders:
        return []
    files = [file for file, one in identities.items() if one.patient in placeholders]
    count = len(placeholders)
    return [
        f"{count} patient identifier{'s' * (count > 1)} of {len(files)} DICOM files, e.g. {files[0]}, "
        f"{'have' if count > 1 else 'has'} more than {MOST_STUDIES} studies and {whole_percent(MOST_OF_ALL)} of all: "
        "taken for a placeholder that anonymising left, and these files are grouped by study, so that a patient with "
        "several studies is several groups. Where patients are known, name them in the column group of a manifest."
    ]


def _folder_notes(files: Sequence[str]) -> list[str]:
    """Say so where files that each count as a patient lie as if a folder were one."""
    within: defaultdict[Path, list[str]] = defaultdict(list)
    for file in files:
        within[Path(file).parent].append(file)
    small = [found for found in within.values() if 2 <= len(found) <= MOST_FILES]
    count = sum(len(found) for found in small)
    if len(small) < LEAST_FOLDERS or 2 * count <= len(files):
        return []
    return [
        f"{count} files lie in {len(small)} folders of 2 to {MOST_FILES}, e.g. {small[0][0]}, and each file counts as "
        "a group of its own. If a folder is a patient, name patients in the column group of a manifest (--manifest)."
    ]


def _who(identity: Identity, placeholders: set[str]) -> str:
    return identity.study if identity.patient in placeholders else identity.patient or identity.study
