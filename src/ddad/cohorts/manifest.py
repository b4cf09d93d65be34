"""Cohorts from a CSV manifest: path and role, and where known label, group and mask."""

from __future__ import annotations

import csv
import difflib
from pathlib import Path

from ddad.cohorts.rows import Role, Row
from ddad.errors import CohortError
from ddad.wording import counted

_REQUIRED = ("path", "role")
_OPTIONAL = ("label", "group", "mask")
_LABELS = {"": None, "0": 0, "1": 1, "0.0": 0, "1.0": 1}


def read_manifest(manifest: Path) -> tuple[list[Row], list[str]]:
    """Read the rows of a manifest, and what is to be noted about it.

    Raises:
        CohortError: the file is missing or no CSV, a column is missing, or a row is wrong.
    """
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            notes = _checked_columns(manifest, reader.fieldnames)
            labels_unused = 0
            rows = []
            for cells in reader:
                row, label_unused = _row(manifest, reader.line_num, cells)
                rows.append(row)
                labels_unused += label_unused
    except FileNotFoundError as error:
        raise CohortError(f"{manifest}: there is no such manifest. Check the path.") from error
    except IsADirectoryError as error:
        raise CohortError(f"{manifest}: is a folder. Name a CSV file, or use --normal and --unlabeled.") from error
    except UnicodeDecodeError as error:
        raise CohortError(f"{manifest}: is not UTF-8 text. Save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise CohortError(f"{manifest}: is not a CSV file ({error}).") from error
    except OSError as error:
        raise CohortError(f"{manifest}: cannot be read ({error.strerror}).") from error
    if not rows:
        raise CohortError(f"{manifest}: names no images. Add a row for each.")
    if labels_unused:
        notes.append(f"{manifest}: labels of {counted(labels_unused, 'image')} outside the test set are not used.")
    return rows, notes


def _checked_columns(manifest: Path, found: object) -> list[str]:
    columns = [str(name).strip() for name in found] if isinstance(found, list | tuple) else []
    if not columns:
        raise CohortError(f"{manifest}: is empty. Its first line names the columns: path,role,label,group,mask.")
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise CohortError(
            f"{manifest}: there is no column {' and no column '.join(missing)}; found: {', '.join(columns)}. "
            "The first line names the columns, separated by commas: path,role,label,group,mask."
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise CohortError(f"{manifest}: the column {twice[0]} stands there twice. Keep one.")
    others = [name for name in columns if name not in _REQUIRED + _OPTIONAL]
    return [f"{manifest}: columns that are not used: {', '.join(others)}."] if others else []


def _row(manifest: Path, line: int, cells: dict[str | None, str | list[str] | None]) -> tuple[Row, bool]:
    origin = f"{manifest.name}, line {line}"
    if None in cells or None in cells.values():
        raise CohortError(f"{origin}: has not as many cells as there are columns. Put quotes around a comma in a cell.")
    values = {str(name).strip(): str(cell).strip() for name, cell in cells.items()}
    if not values["path"]:
        raise CohortError(f"{origin}: path is empty. Name a file, or take the line out.")
    role = _role(origin, values["role"])
    text = values.get("label", "")
    if text not in _LABELS:
        raise CohortError(f"{origin}: label is {text!r}; use 0 for normal, 1 for abnormal, or leave it empty.")
    label = _LABELS[text]
    if role == Role.NORMAL and label == 1:
        raise CohortError(f"{origin}: role is normal but label is 1, abnormal. Correct one of them.")
    if role == Role.ABNORMAL and label == 0:
        raise CohortError(f"{origin}: role is abnormal but label is 0, normal. Correct one of them.")
    is_test = role == Role.TEST
    mask = values.get("mask", "")
    row = Row(
        path=manifest.parent / values["path"],
        role=role,
        origin=origin,
        label=label if is_test else None,
        group=values.get("group") or None,
        mask=manifest.parent / mask if mask else None,
    )
    return row, label is not None and role in (Role.NORMAL, Role.UNLABELED)


def _role(origin: str, text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        near = difflib.get_close_matches(text.lower(), list(Role), 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Use {', '.join(Role)}."
        raise CohortError(f"{origin}: unknown role {text!r}. {hint}") from error
