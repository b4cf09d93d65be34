"""Everything that `ddad` raises on purpose: each names the file, field or value, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DdadError(Exception):
    """Base of all errors meant for a user; the command line prints them without a traceback."""


class SettingError(DdadError):
    """A recipe field or a command-line option has a value that cannot be used."""


class CohortError(DdadError):
    """A cohort cannot be assembled: missing folder, conflicting roles, too few images."""


class ImageError(DdadError):
    """One image cannot be used. Such files are reported and skipped, the rest goes on."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class BlankSliceError(ImageError):
    """A slice or frame of a file with several has no content, as at the ends of a volume: nothing is wrong."""


class DivergenceError(DdadError):
    """A network's losses, weights or scores are no numbers any more, and the same fit would end so again."""


class ModelError(DdadError):
    """A model folder is missing, foreign, altered, or made by another version."""


class CalibrationError(DdadError):
    """A calibration file is damaged, or of another model, or there are no normals to calibrate with."""


class OutputError(DdadError):
    """An output cannot be written: it exists already, or the disk is full or read-only."""


def require(argument: str, value: object, kind: type, example: str) -> None:
    """Make sure that an argument is of its type.

    Raises:
        SettingError: it is not.
    """
    if not isinstance(value, kind):
        raise SettingError(
            f"{argument}: wants a {kind.__name__}, and got a {type(value).__name__}. Give, for example, {example}."
        )


class FitWarning(UserWarning):
    """What to know about a fit that went well; `ddad.fit` issues it where no `progress` was given."""


@contextmanager
def writing_to(path: str | Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing to `path` into an `OutputError`.

    Raises:
        OutputError: the disk is full, or the place cannot be written to: read-only, missing, a folder, a faulty disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"{path}: the disk is full. Free some space and run the same command again; "
                "finished work is kept and goes on where it was."
            ) from error
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}). Choose another place.") from error
