"""How much memory a piece of work takes at its most, with the processes that it starts."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_SECONDS_BETWEEN_SAMPLES = 0.25
_SECONDS_BETWEEN_CLOSE_LOOKS = 5.0
_NEWS = 1.01


class PeakMemory:
    """The largest memory seen so far: of this process and all that it started, together."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._most_resident = 0
        self._looked_closely = -math.inf
        self.peak_bytes = 0

    def sample(self) -> None:
        """Look once. Pages that processes share are counted once where the system tells (Linux), else in each.

        Telling shared pages apart holds the processes up. So it is done where more is resident than ever, and now and
        then where there may be more with shared pages counted once: where there is less resident, there cannot.
        """
        processes = (self._process, *self._process.children(recursive=True))
        resident = sum(_bytes(process, shared_once=False) for process in processes)
        now = time.monotonic()
        rarely = now - self._looked_closely > _SECONDS_BETWEEN_CLOSE_LOOKS
        if resident > _NEWS * self._most_resident or (rarely and resident > self.peak_bytes):
            self._most_resident, self._looked_closely = max(self._most_resident, resident), now
            self.peak_bytes = max(self.peak_bytes, sum(_bytes(process, shared_once=True) for process in processes))


def _bytes(process: psutil.Process, *, shared_once: bool) -> int:
    try:
        if shared_once:
            full = process.memory_full_info()
            return int(getattr(full, "pss", full.rss))
    except psutil.AccessDenied:
        pass  # of another user, as some systems see it
    except (psutil.Error, OSError):
        return 0  # ended in between
    try:
        return int(process.memory_info().rss)
    except (psutil.Error, OSError):
        return 0


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
