"""Files within ZIP archives, unpacked one at a time, and never more than a bound."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from ddad.errors import ImageError, writing_to
from ddad.images.decoding import LARGEST_BYTE_COUNT, decoding

LARGEST_MEMBER_COUNT = 100_000
"""Archives that list more files than this are refused."""

_PIECE = 2**20
_one_at_a_time = threading.Lock()


def list_members(archive: Path) -> list[str]:
    """Return the names of the files in an archive, sorted; nothing is unpacked.

    Raises:
        ImageError: the archive is damaged, or lists more files than `LARGEST_MEMBER_COUNT`.
    """
    with decoding(archive, "ZIP"):
        opened = _archive(archive)
        names = {info.filename for info in opened.infolist() if not info.is_dir()}
        if len(names) > LARGEST_MEMBER_COUNT:
            raise ImageError(archive, f"lists {len(names)} files, more than {LARGEST_MEMBER_COUNT}: unpack it")
        return sorted(names)


def holds_member(archive: Path, member: str) -> bool:
    """Tell whether an archive lists a file of this name; one that cannot be read lists none."""
    try:
        with decoding(archive, "ZIP"):
            return member in _archive(archive).NameToInfo
    except ImageError:
        return False


def read_member_head(archive: Path, member: str, length: int) -> bytes:
    """Return the first bytes of a file in an archive.

    Raises:
        ImageError: the archive is damaged or encrypted, or holds no such file.
    """
    with open_member(archive, member) as file:
        return file.read(length)


def member_byte_count(archive: Path, member: str) -> int:
    """Return how many bytes a file in an archive unpacks to, as the archive says.

    Raises:
        ImageError: the archive is damaged, or holds no such file.
    """
    with decoding(Path(f"{archive}#{member}"), "ZIP"):
        return _info(_archive(archive), archive, member).file_size


@contextmanager
def unpacked(archive: Path, member: str) -> Iterator[Path]:
    """Yield a temporary copy of a file in an archive; it is gone when the block ends.

    Raises:
        ImageError: the archive is damaged or encrypted, holds no such file, or the file is larger than
            `LARGEST_BYTE_COUNT`, whatever the archive says of it.
    """
    copy = _Copy(archive, member)
    try:
        yield copy.path
    finally:
        copy.remove()


@contextmanager
def unpacked_for_more(archive: Path, member: str) -> Iterator[Path]:
    """Yield what `unpacked` does, of a file that is asked for frame by frame: the last two copies are kept."""
    with decoding(Path(f"{archive}#{member}"), "ZIP"):
        status = archive.stat()
    # Threads that read slices of one file wait for its copy, rather than each make their own.
    with _one_at_a_time:
        lock = _lock_of(archive, member)
    with lock:
        copy = _kept_copy(archive, member, status.st_mtime_ns, status.st_size)
    yield copy.path


class _Copy:
    """A temporary copy of a file in an archive, removed with the last reference to it, and when the process ends."""

    def __init__(self, archive: Path, member: str) -> None:
        # The name keeps its suffix, which tells NIfTI's kinds apart.
        with _writing_to_copies():
            handle, name = tempfile.mkstemp(suffix="".join(Path(member).suffixes[-2:])[-16:])
        self.path = Path(name)
        self.remove = weakref.finalize(self, self.path.unlink, missing_ok=True)
        # A disk without room for the copy says nothing of the archive.
        with _writing_to_copies(), os.fdopen(handle, "wb") as target, open_member(archive, member) as source:
            written = 0
            while piece := source.read(_PIECE):
                written += len(piece)
                if written > LARGEST_BYTE_COUNT:
                    raise ImageError(
                        f"{archive}#{member}", f"unpacks to more than {LARGEST_BYTE_COUNT} bytes: leave it out"
                    )
                with _writing_to_copies():
                    target.write(piece)


def _writing_to_copies() -> AbstractContextManager[None]:
    return writing_to(tempfile.gettempdir())


@lru_cache(maxsize=256)
def _lock_of(*_: object) -> threading.Lock:
    return threading.Lock()


@lru_cache(maxsize=2)
def _kept_copy(archive: Path, member: str, *_: int) -> _Copy:
    return _Copy(archive, member)


@contextmanager
def open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Open a file in an archive, to be read from its beginning.

    Raises:
        ImageError: the archive is damaged or encrypted, or holds no such file.
    """
    with decoding(Path(f"{archive}#{member}"), "ZIP"):
        opened = _archive(archive)
        info = _info(opened, archive, member)
        if info.flag_bits & 1:
            raise ImageError(f"{archive}#{member}", "encrypted: unpack the archive with its password")
        with opened.open(info) as file:
            yield file


def _info(opened: zipfile.ZipFile, archive: Path, member: str) -> zipfile.ZipInfo:
    found = opened.NameToInfo.get(member)
    if found is None:
        # An address is a path, which has no `//` and no `/./` in it.
        found = _by_tidy_name(opened).get(member)
    if found is None:
        raise ImageError(f"{archive}#{member}", "there is no such file in the archive: check its name")
    return found


@lru_cache(maxsize=4)
def _by_tidy_name(opened: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their names as paths; to look for each among all takes hours of many."""
    return {str(PurePosixPath(info.filename)): info for info in opened.infolist()}


def _archive(path: Path) -> zipfile.ZipFile:
    status = path.stat()
    return _kept_open(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _kept_open(path: Path, *_: int) -> zipfile.ZipFile:
    """Open an archive once: to read its list anew for each of its files takes hours where it holds many.

    Threads may read from it side by side. It is closed when it is forgotten.
    """
    return zipfile.ZipFile(path)
