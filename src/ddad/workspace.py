"""Unfinished work that is kept beside its output: whose it is, who is at it, and how it becomes the output."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ddad.errors import CohortError, DivergenceError, OutputError, writing_to
from ddad.files import MARKER, sha256, sweep_partial, take_place, write_atomically

try:
    import fcntl
except ImportError:  # not a POSIX system: two runs into one folder are then not noticed
    fcntl = None  # type: ignore[assignment]

_WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What file systems say that have no locks, as some of clusters: two runs into one folder are then not noticed."""
_PLAN, _LOCK, _STOPWATCH = "plan.json", "lock", "stopwatch.json"
_BEGUN_WITH = "begun-with.json"


class Workspace:
    """A folder beside an output for unfinished work, which says what that work is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def beside(cls, output: Path) -> Workspace:
        """Return the workspace of an output folder: `OUTPUT.unfinished`.

        Raises:
            OutputError: the output is the root of the file system.
        """
        if not output.name:
            raise OutputError(f"{output}: is the root of the file system. Give the output a folder of its own.")
        return cls(output.with_name(f"{output.name}.unfinished"))

    def holds(self, plan: dict[str, Any]) -> bool:
        """Tell whether unfinished work of this plan lies here."""
        file = self.folder / _PLAN
        with writing_to(self.folder):
            return file.exists() and digest(json.loads(file.read_text(encoding="utf-8"))) == digest(plan)

    @contextmanager
    def claimed(self, plan: dict[str, Any], *, overwrite: bool) -> Iterator[Path]:
        """Go on if the same plan lies here, start if nothing does, and refuse otherwise.

        Work that ends in a `DivergenceError` is dropped, and so is what began now and ends in a `CohortError`: the
        same plan would end so again. Where work goes on, images that can no longer be read may come back.

        Raises:
            OutputError: other work lies here and `overwrite` is False, another process is at it, or the folder is none
                of ours.
        """
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in self.folder.iterdir()}
        if names and not names & {_PLAN, _LOCK}:
            raise OutputError(
                f"{self.folder}: is in the way: unfinished work goes there, and it holds files that ddad did not "
                "write. Rename it, or choose another --out."
            )
        with locked(self.folder / _LOCK) as mine:
            if not mine:
                raise OutputError(f"{self.folder}: another process is working here. Wait for it.")
            is_new = not self.holds(plan)
            if is_new:
                self._start(plan, overwrite=overwrite)
            else:
                sweep_partial(self.folder)
            try:
                yield self.folder
            except DivergenceError:
                self.remove()
                raise
            except CohortError:
                if is_new:
                    self.remove()
                raise

    def _start(self, plan: dict[str, Any], *, overwrite: bool) -> None:
        file = self.folder / _PLAN
        if file.exists() and not overwrite:
            raise OutputError(
                f"{self.folder}: unfinished work on other data or with other settings lies here. Run it again "
                "as it was to finish it, choose another --out, or pass --overwrite to drop it."
            )
        with writing_to(self.folder):
            # The plan goes first and comes last: without one, what lies here is what a kill left of dropped work.
            file.unlink(missing_ok=True)
            _remove(path for path in self.folder.iterdir() if path.name != _LOCK)  # it is held
        write_atomically(file, json.dumps(plan).encode())

    def remove(self) -> None:
        """Drop the workspace and what lies in it; the lock goes last, by which what a kill leaves is known as ours."""
        with suppress(OSError):
            _remove(path for path in self.folder.iterdir() if path.name != _LOCK)
        shutil.rmtree(self.folder, ignore_errors=True)


def check_begun_with(workspace: Path, files: dict[str, Path]) -> None:
    """Make sure that work which goes on has the same images before it as when it began; note them when it begins.

    What has been trained does not go with other images: normals that are held out now may be those it was trained on.

    Args:
        workspace: the folder of the work.
        files: by what they are called, the files that are trained on.

    Raises:
        CohortError: a file is another than it was.
    """
    note = workspace / _BEGUN_WITH
    then = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    now = {name: sha256(file) for name, file in files.items()}
    if changed := [name for name in now if then.get(name, now[name]) != now[name]]:
        raise CohortError(
            f"{', '.join(changed)}: what can be read now, or its order, is not what the unfinished work in {workspace} "
            "began with. Make all files readable again and run the same command, or delete that folder to begin anew."
        )
    if not now.keys() <= then.keys():
        write_atomically(note, json.dumps(then | now).encode())


def digest(plan: object) -> str:
    """Return a SHA-256 of what can be written as JSON, such as a plan, by which what was made by it is known."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def publish(finished: Path, target: Path) -> None:
    """Give finished work its final name, in place of what was there, without what only the work needed.

    That is plan and lock, and hidden files: a result has none but `.ddad`.

    Raises:
        OutputError: the disk is full or the place may not be written to.
    """
    take_place(finished, target)
    with writing_to(target):
        hidden = (path for path in target.glob(".*") if path.name != MARKER)
        _remove([*hidden, target / _PLAN, target / _LOCK])


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class Stopwatch:
    """Seconds of work in a workspace, over all its starts; one that was killed counts until it last wrote a file."""

    def __init__(self, workspace: Path) -> None:
        file = workspace / _STOPWATCH
        self._before = 0.0
        if file.exists():
            seen = json.loads(file.read_text(encoding="utf-8"))
            # Plan and lock were written by the present start.
            others = (one for one in workspace.iterdir() if one.name not in (_STOPWATCH, _PLAN, _LOCK))
            last = max((one.stat().st_mtime for one in others), default=0.0)
            self._before = seen["before"] + max(0.0, last - seen["since"])
        write_atomically(file, json.dumps({"before": self._before, "since": time.time()}).encode())
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds until now."""
        return self._before + time.monotonic() - self._started


@contextmanager
def locked(path: Path, *, wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold a lock file, and yield whether it could be had.

    The holder may delete the file once the work that it guards is stored, if whoever takes the lock next looks for
    that work first.

    Args:
        path: the lock file, made if it is not there.
        wait: called again and again while another process holds it; without it there is no waiting.

    Raises:
        OutputError: the place may not be written to.
    """
    with writing_to(path):
        file = path.open("w")
    with file:
        while fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if wait is None:
                    yield False
                    return
                wait()
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:
                    raise
                break
        yield True
