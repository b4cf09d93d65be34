"""Many files, looked at one after another or several at once, with a bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ddad.machine import processor_cores
from ddad.progress import Progress, listener

File = TypeVar("File")
Result = TypeVar("Result")


def file_by_file(
    look: Callable[[File], Result], files: Sequence[File], title: str, progress: Progress | None = None
) -> list[Result]:
    """Return `look(file)` of each file, in order; threads look at several at once, as most of the time is waiting.

    Args:
        look: is called by several threads.
        files: paths of any kind.
        title: of the bar.
        progress: told of each file; nobody is if None, or if there is no file.
    """
    if not files:
        return []
    found = []
    with listener(progress).task(title, len(files)) as bar, ThreadPoolExecutor(processor_cores()) as pool:
        for result in pool.map(look, files):
            found.append(result)
            bar.advance()
    return found
