"""Words of messages that depend on a number."""

from __future__ import annotations


def counted(count: int, one: str, several: str = "") -> str:
    """Say how many there are, in words that fit the number; several are by default those of one and an `s`."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"
