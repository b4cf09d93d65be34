"""How many processor cores this process may use."""

from __future__ import annotations


def processor_cores() -> int:
    """Return the number of cores that are left to this process by affinity and container limits, at least 1."""
    # Slow to import, and not needed where nothing is computed. joblib.cpu_count says 1 where /dev/shm is not writable.
    from joblib.externals.loky import cpu_count  # type: ignore[import-untyped]

    return int(cpu_count())
