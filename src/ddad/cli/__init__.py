"""The command line: one verb, one short function; no logic of its own."""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType

from ddad.errors import DdadError

_GO_ON = ("benchmark", "fit", "prepare", "score", "sweep")
"""Verbs that keep what is done when they are interrupted."""


_OF_THE_PATH = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a path that a user named, not of `ddad`."""
_OF_A_STREAM = (errno.ENOSPC, errno.EDQUOT)
"""What it says of standard output where that cannot be written; files say so by an `OutputError`."""


class _InterruptedError(BaseException):
    """Ctrl-C, as an exception that the command-line library does not swallow, nor what handles a failed run."""


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    verb = " ".join(sys.argv[1:2])  # no option stands before it
    again = f"ddad {verb} goes on where it was" if verb in _GO_ON else f"ddad {verb} starts from the beginning"
    raise _InterruptedError(f"interrupted. {again} when run again.")


def _open_streams() -> None:
    """Give what was started without standard output or error a place to write to, before a file takes their number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


def main() -> None:
    """Run `ddad`; errors meant for a user are printed without a traceback."""
    _open_streams()
    from ddad.cli.app import app

    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except _InterruptedError as interrupted:
        print(interrupted, file=sys.stderr)
        sys.exit(130)
    except DdadError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno in _OF_A_STREAM and error.filename is None:
            # What could not be written would be tried again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            print(f"error: standard output: {error.strerror}. Send it elsewhere, or make room.", file=sys.stderr)
            sys.exit(1)
        if error.errno not in _OF_THE_PATH or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}. Check the path, and who may read it.", file=sys.stderr)
        sys.exit(1)
