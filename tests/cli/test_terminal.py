"""What stands in a log while work goes on."""

from __future__ import annotations

import pytest

from ddad.cli import terminal
from ddad.cli.terminal import LineProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the test moves on."""
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(terminal, "say", said.append)
    return said


def test_a_line_comes_every_ten_seconds_and_the_end_has_no_time_left(clock: list[float], lines: list[str]) -> None:
    with LineProgress().task("scoring", 4) as task:
        for _ in range(4):
            clock[0] += 6
            task.advance()
            if clock[0] == 118:
                assert [line.strip() for line in lines] == ["scoring: 2 of 4, about 12 s left"]
        assert len(lines) == 1
    assert lines[1:] == ["scoring: 4 of 4, 24.0 s"]


def test_the_last_step_is_told_once(clock: list[float], lines: list[str]) -> None:
    with LineProgress().task("scoring", 71) as task:
        clock[0] += 300
        task.advance(71)
    assert lines == ["scoring: 71 of 71, 300.0 s"]


def test_what_an_earlier_process_did_says_nothing_of_the_time_left(clock: list[float], lines: list[str]) -> None:
    with LineProgress().task("runs", 26) as task:
        for _ in range(20):
            task.advance()
        clock[0] += 600
        task.advance(0, note="ddad, seed 1")
        clock[0] += 600
        task.advance()
    assert lines[:2] == ["runs: 20 of 26  ddad, seed 1", "runs: 21 of 26, about 1 h 40 min left"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5969, "99 min"), (9130, "2 h 32 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert terminal._duration(seconds) == text
