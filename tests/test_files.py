"""How long work took that was interrupted."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ddad.files import Stopwatch


def killed_after(workspace: Path, seconds: float) -> None:
    """Leave what a start leaves that wrote its last checkpoint `seconds` after it began, an hour ago."""
    file = workspace / "stopwatch.json"
    start = json.loads(file.read_text())
    start["since"] = time.time() - 3600
    file.write_text(json.dumps(start))
    checkpoint = workspace / "ndm-0.checkpoint"
    checkpoint.touch()
    os.utime(checkpoint, (start["since"] + seconds,) * 2)


def test_the_seconds_of_all_starts_add_up(tmp_path: Path) -> None:
    assert Stopwatch(tmp_path).seconds() == pytest.approx(0, abs=0.5)
    killed_after(tmp_path, 100)
    for written_now in ("plan.json", "lock"):
        (tmp_path / written_now).touch()
    assert Stopwatch(tmp_path).seconds() == pytest.approx(100, abs=0.5)
    killed_after(tmp_path, 40)
    assert Stopwatch(tmp_path).seconds() == pytest.approx(140, abs=0.5)


def test_a_start_that_wrote_nothing_counts_nothing(tmp_path: Path) -> None:
    Stopwatch(tmp_path)
    killed_after(tmp_path, -50)
    assert Stopwatch(tmp_path).seconds() == pytest.approx(0, abs=0.5)
