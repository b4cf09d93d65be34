"""How many cores and how much memory a process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ddad import machine
from ddad.machine import free_memory


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_cores_that_a_process_may_not_use_do_not_count() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from ddad.machine import processor_cores; print(processor_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_cores_count_where_no_semaphore_can_be_made() -> None:
    code = (
        "import _multiprocessing, os\n"
        "class Refused(_multiprocessing.SemLock):\n"
        "    def __new__(cls, *args, **settings): raise OSError('no /dev/shm')\n"
        "_multiprocessing.SemLock = Refused\n"
        "from joblib.externals.loky import cpu_count\n"
        "from ddad.machine import processor_cores; print(processor_cores() == cpu_count())"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("folder", ["", "memory"])
def test_memory_is_that_of_the_container(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in the cache count as used, but are dropped when memory is asked for."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "cache") if folder else (
        "memory.max", "memory.current", "file"
    )  # fmt: skip
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, content in (
        *zip(names, ("1000000", "700000"), strict=False),
        ("memory.stat", f"anon 9\n{names[2]} 200000\n"),
    ):
        (tmp_path / folder / name).write_text(content)
    assert free_memory() == 500_000
    (tmp_path / folder / names[0]).write_text("max")
    assert free_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
