"""The training loop that every network shares: Adam, a schedule, checkpoints, and a curve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ddad.errors import DivergenceError
from ddad.training.adam import Adam
from ddad.training.checkpoint import load_tensors, restore_training_state, save_tensors, training_state
from ddad.training.device import Compute
from ddad.training.schedule import Schedule, learning_rate
from ddad.training.steps import Batch, Losses, step_on

SECONDS_BETWEEN_CHECKPOINTS = 40.0
_Move = Callable[[float], dict[str, Tensor]]
"""Moves weights by a step with a learning rate, and returns the losses by curve."""


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast a network learns; `steps_per_epoch` counts the losses that an epoch yields.

    `section` is the recipe's that these settings come from.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    schedule: Schedule
    momentum: float
    weight_decay: float = 0.0
    second_momentum: float = 0.999
    section: str = field(kw_only=True)


class Turn(NamedTuple):
    """A step of training that is one part's alone, as in adversarial training.

    Attributes:
        curve: name of the training curve that the loss belongs to.
        learner: the part of the network whose weights move.
        loss: what it learns from.
        speed: factor of the learning rate.
    """

    curve: str
    learner: nn.Module
    loss: Tensor
    speed: float = 1.0


def train_epochs(
    network: nn.Module,
    batches: Callable[[int], Iterator[Batch]],
    loss: Callable[..., Tensor],
    settings: LoopSettings,
    into: Path,
    compute: Compute,
    report: Callable[[str], None],
) -> None:
    """Train `network` and write its weights to `into`, with the training curve in the file's notes.

    If a checkpoint lies beside `into`, training goes on from it and ends with the same weights as without
    the interruption, because all randomness of an epoch follows from its number.

    Args:
        network: on its device.
        batches: called with the number of an epoch; yields the tensors of one batch after another, wherever they are.
        loss: of a batch's tensors, on the device. On a GPU it is called a few times only and replayed from then on: it
            is pure arithmetic on tensors.
        settings: length and speed.
        into: the safetensors file to write.
        compute: the device.
        report: called after each epoch with a line about it.

    Raises:
        DivergenceError: a loss or a weight is no number after an epoch; the checkpoint is from before it.
    """
    train_together([network], batches, lambda *batch: [loss(*batch)], settings, [into], compute, report)


def train_together(
    networks: Sequence[nn.Module],
    batches: Callable[[int], Iterator[Batch]],
    losses: Losses,
    settings: LoopSettings,
    into: Sequence[Path],
    compute: Compute,
    report: Callable[[str], None],
) -> None:
    """Do as `train_epochs` with several networks in the same steps; each has a loss and a file of its own.

    The files are written when all have learned, the last one last; the checkpoint lies beside the first one.
    """
    together = nn.ModuleList(networks)
    optimizer = _optimizer(together, settings)
    step = step_on(compute, together, losses, optimizer)
    names = ["loss"] if len(networks) == 1 else [f"loss {number + 1}" for number in range(len(networks))]

    def take(batch: Batch, rate: float) -> dict[str, Tensor]:
        return dict(zip(names, step(tuple(compute.send(part) for part in batch), rate), strict=True))

    def moves(epoch: int) -> Iterator[_Move]:
        return (partial(take, batch) for batch in batches(epoch))

    checkpoint = _checkpoint(into[0])
    curves = _train(together, optimizer, moves, settings, checkpoint, compute, report)
    for network, file, name in zip(networks, into, names, strict=True):
        save_tensors(file, network.state_dict(), {"losses": curves[name]})
    checkpoint.unlink(missing_ok=True)


def train_in_turns(
    network: nn.Module,
    batch_turns: Callable[[int], Iterator[Turn]],
    settings: LoopSettings,
    into: Path,
    compute: Compute,
    report: Callable[[str], None],
) -> None:
    """Do as `train_epochs`, with parts of `network` that learn in turns, each from losses of its own.

    One Adam holds the moments of all parts and moves only those whose turn it is, which is an optimizer for each; a
    checkpoint has them all. The notes' `losses` are curves by name.

    Args:
        network: all parts, on their device.
        batch_turns: called with the number of an epoch; yields one turn after another.
        settings: length and speed.
        into: the safetensors file to write.
        compute: the device.
        report: called after each epoch with a line about it.

    Raises:
        DivergenceError: a loss or a weight is no number after an epoch; the checkpoint is from before it.
    """
    optimizer = _optimizer(network, settings)

    def take(turn: Turn, rate: float) -> dict[str, Tensor]:
        optimizer.zero_grad()
        # A part without gradients is passed over by the optimizer.
        turn.loss.backward(inputs=[one for one in turn.learner.parameters() if one.requires_grad])  # type: ignore[no-untyped-call]
        optimizer.step(turn.speed * rate)
        return {turn.curve: turn.loss.detach()}

    def moves(epoch: int) -> Iterator[_Move]:
        return (partial(take, turn) for turn in batch_turns(epoch))

    checkpoint = _checkpoint(into)
    curves = _train(network, optimizer, moves, settings, checkpoint, compute, report)
    save_tensors(into, network.state_dict(), {"losses": curves})
    checkpoint.unlink(missing_ok=True)


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Moments of weights that no longer move sink below the smallest normal number, where arithmetic is slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _optimizer(network: nn.Module, settings: LoopSettings) -> Adam:
    return Adam(
        network.parameters(),
        momentum=settings.momentum,
        second_momentum=settings.second_momentum,
        weight_decay=settings.weight_decay,
    )


def _train(
    network: nn.Module,
    optimizer: Adam,
    moves: Callable[[int], Iterator[_Move]],
    settings: LoopSettings,
    checkpoint: Path,
    compute: Compute,
    report: Callable[[str], None],
) -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {}
    done = 0
    if checkpoint.exists():
        tensors, notes = load_tensors(checkpoint)
        restore_training_state(tensors, network, optimizer)
        curves = notes["curves"]
        done = len(next(iter(curves.values())))
        for epoch in range(done):
            report(_line(curves, epoch))

    steps = settings.epochs * settings.steps_per_epoch
    saved_at = time.monotonic()
    network.train()
    with _denormals_flushed(), compute.exactly():
        for epoch in range(done, settings.epochs):
            step = epoch * settings.steps_per_epoch
            losses: dict[str, list[Tensor]] = {}
            for move in moves(epoch):
                for curve, loss in move(learning_rate(settings.schedule, settings.learning_rate, step, steps)).items():
                    losses.setdefault(curve, []).append(loss)
                step += 1
            means = {curve: float(torch.stack(values).mean()) for curve, values in losses.items()}
            _check_finite(means, network, epoch, settings, compute)
            for curve, mean in means.items():
                curves.setdefault(curve, []).append(mean)
            if time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS and epoch + 1 < settings.epochs:
                save_tensors(checkpoint, training_state(network, optimizer), {"curves": curves})
                saved_at = time.monotonic()
            report(_line(curves, epoch))
    return curves


def _check_finite(
    losses: Mapping[str, float], network: nn.Module, epoch: int, settings: LoopSettings, compute: Compute
) -> None:
    wrong = [f"{name} is {loss}" for name, loss in losses.items() if not math.isfinite(loss)]
    # The last step of an epoch can spoil the weights after the last loss was taken.
    if not wrong and not get_total_norm(network.parameters(), math.inf).isfinite():
        wrong = ["a weight is no number"]
    if wrong:
        exactly = "" if compute.precision == "fp32" else ", or compute exactly with --precision fp32"
        raise DivergenceError(
            f"training diverged: {wrong[0]} after epoch {epoch + 1} of {settings.epochs}. Lower the learning rate in "
            f"the recipe's section {settings.section} (it is {settings.learning_rate:g}){exactly}."
        )


def _checkpoint(into: Path) -> Path:
    return into.with_suffix(".checkpoint")


def _line(curves: dict[str, list[float]], epoch: int) -> str:
    return ", ".join(f"{name} {curve[epoch]:.4f}" for name, curve in curves.items())
