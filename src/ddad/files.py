"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
from numpy.typing import NDArray

from ddad.errors import OutputError, writing_to

MARKER = ".ddad"
"""A file in every folder that `ddad` wrote: only such a folder may be replaced."""
NOTHING_BUT_EMPTY_IS_MISSING: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
"""How `pandas.read_csv` reads a table of ours: a file or a patient may be called NA, None or null."""
_MARK_WITHIN = 600


def is_there(path: Path) -> bool:
    """Tell whether a path exists; False also where it may not be looked for, at which `Path.exists` raises."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Do as `is_there`, of folders."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Do as `is_there`, of files."""
    return os.path.isfile(path)  # noqa: PTH113


def is_link(path: Path) -> bool:
    """Do as `is_there`, of links."""
    return os.path.islink(path)  # noqa: PTH114


def real(path: str | Path) -> Path:
    """Return an absolute path without links; where they lead in a circle too, at which `Path.resolve` raises."""
    return Path(os.path.realpath(path))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; it takes the name `path` when the block ends without an error.

    Raises:
        OutputError: the disk is full or the place may not be written to.
    """
    partial = _hidden(path, "partial")
    with writing_to(path):
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        OutputError: the disk is full or the place may not be written to.
    """
    with whole_file(path) as file:
        file.write(content)


def let_go(array: NDArray[Any]) -> None:
    """Let what was read of a mapped `.npy` file leave this process's memory; it stays in the system's cache.

    Any other array is left as it is.
    """
    mapped: Any = array.base
    # Not on Windows; and only where nothing can be lost that was written.
    if isinstance(array, np.memmap) and array.mode == "r" and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def output_folder(folder: str | Path, *, overwrite: bool, apart_from: Iterable[str | Path] = ()) -> Path:
    """Check, before any work, that a folder may be written, and return it as an absolute path.

    Args:
        folder: the folder to write.
        overwrite: whether a folder that `ddad` wrote earlier may be replaced.
        apart_from: inputs and other outputs; the folder may not lie in, or hold, one of them.

    Raises:
        OutputError: the folder holds something that may not be replaced.
    """
    resolved = real(folder)
    check_apart(folder, apart_from)
    if resolved == Path.cwd() or resolved.parent == resolved:
        raise OutputError(f"{folder}: is the current folder. Give the output a folder of its own.")
    with writing_to(folder):
        if resolved.is_mount():
            raise OutputError(
                f"{folder}: is a mount point, which a result cannot take the place of. Name a folder in it."
            )
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


def check_apart(folder: str | Path, others: Iterable[str | Path]) -> None:
    """Check that a folder to write does not lie in, or hold, an input or another output.

    Raises:
        OutputError: it does.
    """
    resolved = real(folder)
    for path in others:
        other = real(path)
        if resolved.is_relative_to(other) or other.is_relative_to(resolved):
            raise OutputError(
                f"{folder}: is, lies in, or holds {path}, which is read or written too. Choose another place for it."
            )


def check_results_apart(out: str | Path, data: str | Path) -> None:
    """Check that results are not written among the files of a benchmark folder; a folder of their own in it will do.

    Raises:
        OutputError: they would be.
    """
    written, read = real(out), real(data)
    if written == read or written.is_relative_to(read / "images"):
        raise OutputError(f"{out}: is the benchmark folder {data}, or lies among its images. Choose another --out.")


@contextmanager
def folder_for(folder: Path) -> Iterator[None]:
    """Make a folder, if it is not there, for files that the block writes; a block that fails leaves no empty one.

    Raises:
        OutputError: it cannot be made.
    """
    new = [place for place in (folder, *folder.parents) if not is_there(place)]
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # one that holds something stays
            for place in new:
                place.rmdir()
        raise


def spare(folders: Iterable[Path], outputs: Iterable[Path | None]) -> None:
    """Check, before any work, that no folder that is read is, or lies in, a folder to write, which it could replace.

    Args:
        folders: that are read.
        outputs: folders to write; None for one that is not wanted.

    Raises:
        OutputError: an output would take the place of what is read.
    """
    read = {real(folder): folder for folder in folders}
    for output in outputs:
        if output is None:
            continue
        target = real(output)
        for place, folder in read.items():
            if place.is_relative_to(target):
                raise OutputError(f"{output}: is, or holds, {folder}, which is read. Choose another place for it.")


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


def new_file(file: Path, option: str, *, overwrite: bool) -> None:
    """Check, before any work, that a file can be written and takes no other's place.

    Args:
        file: the file to write.
        option: of the command line that names it, for messages.
        overwrite: whether a file that is there may be replaced.

    Raises:
        OutputError: a file is there, or the place is none that a file can be written to.
    """
    output_file(file, option)
    with writing_to(file), tempfile.TemporaryFile(dir=file.parent):  # only an attempt tells
        if file.exists() and not overwrite:
            raise OutputError(f"{file}: exists already. Choose another {option}, or pass --overwrite to replace it.")


def keep_others_file(file: Path, option: str, *, ours: bytes, kind: str, overwrite: bool) -> None:
    """Check, before any work, that a file to write takes no other's place but that of an earlier one of its kind.

    Args:
        file: the file to write.
        option: of the command line that names it, for messages.
        ours: bytes near the beginning of every file of this kind that `ddad` writes, and of no other.
        kind: what it is called, for messages.
        overwrite: whether any file may be replaced.

    Raises:
        OutputError: another file is there.
    """
    if overwrite or not file.exists():
        return
    with file.open("rb") as opened:
        if ours not in opened.read(_MARK_WITHIN):
            raise OutputError(f"{file}: exists and is no {kind} of ddad. Choose another {option}, or pass --overwrite.")


@contextmanager
def whole_folder(folder: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; it takes the name `folder` when the block ends without an error.

    Raises:
        OutputError: `folder` is there already and may not be replaced, or the disk is full.
    """
    target = output_folder(folder, overwrite=overwrite)
    partial = _hidden(target, "partial")
    with writing_to(target):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    try:
        yield partial
        output_folder(folder, overwrite=overwrite)  # somebody else may have written there meanwhile
        take_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def take_place(finished: Path, target: Path) -> None:
    """Give a finished folder its final name, in place of what was there; to another disk it is copied.

    Killed at any moment, either `finished` is whole, or it is gone and `target` is the new folder. What stood there is
    put aside until then, never taken apart under its name.

    Raises:
        OutputError: the disk is full or the place may not be written to; what was there is there again. Or something
            that `ddad` did not write has been put there since the work began.
    """
    with writing_to(target):
        if target.is_dir() and any(target.iterdir()) and not (target / MARKER).exists():
            raise OutputError(
                f"{target}: was not written by ddad, and is in the way of what is. Rename it, and run the same command "
                "again."
            )
        (finished / MARKER).touch()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _swap(finished, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copy = _hidden(target, "partial")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(finished, copy)
            _swap(copy, target)
            remove_folder(finished)
        _sweep(target)


def remove_folder(folder: Path) -> None:
    """Remove a folder; killed at any moment, it is whole or gone under its name."""
    aside = _hidden(folder, "replaced")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
    _sweep(folder)


def _swap(finished: Path, target: Path) -> None:
    aside = _hidden(target, "replaced")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    try:
        finished.rename(target)
    except BaseException:  # Ctrl-C, too
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _hidden(path: Path, what: str) -> Path:
    """Return the name, beside `path`, of what this process writes in its stead or has put aside."""
    return path.with_name(f".{path.name}.{os.getpid()}.{what}")


def _sweep(target: Path) -> None:
    """Remove what processes that were killed left of `target` under hidden names."""
    form = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.(partial|replaced)")
    for path in list(target.parent.iterdir()):
        found = form.fullmatch(path.name)
        if found and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def sweep_partial(folder: Path) -> None:
    """Remove what processes that were killed left of files, in a folder where nobody else writes now."""
    for path in list(folder.rglob(".*.partial")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def flush(file: Path) -> None:
    """Make sure that what was written to a file outlives a power failure."""
    with writing_to(file), file.open("r+b") as opened:
        os.fsync(opened.fileno())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
