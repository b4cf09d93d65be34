from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ddad.errors import DdadError, DivergenceError, OutputError
from ddad.training import jobs as jobs_module
from ddad.training.jobs import Job, meanwhile, run_jobs
from support import TESTS, RecordedProgress, is_alive, wait_for


@pytest.fixture(autouse=True)
def workers_find_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    def make(name: str, function: str = "write_job", steps: int = 1, **arguments: Any) -> Job:
        output = tmp_path / f"{name} é"
        if function == "write_job":
            arguments = {"text": name, "steps": steps, **arguments}
        return Job(name, f"support:{function}", {"into": str(output), **arguments}, steps, output)

    return make


def runs_of(job: Job) -> list[int]:
    file = Path(f"{job.output}.runs")
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def run(jobs: list[Job], workers: int) -> RecordedProgress:
    progress = RecordedProgress()
    run_jobs(jobs, workers=workers, progress=progress, title="all jobs")
    return progress


@pytest.mark.parametrize("workers", [0, 2])
def test_all_jobs_run_and_report_to_one_bar(job: Callable[..., Job], workers: int) -> None:
    jobs = [job("first", steps=3), job("second", steps=3)]
    (bar,) = run(jobs, workers).tasks
    assert [done.output.read_text() for done in jobs] == ["first", "second"]
    assert (bar.title, bar.total, bar.done) == ("all jobs", 6, 6)
    assert any("second" in note and "step 1" in note for note in bar.notes)
    pids = {pid for done in jobs for pid in runs_of(done)}
    assert (pids == {os.getpid()}) == (workers == 0)
    assert len(pids) == (1 if workers == 0 else 2)


def test_each_job_that_a_process_has_done_is_told(job: Callable[..., Job]) -> None:
    jobs = [job(name) for name in ("first", "second", "third")]
    there: list[int] = []

    def count() -> None:
        there.append(sum(one.output.exists() for one in jobs))

    run_jobs(jobs, workers=1, progress=RecordedProgress(), title="all jobs", on_done=count)
    assert there == [1, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_job_whose_output_is_there_is_not_run_again(job: Callable[..., Job], workers: int) -> None:
    jobs = [job("done", steps=4), job("new", steps=1)]
    jobs[0].output.write_text("from before")
    (bar,) = run(jobs, workers).tasks
    assert jobs[0].output.read_text() == "from before"
    assert runs_of(jobs[0]) == []
    assert len(runs_of(jobs[1])) == 1
    assert bar.done == bar.total == 5


@pytest.mark.parametrize(("free", "room"), [(50, 3), (20, 2), (1, 1)])
def test_no_more_jobs_run_side_by_side_than_there_is_memory_for(
    free: int, room: int, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would end one of them, and the same command would end so again."""
    asked: list[int] = []
    monkeypatch.setattr(jobs_module, "free_memory", lambda: free * 10**9)
    monkeypatch.setattr(jobs_module, "_run_processes", lambda _, workers, *__: asked.append(workers))
    progress = run([replace(job(name), memory=10 * 10**9) for name in ("first", "second", "third")], workers=3)
    assert asked == [room]
    assert progress.messages == (
        []
        if room == 3
        else [f"each of these takes about 10.0 GB of memory, and {free}.0 GB are free: {room} side by side, not 3"]
    )
    run([job("small")], workers=3)
    assert asked == [room, 3]


def test_no_jobs_are_no_trouble() -> None:
    run([], 2)


def test_workers_have_one_thread_each(job: Callable[..., Job]) -> None:
    threads = job("threads", "threads_job")
    run([threads], 1)
    assert threads.output.read_text() == "1"


def test_what_a_job_prints_does_not_mix_with_its_reports(
    job: Callable[..., Job], capfd: pytest.CaptureFixture[str]
) -> None:
    chatty = job("chatty", "chatty_job")
    (bar,) = run([chatty], 1).tasks
    assert chatty.output.read_text() == "done"
    assert bar.done == 1
    assert capfd.readouterr().out == ""


def test_what_a_compiled_library_prints_does_not_hang_the_run(job: Callable[..., Job]) -> None:
    loud = job("loud", "printing_from_c_job")
    code = (
        "import sys, support; from pathlib import Path; from ddad.training.jobs import Job, run_jobs\n"
        "out = Path(sys.argv[1])\n"
        "job = Job('loud', 'support:printing_from_c_job', {'into': str(out)}, 1, out)\n"
        "run_jobs([job], workers=1, progress=support.RecordedProgress(), title='x')"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(loud.output)], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.fail("a line on standard output that is no report stops the run for ever")
    assert done.returncode == 0, done.stderr
    assert loud.output.read_text() == "done"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_job_gives_its_own_words(job: Callable[..., Job], workers: int) -> None:
    failing = job("member 2", "failing_job", kind="ddad")
    with pytest.raises(DdadError, match="the reason of the failure") as caught:
        run([failing], workers)
    assert str(failing.output) in str(caught.value)
    assert not failing.output.exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_in_a_job_is_an_output_error(job: Callable[..., Job], workers: int) -> None:
    with pytest.raises(OutputError, match="the disk is full"):
        run([job("a", "failing_job", kind="output")], workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_network_that_diverged_is_named(job: Callable[..., Job], workers: int) -> None:
    with pytest.raises(DivergenceError, match=r"^member 2: training diverged: loss is nan$"):
        run([job("member 2", "failing_job", kind="diverged")], workers)


def test_a_mistake_in_a_job_is_shown_with_the_jobs_title(job: Callable[..., Job]) -> None:
    with pytest.raises(DdadError, match=r"(?s)member 2.*a mistake in the program"):
        run([job("member 2", "failing_job", kind="crash")], 1)


def test_a_killed_job_is_said_to_be_killed(job: Callable[..., Job]) -> None:
    with pytest.raises(DdadError, match=r"member 2.*killed.*again"):
        run([job("member 2", "failing_job", kind="killed")], 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_device_is_shown_with_the_jobs_title(job: Callable[..., Job], workers: int) -> None:
    with pytest.raises(DdadError, match=r"(?s)starving: .*out of memory"):
        run([job("starving", "starving_job")], workers)


def test_files_of_the_current_folder_are_not_imported(
    job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    run([job("only")], 1)


def test_a_worker_that_ends_at_once_is_shown_with_its_words(
    job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('this torch cannot be imported')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{TESTS}")
    jobs = [job(str(number)) for number in range(4)]
    with pytest.raises(DdadError, match="this torch cannot be imported"):
        run(jobs, 2)


def test_a_failing_job_stops_the_others(job: Callable[..., Job]) -> None:
    endless, failing, later = job("endless", "endless_job"), job("f", "failing_job", kind="ddad"), job("later")
    with pytest.raises(DdadError, match="the reason"):
        run([endless, failing, later], 2)
    pid_file = Path(f"{endless.output}.pid")
    if pid_file.exists():
        assert not is_alive(int(pid_file.read_text()))
    assert not endless.output.exists()
    assert runs_of(later) == []


@pytest.mark.parametrize("function", ["endless_job", "silent_job"])
def test_workers_stop_when_the_process_that_asked_for_them_is_killed(tmp_path: Path, function: str) -> None:
    code = (
        "import sys, support; from pathlib import Path; from ddad.training.jobs import Job, run_jobs\n"
        "out = Path(sys.argv[1])\n"
        f"job = Job('endless', 'support:{function}', {{'into': str(out)}}, 9999, out)\n"
        "run_jobs([job], workers=1, progress=support.RecordedProgress(), title='x')"
    )
    out = tmp_path / "out"
    asking = subprocess.Popen([sys.executable, "-c", code, str(out)])
    pid_file = Path(f"{out}.pid")
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text())
    worker = int(pid_file.read_text())
    assert is_alive(worker)
    asking.kill()
    asking.wait()
    assert wait_for(lambda: not is_alive(worker), 5)


def test_a_job_runs_meanwhile_and_is_waited_for(job: Callable[..., Job]) -> None:
    one = job("one", steps=3)
    with meanwhile(one) as wait:
        wait()
        assert one.output.exists()
    with meanwhile(one) as wait:
        wait()
    assert len(runs_of(one)) == 1


def test_a_job_that_fails_meanwhile_gives_its_own_words_where_it_is_waited_for(job: Callable[..., Job]) -> None:
    with meanwhile(job("f", "failing_job", kind="ddad")) as wait, pytest.raises(DdadError, match="the reason"):
        wait()


def test_a_job_that_is_not_waited_for_is_stopped(job: Callable[..., Job]) -> None:
    endless = job("endless", "endless_job")
    pid_file = Path(f"{endless.output}.pid")

    def interrupted() -> None:
        with meanwhile(endless):
            assert wait_for(lambda: pid_file.exists() and pid_file.read_text())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not is_alive(int(pid_file.read_text()))
    assert not endless.output.exists()
