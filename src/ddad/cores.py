"""How many processor cores this process may use."""

from __future__ import annotations

from ddad.errors import SettingError


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
