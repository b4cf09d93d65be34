"""The files of a results folder, read with errors that name what is wrong in them, and where."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ddad.errors import OutputError
from ddad.files import NOTHING_BUT_EMPTY_IS_MISSING

_TEXTS = dict.fromkeys(("path", "warnings", "heatmap", "flagged"), str)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OutputError: it cannot be read, or is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: damaged ({error}). Make the results again.") from error
    if not isinstance(content, dict):
        raise OutputError(f"{file}: damaged (not a JSON object). Make the results again.")
    return content


def read_text(file: Path) -> str:
    """Read a text.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: damaged ({error}). Make the results again.") from error


def read_table(file: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file whose rows are whole, with the columns that are needed.

    Raises:
        OutputError: it cannot be read, lacks a column, or a row is cut off.
    """
    try:
        _check_whole(file)
        table: pd.DataFrame = pd.read_csv(file, dtype=_TEXTS, **NOTHING_BUT_EMPTY_IS_MISSING)
    except (ValueError, csv.Error, OSError) as error:
        raise OutputError(f"{file}: cannot be read ({error}). Make the results again.") from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise OutputError(f"{file}: lacks the column {', '.join(missing)}. Make the results again.")
    return table


def numbers(
    file: Path, table: pd.DataFrame, name: str, *, among: Collection[int] = (), empty: bool = True
) -> pd.Series[float]:
    """Return a column of a table as numbers.

    Args:
        file: that the table was read from.
        table: from `read_table`.
        name: of the column.
        among: the only values that it may have, if there are such.
        empty: whether it may have no value.

    Raises:
        OutputError: a value is no number, or another one.
    """
    found: pd.Series[float] = pd.to_numeric(table[name], errors="coerce").astype(float)
    wrong = found.isna() & (table[name].notna() | (not empty))
    if among:
        wrong |= found.notna() & ~found.isin(among)
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        value = table[name].iloc[row]
        said = "nothing" if pd.isna(value) else repr(str(value))
        wanted = " or ".join(str(value) for value in among) or "a number"
        raise OutputError(
            f"{file}: line {_line_of(file, row)}, column {name}: {said}, where {wanted} belongs. "
            "Correct it, or make the results again."
        )
    return found


def _check_whole(file: Path) -> None:
    """Raise `OutputError` if the writing of a row was broken off: each row is as long as the first, and ends a line."""
    columns, line = 0, 1
    for line, row in _rows(file):
        columns = columns or len(row)
        if len(row) < columns:
            raise OutputError(
                f"{file}: line {line} is cut off: it has {len(row)} of {columns} columns. Make the results again."
            )
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - 1))
        if content.read() not in (b"\n", b""):
            raise OutputError(f"{file}: line {line} is cut off: it does not end a line. Make the results again.")


def _line_of(file: Path, row: int) -> int:
    return [line for line, _ in _rows(file)][row + 1]  # the first one holds the names of the columns


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with the line that each begins in; a name may hold line breaks."""
    with file.open(encoding="utf-8-sig", newline="") as content:
        reader = csv.reader(content)
        line = 1
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
