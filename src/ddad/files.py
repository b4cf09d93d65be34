"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddad.errors import OutputError, writing_to


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


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Stop before any work if `folder` holds something and may not be replaced.

    Raises:
        OutputError: it exists and is not an empty folder, and `overwrite` is False; or it is a file.
    """
    if folder.is_file():
        raise OutputError(f"{folder}: is a file, but a folder is to be written there. Choose another name.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise OutputError(f"{folder}: exists already. Choose another name, or pass --overwrite to replace it.")


@contextmanager
def whole_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; it takes the name `folder` when the block ends without an error.

    Raises:
        OutputError: `folder` is there already and `overwrite` is False, or the disk is full.
    """
    refuse_existing(folder, overwrite=overwrite)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    with writing_to(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
