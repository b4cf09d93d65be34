"""Files and folders that appear whole or not at all, and unfinished work that is kept."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddad.errors import OutputError, writing_to

try:
    import fcntl
except ImportError:  # not a POSIX system: two runs into one folder are then not noticed
    fcntl = None  # type: ignore[assignment]

MARKER = ".ddad"
"""A file in every folder that `ddad` wrote: only such a folder may be replaced."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        OutputError: the disk is full or the place may not be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing_to(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def let_go(array: NDArray[Any]) -> None:
    """Let what was read of a mapped `.npy` file leave this process's memory; it stays in the system's cache.

    Any other array is left as it is.
    """
    mapped: Any = array.base
    # Not on Windows; and only where nothing can be lost that was written.
    if isinstance(array, np.memmap) and array.mode == "r" and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def write_run(folder: Path, model: dict[str, Any]) -> None:
    """Write `run.json`: which model made the results in `folder`, which is not yet at its final place."""
    content = {"format": "ddad-run", "format_version": 1, "model": model}
    (folder / "run.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def output_folder(folder: str | Path, *, overwrite: bool, inputs: Iterable[str | Path] = ()) -> Path:
    """Check, before any work, that a folder may be written, and return it as an absolute path.

    Args:
        folder: the folder to write.
        overwrite: whether a folder that `ddad` wrote earlier may be replaced.
        inputs: files and folders that are read; the output may not lie in, or hold, one of them.

    Raises:
        OutputError: the folder holds something that may not be replaced.
    """
    resolved = Path(folder).resolve()
    for path in inputs:
        source = Path(path).resolve()
        if resolved.is_relative_to(source) or source.is_relative_to(resolved):
            raise OutputError(f"{folder}: lies in, or holds, the input {path}. Choose another place for the output.")
    if resolved == Path.cwd() or resolved.parent == resolved:
        raise OutputError(f"{folder}: is the current folder. Give the output a folder of its own.")
    with writing_to(folder):
        if resolved.exists() and not resolved.is_dir():
            raise OutputError(f"{folder}: is a file, but a folder is to be written there. Choose another name.")
        if resolved.is_dir() and any(resolved.iterdir()):
            if not overwrite:
                raise OutputError(f"{folder}: exists already. Choose another name, or pass --overwrite to replace it.")
            if not (resolved / MARKER).exists():
                raise OutputError(
                    f"{folder}: was not written by ddad, so --overwrite does not replace it. Choose another name."
                )
    return resolved


def output_file(file: Path, option: str) -> None:
    """Check, before any work, that a file may be written at a place.

    Args:
        file: the file to write.
        option: of the command line that names it, for messages.

    Raises:
        OutputError: it is a folder, in no folder, or has a name that no file can have.
    """
    with writing_to(file):
        if file.is_dir():
            raise OutputError(f"{file}: is a folder. Give {option} the name of a file.")
        if not file.parent.is_dir():
            raise OutputError(f"{file}: there is no folder {file.parent}. Make it, or choose another {option}.")


@contextmanager
def whole_folder(folder: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; it takes the name `folder` when the block ends without an error.

    Raises:
        OutputError: `folder` is there already and may not be replaced, or the disk is full.
    """
    target = output_folder(folder, overwrite=overwrite)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with writing_to(target):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    try:
        yield partial
        take_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def take_place(finished: Path, target: Path) -> None:
    """Give a finished folder its final name, in place of what was there."""
    with writing_to(target):
        (finished / MARKER).touch()
        if target.exists():
            shutil.rmtree(target)
        finished.rename(target)


class Workspace:
    """A folder beside an output for unfinished work, which says what that work is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def beside(cls, output: Path) -> Workspace:
        """Return the workspace of an output folder: `OUTPUT.unfinished`."""
        return cls(output.with_name(f"{output.name}.unfinished"))

    @classmethod
    def temporary(cls) -> Workspace:
        """Return a workspace that nobody comes back to."""
        return cls(Path(tempfile.mkdtemp(prefix="ddad-")))

    def holds(self, plan: dict[str, Any]) -> bool:
        """Tell whether unfinished work of this plan lies here."""
        file = self.folder / "plan.json"
        with writing_to(self.folder):
            return file.exists() and bool(json.loads(file.read_text(encoding="utf-8")) == plan)

    @contextmanager
    def claimed(self, plan: dict[str, Any], *, overwrite: bool) -> Iterator[Path]:
        """Go on if the same plan lies here, start if nothing does, and refuse otherwise.

        Raises:
            OutputError: other work lies here and `overwrite` is False, or another process is at it.
        """
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        with lock:
            if fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise OutputError(f"{self.folder}: another process is working here. Wait for it.") from None
            with writing_to(self.folder):
                self._take_up(plan, overwrite=overwrite)
            yield self.folder

    def _take_up(self, plan: dict[str, Any], *, overwrite: bool) -> None:
        file = self.folder / "plan.json"
        if file.exists() and not self.holds(plan):
            if not overwrite:
                raise OutputError(
                    f"{self.folder}: unfinished work on other data or with other settings lies here. Run it again "
                    "as it was to finish it, choose another --out, or pass --overwrite to drop it."
                )
            for other in self.folder.iterdir():
                if other.is_dir():
                    shutil.rmtree(other)
                elif other.name != "lock":  # it is held
                    other.unlink()
        write_atomically(file, json.dumps(plan).encode())

    def remove(self) -> None:
        """Drop the workspace and what lies in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Stopwatch:
    """Seconds of work in a workspace, over all its starts; one that was killed counts until it last wrote a file."""

    def __init__(self, workspace: Path) -> None:
        file = workspace / "stopwatch.json"
        self._before = 0.0
        if file.exists():
            seen = json.loads(file.read_text(encoding="utf-8"))
            # Plan and lock were written by the present start.
            others = (one for one in workspace.iterdir() if one.name not in (file.name, "plan.json", "lock"))
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
        yield True


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
