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


@pytest.mark.parametrize("hierarchy", ["", "memory"], ids=["version 2", "version 1"])
@pytest.mark.parametrize(
    "limited", ["", "batch.slice/job 7", "batch.slice"], ids=["container", "job", "slice of a job"]
)
def test_memory_is_that_of_the_groups_of_this_process(
    hierarchy: str, limited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in the cache count as used, but are dropped when memory is asked for."""
    own = "" if not limited else "batch.slice/job 7"
    (tmp_path / "cgroup").write_text(f"4:cpu,memory:/{own}\n0::/{own}\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "cgroup")
    (tmp_path / hierarchy / own).mkdir(exist_ok=True, parents=True)
    group = tmp_path / hierarchy / limited
    limit, used, droppable = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")
        if hierarchy
        else ("memory.max", "memory.current", "file")
    )
    (group / limit).write_text("1000000")
    (group / used).write_text("700000")
    (group / "memory.stat").write_text(f"anon 9\n{droppable} 200000\n")
    assert free_memory() == 500_000
    (group / limit).write_text("max")
    assert free_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_system_without_control_groups_has_all_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path / "none")
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "none")
    assert free_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
