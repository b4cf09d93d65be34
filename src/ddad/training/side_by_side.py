"""Pieces of work side by side in threads of this process, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from ddad.machine import processor_cores
from ddad.training.device import Compute

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], compute: Compute) -> Iterator[Result]:
    """Yield `function(item)` for one item after another.

    On a CPU several items are computed at once, each by one thread: the layers of these networks are too small for
    threads to share. There are as many as torch has threads and this process has cores. Elsewhere one item is computed
    after another.
    """
    usual = torch.get_num_threads()
    threads = min(usual, processor_cores())
    if compute.device != "cpu" or usual == 1:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "compute", torch.set_num_threads, (1,)) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Also when the consumer stops early.
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(usual)  # parts of torch have one setting for all threads
