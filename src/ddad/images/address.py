"""Addresses of images: a file, a frame or slice within it, or a file within a ZIP archive.

An address is written as a path, with `#` behind the file:

- `scan.dcm#12`: frame 12, counted from 1, as DICOM counts its frames;
- `brain.nii.gz#40` and `brain.nii.gz#40,3`: slice 40, of volume 3;
- `study.zip#series/scan.dcm` and `study.zip#series/scan.dcm#12`: a file within an archive.

A file whose own name holds a `#` is taken as it is, if it exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from ddad.errors import SettingError
from ddad.images.archive import holds_member, member_byte_count, open_member

_FRAME = re.compile(r"(?:^|#)(\d+)(?:,(\d+))?$")
_SLICES = re.compile(r"all|middle|every:[1-9]\d*")


class Frame(NamedTuple):
    """One two-dimensional image within a file; both numbers count from 1."""

    number: int
    volume: int = 1


@dataclass(frozen=True)
class Address:
    """Where an image lies.

    Attributes:
        file: the file on disk.
        member: the file within it, if it is a ZIP archive.
        frame: the frame or slice, if the file holds several.
    """

    file: Path
    member: str | None = None
    frame: Frame | None = None

    @classmethod
    def parse(cls, path: str | Path) -> Address:
        """Read an address; a path without `#`, or of an existing file, is that file."""
        text = str(path)
        if "#" not in text or _exists(Path(text)):
            return cls(Path(text))
        cuts = [match.start() for match in re.finditer("#", text)]
        # A `#` may be part of a folder's or a file's name: the first prefix that is a file counts.
        cut = next((cut for cut in cuts if _exists(Path(text[:cut]))), None)
        if cut is None:
            found = _FRAME.search(text)
            cut = found.start() if found else len(text)
        file, rest = Path(text[:cut]), text[cut + 1 :]
        is_archive = file.suffix.lower() == ".zip"
        found = _FRAME.search(rest)
        # An archive has no frames of its own: a number is a file in it, as DICOM files often are named.
        if is_archive and found and (found.start() == 0 or holds_member(file, rest)):
            found = None
        frame = Frame(int(found[1]), int(found[2] or 1)) if found else None
        member = rest[: found.start()] if found else rest
        if member and not is_archive:
            return cls(Path(text))
        return cls(file, member or None, frame)

    @classmethod
    def real(cls, path: str | Path) -> str:
        """Return an address with its file named as it is without links."""
        address = cls.parse(path)
        return f"{address.file.resolve()}{str(path).removeprefix(str(address.file))}"

    @property
    def container(self) -> str:
        """The address without the frame: what must not be split, because its slices look alike."""
        return str(self.file) if self.member is None else f"{self.file}#{self.member}"

    @property
    def label(self) -> str:
        """A part of the address that names the image within its folder: `scan.dcm`, `a.dcm`, without the frame."""
        return Path(self.member or self.file).name

    def at(self, frame: Frame) -> Path:
        """Return the address of a frame of the same file, as a path."""
        volume = "" if frame.volume == 1 else f",{frame.volume}"
        return Path(f"{self.container}#{frame.number}{volume}")


@contextmanager
def content(address: Address) -> Iterator[IO[bytes]]:
    """Open the file that an address names, within an archive or on disk, to be read from its beginning.

    Raises:
        ImageError: the archive is damaged or encrypted, or holds no such file.
        OSError: the file cannot be read.
    """
    if address.member is None:
        with address.file.open("rb") as file:
            yield file
    else:
        with open_member(address.file, address.member) as file:
            yield file


def byte_count(address: Address) -> int:
    """Return how many bytes `content` has.

    Raises:
        ImageError: the archive is damaged, or holds no such file.
        OSError: the file is not there.
    """
    if address.member is None:
        return address.file.stat().st_size
    return member_byte_count(address.file, address.member)


@dataclass(frozen=True)
class Selection:
    """Which images of a file with several are taken.

    Attributes:
        slices: `all`, `middle`, or `every:N` (every Nth, around the middle one).
        volume: of a four-dimensional file, which volume, counted from 1.
    """

    slices: str = "all"
    volume: int = 1

    def __post_init__(self) -> None:
        if not _SLICES.fullmatch(self.slices):
            raise SettingError(f"--slices: {self.slices!r} is unknown. Use all, middle, or every:N, such as every:5.")
        if self.volume < 1:
            raise SettingError(f"--volume: {self.volume} is no volume. They are counted from 1.")

    def frames(self, count: int) -> list[Frame]:
        """Return the chosen ones of `count` frames, in order."""
        middle = count // 2
        if self.slices == "all":
            chosen = range(count)
        elif self.slices == "middle":
            chosen = range(middle, middle + 1)
        else:
            step = int(self.slices.partition(":")[2])
            chosen = range(middle % step, count, step)
        return [Frame(index + 1, self.volume) for index in chosen]


ALL = Selection()
"""Every slice of the first volume."""


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
