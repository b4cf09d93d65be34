"""The process at the other end of `jobs`: reads one job on standard input, reports in JSON lines."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import torch

from ddad.errors import DdadError
from ddad.training.jobs import Job, call


def main() -> int:
    """Run the job that standard input describes."""
    content = json.loads(sys.stdin.readline())
    job = Job(**{**content, "output": Path(content["output"])})
    threading.Thread(target=_end_with_the_asking_process, daemon=True).start()
    # Whatever else prints, compiled libraries included, must not mix with the reports.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(1)

    def report(value: str, steps: int = 1) -> None:
        _send(channel, {"kind": "step", "value": value, "steps": steps})

    try:
        call(job, report)
    except DdadError as error:
        _send(channel, {"kind": "error", "type": type(error).__name__, "text": str(error)})
        return 1
    _send(channel, {"kind": "done"})
    return 0


def _end_with_the_asking_process() -> None:
    """Wait for the end of standard input, which comes when the other end's process is gone, however it ended."""
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 1):
            pass
    os._exit(1)


def _send(channel: TextIO, content: dict[str, object]) -> None:
    channel.write(json.dumps(content) + "\n")
    channel.flush()


if __name__ == "__main__":
    sys.exit(main())
