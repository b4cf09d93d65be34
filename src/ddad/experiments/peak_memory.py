"""How much memory a piece of work takes at its most, with the processes that it starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_SECONDS_BETWEEN_SAMPLES = 0.25


class PeakMemory:
    """The largest memory seen so far: of this process and all that it started, together."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.peak_bytes = 0

    def sample(self) -> None:
        """Look once. Pages that processes share are counted once where the system tells (Linux), else in each."""
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                total += _bytes(process)
            except (psutil.Error, OSError):
                continue  # ended in between
        self.peak_bytes = max(self.peak_bytes, total)


def _bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    return int(getattr(full, "pss", full.rss))


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Watch the memory of a block; afterwards, `peak_bytes` of what is yielded is final."""
    watched = PeakMemory()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_SECONDS_BETWEEN_SAMPLES):
            watched.sample()

    thread = threading.Thread(target=watch, daemon=True)
    watched.sample()
    thread.start()
    try:
        yield watched
    finally:
        done.set()
        thread.join()
        watched.sample()
