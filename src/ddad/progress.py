"""How long work tells its caller where it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from typing_extensions import override

from ddad.errors import SettingError


class Task(Protocol):
    """One bar: a piece of work with a known number of steps."""

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """Report `steps` more steps done; `note` is shown beside the bar."""


class Progress(Protocol):
    """What a fit or a scoring run reports to: the command line draws it, a library user may ignore it."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Open a bar `title` of `total` steps."""
        ...

    def message(self, text: str) -> None:
        """Say one line beside the bars."""


class _SilentTask:
    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """Say nothing."""


class SilentProgress(Progress):
    """Reports to nobody."""

    @override
    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Open a bar that nobody sees."""
        yield _SilentTask()

    def message(self, text: str) -> None:
        """Say nothing."""


def listener(progress: Progress | None) -> Progress:
    """Return whom work reports to, nobody for None.

    Raises:
        SettingError: it is no `Progress`, but e.g. True.
    """
    if progress is None:
        return SilentProgress()
    if not callable(getattr(progress, "task", None)):
        raise SettingError(
            f"progress: {progress!r} cannot be told of work. Take what 'with ddad.cli.terminal.terminal_progress() as "
            "progress' gives, or None."
        )
    return progress
