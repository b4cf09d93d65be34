"""How much of the machine this process may use: processor cores and memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from ddad.errors import SettingError

_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_LIMITS = {
    "": ("memory.max", "memory.current", "file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
}
"""By the folder of a hierarchy of control groups, in both versions: a group's limit, what it uses, and the name in
`memory.stat` of what may be dropped."""


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
    """Return how many bytes of memory this process may still take.

    The machine has a say, and every control group that the process is in: those of a container, or of a job of a batch
    system and the slices that it lies in.
    """
    free = int(psutil.virtual_memory().available)
    for hierarchy, (limit, used, droppable) in _LIMITS.items():
        for group in _control_groups(hierarchy):
            # A limit may be `max`, and any of the files may be missing.
            with suppress(OSError, ValueError, KeyError):
                stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                left = int((group / limit).read_text()) - int((group / used).read_text()) + int(stat[droppable])
                free = min(free, left)
    return max(0, free)


def _control_groups(hierarchy: str) -> list[Path]:
    """Return the folders of the groups that this process is in, the innermost first; "" is the one of version 2."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        lines = []
    root = _CGROUP / hierarchy
    for line in lines:
        _, controllers, path = line.split(":", maxsplit=2)
        if hierarchy in controllers.split(","):
            own = root / path.lstrip("/")
            return [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return [root]
