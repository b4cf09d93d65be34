"""Which images belong together where nobody said so: the slices of a file, and the DICOM files of a patient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ddad.cohorts.file_by_file import file_by_file
from ddad.cohorts.rows import Role, Row
from ddad.errors import ImageError
from ddad.images import Address, Identity, read_identity
from ddad.progress import Progress


def find_groups(rows: Sequence[Row], progress: Progress | None = None) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the group of each row, torn patients, and notes on them; `progress` is told of each file.

    A torn patient is in training and test, and is a group in each: the dictionary tells the one in training by that
    in test.

    A row's own group stands. Else DICOM files of a patient are one group, named for the first of them, so that no
    identity is kept; where all have the same patient identifier, which anonymising often leaves, those of a study. Any
    other file is a group of its own, with its slices. Only a group that was given is refused in both training and test:
    an identifier may be made up.
    """
    containers = [Address.parse(row.path).container for row in rows]
    unknown = list(dict.fromkeys(box for row, box in zip(rows, containers, strict=True) if row.group is None))
    identities = dict(zip(unknown, file_by_file(_identity, unknown, "grouping by patient", progress), strict=True))
    by_patient = _distinct(one.patient for one in identities.values()) > 1
    first: dict[tuple[str, bool], str] = {}
    groups: list[str] = []
    for row, box in zip(rows, containers, strict=True):
        who = _who(identities[box], by_patient) if row.group is None else ""
        own = first.setdefault((who, row.role == Role.TEST), box) if who else box
        groups.append(row.group or own)
    torn = sorted(who for who, is_test in first if is_test and (who, False) in first)
    if not torn:
        return groups, {}, []
    what = "patients" if by_patient else "studies"
    note = (
        f"{len(torn)} {what}, by their DICOM headers, are in both training and test, e.g. {first[torn[0], False]} and "
        f"{first[torn[0], True]}: what is measured on them is too good. Move all images of a patient to one side, "
        "as ddad audit --write-split does."
    )
    return groups, {first[who, True]: first[who, False] for who in torn}, [note]


def _identity(container: str) -> Identity:
    try:
        return read_identity(container)
    except ImageError:
        return Identity()  # reading the image will say what is wrong


def _distinct(values: Iterable[str]) -> int:
    return len(set(values) - {""})


def _who(identity: Identity, by_patient: bool) -> str:
    return (identity.patient if by_patient else "") or identity.study
