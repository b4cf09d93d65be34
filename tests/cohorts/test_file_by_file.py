from __future__ import annotations

import threading

import pytest

from ddad.cohorts.file_by_file import file_by_file
from support import RecordedProgress


def test_results_come_in_order_and_each_file_is_counted() -> None:
    progress = RecordedProgress()
    assert file_by_file(len, ["a", "bb", ""], "counting", progress) == [1, 2, 0]
    (bar,) = progress.tasks
    assert (bar.title, bar.total, bar.done) == ("counting", 3, 3)


def test_without_files_there_is_no_bar() -> None:
    progress = RecordedProgress()
    assert file_by_file(len, [], "counting", progress) == []
    assert progress.tasks == []


def test_several_are_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddad.cohorts.file_by_file.processor_cores", lambda: 2)
    meeting = threading.Barrier(2, timeout=30)
    assert sorted(file_by_file(lambda _: meeting.wait(), ["a", "b"], "meeting")) == [0, 1]
