"""How many cores a process may use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_cores_that_a_process_may_not_use_do_not_count() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from ddad.cores import processor_cores; print(processor_cores())"
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
        "from ddad.cores import processor_cores; print(processor_cores() == cpu_count())"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
