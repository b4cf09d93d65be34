"""How much of the machine this process may use: processor cores and memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from ddad.errors import SettingError

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current", "file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "cache"),
)
"""Of a container, in both versions: its limit, what it uses, and the name in `memory.stat` of what may be dropped."""


def checked_workers(workers: int) -> int:
    """Return a number of workers if it is one; 0 leaves all work to the caller.

    Raises:
        SettingError: it is no whole number, or below 0.
    """
    if not isinstance(workers, int) or workers < 0:
        raise SettingError(f"workers: {workers!r} is no number of workers. Give 0 or more, or None for one a core.")
    return workers


def processor_cores() -> int:
    """Return the number of cores that are left to this process by affinity and container limits, at least 1."""
    # Slow to import, and not needed where nothing is computed. joblib.cpu_count says 1 where /dev/shm is not writable.
    from joblib.externals.loky import cpu_count  # type: ignore[import-untyped]

    return int(cpu_count())


def free_memory() -> int:
    """Return how many bytes of memory this process may still take, by the machine and by the limits of a container."""
    free = int(psutil.virtual_memory().available)
    for limit, used, droppable in _LIMITS:
        # A limit may be `max`, and any of the files may be missing.
        with suppress(OSError, ValueError, KeyError):
            stat = (_CGROUP / limit).with_name("memory.stat").read_text().splitlines()
            cached = int(dict(line.split() for line in stat)[droppable])
            left = int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text()) + cached
            free = min(free, left)
    return max(0, free)
