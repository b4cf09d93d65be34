"""One step of training: losses, gradients, a move of the weights. On a GPU it is recorded once, and replayed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from ddad.training.adam import Adam
from ddad.training.device import Compute

Batch = tuple[Tensor, ...]
Losses = Callable[..., Sequence[Tensor]]
_WARM_UP_STEPS = 3


class Step(Protocol):
    """Moves weights by a batch, which is on the device, and returns the losses, (networks,)."""

    def __call__(self, batch: Batch, rate: float | Tensor) -> Tensor:
        """Take the step with a learning rate."""


class Recorder(Protocol):
    """Records what a function makes the device do."""

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """Call a function as it is, in a way that lets it be recorded later."""

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return what does the same again, in the same memory, each time that it is called; nothing is done yet."""


def step_on(compute: Compute, networks: nn.Module, losses: Losses, optimizer: Adam) -> Step:
    """Return the step of training that suits a device.

    Args:
        compute: the device.
        networks: what learns.
        losses: of a batch's tensors, one for each network: pure arithmetic, which looks at no number.
        optimizer: of all networks.
    """
    step = _PlainStep(networks, losses, optimizer)
    return RecordedStep(step, CudaGraphs()) if compute.device == "cuda" else step


class _PlainStep:
    def __init__(self, networks: nn.Module, losses: Losses, optimizer: Adam) -> None:
        self._learning = [one for one in networks.parameters() if one.requires_grad]
        self._losses, self._optimizer = losses, optimizer

    def __call__(self, batch: Batch, rate: float | Tensor) -> Tensor:
        self._optimizer.zero_grad()
        losses = torch.stack(list(self._losses(*batch)))
        # No network has part in another's loss, so the sum's gradients are those of each.
        losses.sum().backward(inputs=self._learning)  # type: ignore[no-untyped-call]
        self._optimizer.step(rate)
        return losses.detach()


class RecordedStep:
    """A step whose kernels are started together: small networks compute for less time than a start takes.

    Batches have one shape. A step that cannot be recorded is taken as it is.

    Args:
        step: to be recorded once it has been taken a few times.
        recorder: of the device.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self._step, self._recorder = step, recorder
        self._taken = 0
        self._batch: Batch = ()
        self._rate = torch.zeros(())
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, batch: Batch, rate: float | Tensor) -> Tensor:
        """Take the step with a learning rate."""
        if self._taken == _WARM_UP_STEPS:
            self._record(batch)
        self._taken += 1
        if self._replay is None:
            return self._recorder.warm_up(partial(self._step, batch, rate))
        for own, new in zip(self._batch, batch, strict=True):
            own.copy_(new)
        self._rate.fill_(rate)
        return self._replay().clone()

    def _record(self, batch: Batch) -> None:
        self._batch = tuple(part.clone() for part in batch)
        self._rate = torch.zeros((), device=batch[0].device)
        try:
            self._replay = self._recorder.record(partial(self._step, self._batch, self._rate))
        except RuntimeError as error:
            warnings.warn(f"training goes on without CUDA graphs, more slowly: {error}", stacklevel=2)


class CudaGraphs:
    """Records CUDA graphs (https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs)."""

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """Call a function on a stream of its own, as recording will."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = function()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record a function's kernels, its random numbers included."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = function()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
