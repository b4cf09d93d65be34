"""How many processor cores this process may use."""

from __future__ import annotations


def processor_cores() -> int:
    """Return the number of cores that are left to this process by affinity and container limits, at least 1."""
    import joblib  # slow to import, and not needed where nothing is computed

    return int(joblib.cpu_count())
