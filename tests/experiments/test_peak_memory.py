"""The peak memory of a block and of what it starts."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from ddad.experiments import peak_memory as peak_memory_module
from ddad.experiments.peak_memory import PeakMemory, peak_memory

HOLD = "block = bytearray(80_000_000); print('there', flush=True); input()"


def hold_in_another_process() -> subprocess.Popen[str]:
    held = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    assert held.stdout.readline() == "there\n"
    return held


def test_what_a_block_starts_counts_and_what_has_ended_does_not_take_the_peak_away() -> None:
    before = PeakMemory()
    before.sample()
    with peak_memory() as watched, hold_in_another_process() as held:
        while watched.peak_bytes < before.peak_bytes + 60_000_000:
            watched.sample()
        held.communicate("\n")
    assert watched.peak_bytes >= before.peak_bytes + 60_000_000


def test_where_shared_pages_may_not_be_seen_resident_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: psutil.Process) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "memory_full_info", refuse)
    watched = PeakMemory()
    watched.sample()
    assert watched.peak_bytes > 10_000_000


def test_a_later_peak_is_seen_although_less_is_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """First two processes share most of their pages, then one has many of its own."""
    sizes, clock = {"resident": 900, "shared once": 500}, [0.0]
    monkeypatch.setattr(
        peak_memory_module, "_bytes", lambda _, shared_once: sizes["shared once" if shared_once else "resident"]
    )
    monkeypatch.setattr(peak_memory_module.time, "monotonic", lambda: clock[0])
    watched = PeakMemory()
    watched.sample()
    assert watched.peak_bytes == 500
    sizes.update({"resident": 800, "shared once": 800})
    watched.sample()
    assert watched.peak_bytes == 500
    clock[0] = 6.0
    watched.sample()
    assert watched.peak_bytes == 800
