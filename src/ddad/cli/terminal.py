"""What a person sees while `ddad` works: bars in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ddad.progress import Task

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_OF_A_START = 0.5

console = Console(stderr=True, highlight=False)
"""Everything that is not a result goes to standard error, so that `--json` stays clean."""


def say(text: str, *, style: str = "") -> None:
    """Write a line to standard error as it is: a path may hold what `rich` would take for markup."""
    console.print(text, style=style, markup=False, soft_wrap=True)


class BarProgress:
    """Draws a bar for each task, with the time left."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Open a bar `title` of `total` steps."""
        number = self._bars.add_task(title, total=total, note="")
        yield _Bar(self._bars, number)
        self._bars.update(number, note="")

    def message(self, text: str) -> None:
        """Say one line above the bars."""
        say(text)


class _Bar:
    def __init__(self, bars: Progress, number: TaskID) -> None:
        self._bars, self._number = bars, number

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """Draw `steps` more."""
        self._bars.update(self._number, advance=steps, note=note)


class LineProgress:
    """Writes a line of a task every ten seconds, and when it ends: for logs."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Begin `title`, of `total` steps."""
        line = _Line(title, total)
        yield line
        line.end()

    def message(self, text: str) -> None:
        """Write one line."""
        say(text)


class _Line:
    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._start = self._last = time.monotonic()
        self._done_before = 0

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """Write a line if the last one is old enough; of the last step, `end` tells."""
        self._done += steps
        now = time.monotonic()
        if now - self._start < _SECONDS_OF_A_START:
            self._done_before = self._done  # by an earlier process: it says nothing of how long the rest takes
        if self._done < self._total and now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            say(f"{self._title}: {self._done} of {self._total}{self._left(now)}  {note}".rstrip())

    def _left(self, now: float) -> str:
        own = self._done - self._done_before
        if own == 0:
            return ""
        return f", about {_duration((now - self._start) * (self._total - self._done) / own)} left"

    def end(self) -> None:
        """Say how long it took."""
        seconds = time.monotonic() - self._start
        say(f"{self._title}: {self._done} of {self._total}, {seconds:.1f} s")


def _duration(seconds: float) -> str:
    """Write a time in two units at most, none finer than it deserves."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def terminal_progress() -> Iterator[BarProgress | LineProgress]:
    """Yield bars if a person watches, lines otherwise."""
    if not sys.stderr.isatty():
        yield LineProgress()
        return
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
    )
    context: AbstractContextManager[object] = bars if console.is_terminal else nullcontext()
    with context:
        yield BarProgress(bars)
