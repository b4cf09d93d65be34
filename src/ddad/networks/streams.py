"""Calls of small networks whose kernels a GPU runs at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")
# torch has 32 streams and hands them out in turn. One that came a second time while calls are nested could be given
# memory that another still reads. The deepest nest, both ASR-Nets with both modules' networks, takes 16.
_STREAMS = 4


def together(calls: Sequence[Callable[[], Result]], device: str) -> list[Result]:
    """Return what the calls return; on a GPU their kernels may run at the same time, on streams of their own.

    Args:
        calls: none needs what another does.
        device: `cpu` or `cuda`.
    """
    if device != "cuda" or len(calls) == 1:
        return [call() for call in calls]
    here = torch.cuda.current_stream()
    streams = [torch.cuda.Stream() for _ in calls[:_STREAMS]]  # type: ignore[no-untyped-call]
    for stream in streams:
        stream.wait_stream(here)
    found = []
    for number, call in enumerate(calls):
        with torch.cuda.stream(streams[number % len(streams)]):
            found.append(call())
    for stream in streams:
        here.wait_stream(stream)
    return found
