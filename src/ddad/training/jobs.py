"""Independent pieces of training, side by side: each in a process of one thread, which wins on a CPU.

A process is started as `python -m ddad.training.worker`, never forked and never by re-importing the
caller's script, so that `ddad.fit` works from a notebook or a script without a main guard.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ddad.errors import DdadError, DivergenceError, OutputError
from ddad.machine import free_memory
from ddad.progress import Progress, Task


@dataclass(frozen=True)
class Job:
    """One call of a training function, described so that another process can make it.

    Attributes:
        title: what stands beside the progress bar, e.g. `NDM network 1 of 3`.
        function: `package.module:function`; it is called with `arguments` and a keyword `report`, a function that
            takes a line about each step, and how many steps it stands for if not one.
        arguments: JSON-serialisable keyword arguments.
        steps: how often the function reports.
        output: the file that it writes last; a job whose output is there is done.
        memory: bytes that it takes at its most, where that may be much.
    """

    title: str
    function: str
    arguments: dict[str, Any]
    steps: int
    output: Path
    memory: int = 0


@dataclass(frozen=True)
class _Message:
    job: int
    kind: str
    value: Any = None


def call(job: Job, report: Callable[..., None]) -> None:
    """Run one job in this process."""
    module, _, name = job.function.partition(":")
    getattr(importlib.import_module(module), name)(**job.arguments, report=report)


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int,
    progress: Progress,
    title: str,
    on_done: Callable[[], None] | None = None,
) -> None:
    """Run the jobs that are not done yet, the first ones first; all report to one bar.

    Args:
        jobs: in the order in which they are started.
        workers: processes side by side, of one thread each, if there is memory for so many; 0 runs the jobs here, one
            after another, as suits a GPU.
        progress: told of every step.
        title: of the bar, with what it counts: `reconstruction networks, epochs`.
        on_done: called here after each job that another process has done.

    Raises:
        OutputError: the disk is full.
        DivergenceError: a network did not learn.
        DdadError: a job failed; the other jobs are stopped, their checkpoints stay.
    """
    with progress.task(title, sum(job.steps for job in jobs)) as bar:
        waiting = []
        for job in jobs:
            if job.output.exists():
                bar.advance(job.steps)
            else:
                waiting.append(job)
        if workers == 0:
            for job in waiting:
                try:
                    with _arithmetic_of_a_worker(job):
                        call(job, partial(_advance, bar, job))
                except DivergenceError as error:
                    raise DivergenceError(f"{job.title}: {error}") from error
                except RuntimeError as error:  # a GPU's memory, e.g.
                    raise DdadError(f"{job.title}: {error}") from error
        elif waiting:
            _run_processes(waiting, _with_room(waiting, workers, progress), bar, on_done)


@contextmanager
def meanwhile(job: Job) -> Iterator[Callable[[], None]]:
    """Run a job in another process while the block does something else, which needs little of a processor.

    Yields:
        A function that waits for the job's end, to be called once; it raises what `run_jobs` raises. A job that is not
        waited for is stopped.
    """
    if job.output.exists():
        yield lambda: None
        return
    messages: SimpleQueue[_Message] = SimpleQueue()
    process = _start(job, messages.put, 0)

    def wait() -> None:
        while (message := messages.get()).kind == "step":
            pass
        if message.kind == "error":
            raise _error(job, message.value)

    try:
        yield wait
    finally:
        process.terminate()
        process.wait()


def _with_room(jobs: Sequence[Job], workers: int, progress: Progress) -> int:
    """Return how many jobs run side by side: as many as are wanted, or as there is memory for, at least one."""
    each = max(job.memory for job in jobs)
    wanted = min(workers, len(jobs))
    if each * wanted == 0 or (free := free_memory()) >= each * wanted:
        return workers
    room = max(1, free // each)
    if room < wanted:
        progress.message(
            f"each of these takes about {each / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: "
            f"{room} side by side, not {wanted}"
        )
    return min(workers, room)


@contextmanager
def _arithmetic_of_a_worker(job: Job) -> Iterator[None]:
    """Compute by one thread on a CPU: sums of several threads differ, and networks would not be those of a worker."""
    import torch

    usual = torch.get_num_threads()
    if job.arguments.get("compute", {}).get("device") == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _advance(bar: Task, job: Job, value: str, steps: int = 1) -> None:
    bar.advance(steps, note=f"{job.title}  {value}" if value else "")


def _run_processes(jobs: Sequence[Job], workers: int, bar: Task, on_done: Callable[[], None] | None) -> None:
    messages: SimpleQueue[_Message] = SimpleQueue()
    running: dict[int, subprocess.Popen[str]] = {}
    waiting = list(range(len(jobs)))
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number = waiting.pop(0)
                running[number] = _start(jobs[number], messages.put, number)
            message = messages.get()
            if message.kind == "step":
                _advance(bar, jobs[message.job], message.value["value"], message.value["steps"])
            elif message.kind == "error":
                raise _error(jobs[message.job], message.value)
            else:
                running.pop(message.job)
                if on_done:
                    on_done()
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def _start(job: Job, tell: Callable[[_Message], None], number: int) -> subprocess.Popen[str]:
    # One thread each, and freed memory kept for the next step instead of returned to the system.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the most that glibc takes; it ignores a larger value
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ddad.training.worker"],  # -P: a torch.py in the current folder is not imported
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    threading.Thread(target=_listen, args=(process, tell, number), daemon=True).start()
    # The pipe stays open: the worker ends when it breaks. One that has already ended is reported by the listener.
    with suppress(BrokenPipeError):
        print(json.dumps({**asdict(job), "output": str(job.output)}), file=process.stdin, flush=True)
    return process


def _listen(process: subprocess.Popen[str], tell: Callable[[_Message], None], number: int) -> None:
    errors: list[str] = []
    finished = False
    with suppress(BrokenPipeError), process:  # closes the pipes, that of a job which nobody read too
        drain = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        drain.start()
        for line in process.stdout or ():
            content = json.loads(line)
            if content["kind"] == "error":
                tell(_Message(number, "error", content))
                finished = True
            elif content["kind"] == "step":
                tell(_Message(number, "step", content))
            else:
                finished = True
                tell(_Message(number, "done"))
        drain.join()
    if not finished:
        content = {"type": "crash", "code": process.returncode, "text": "".join(errors[-30:])}
        tell(_Message(number, "error", content))


def _error(job: Job, content: dict[str, Any]) -> DdadError:
    if content["type"] == "OutputError":
        return OutputError(content["text"])
    if content["type"] == "DivergenceError":
        return DivergenceError(f"{job.title}: {content['text']}")
    if content["type"] == "crash" and content["code"] == -9:
        return DdadError(f"{job.title}: the process was killed (out of memory?). Run the same command again to go on.")
    return DdadError(f"{job.title}: {content['text']}")
