"""The table that grows while images are scored."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ddad.report.findings import _Table

ROWS = [
    {"path": "a.png", "flagged": True, "warnings": ""},
    {"path": 'b, "é".png', "flagged": False, "warnings": "a doubt"},
    {"path": "c.png", "flagged": True, "warnings": "a doubt; another"},
]


def written(path: Path) -> bytes:
    table = _Table(path)
    assert not table.open().paths
    for row in ROWS:
        table.append(row)
    return path.read_bytes()


@pytest.mark.parametrize("lines", range(5))
def test_a_row_that_was_cut_off_is_dropped_and_the_table_goes_on(tmp_path: Path, lines: int) -> None:
    """Killed before anything, after the header, or within a row: the table ends as without the kill."""
    file = tmp_path / "findings.csv"
    whole = written(file)
    kept = b"".join(whole.splitlines(keepends=True)[:lines])
    file.write_bytes(kept + whole[len(kept) :][:5])
    table = _Table(file)
    done = table.open()
    finished = ROWS[: max(0, lines - 1)]
    assert file.read_bytes() == kept
    assert done.paths == {row["path"] for row in finished}
    assert done.flagged == sum(row["flagged"] is True for row in finished)
    assert done.doubtful == sum(bool(row["warnings"]) for row in finished)
    for row in ROWS[len(finished) :]:
        table.append(row)
    assert file.read_bytes() == whole
    assert pd.read_csv(file)["path"].tolist() == [row["path"] for row in ROWS]
