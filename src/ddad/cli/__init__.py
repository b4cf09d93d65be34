"""The command line: one verb, one short function; no logic of its own."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from ddad.errors import DdadError


class _InterruptedError(BaseException):
    """Ctrl-C, as an exception that the command-line library does not swallow, nor what handles a failed run."""


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _InterruptedError("interrupted. Fitting, scoring and benchmarks go on where they were when run again.")


def main() -> None:
    """Run `ddad`; errors meant for a user are printed without a traceback."""
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
