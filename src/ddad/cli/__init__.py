"""The command line: one verb, one short function; no logic of its own."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `ddad`; errors meant for a user are printed without a traceback."""
    from ddad.cli.app import app
    from ddad.errors import DdadError

    try:
        app()
    except DdadError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on where it was", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
