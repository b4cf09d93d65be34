"""The training loop that every network shares: Adam, a schedule, checkpoints, and a curve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddad.training.adam import Adam
from ddad.training.checkpoint import load_tensors, restore_training_state, save_tensors, training_state
from ddad.training.schedule import Schedule, learning_rate

SECONDS_BETWEEN_CHECKPOINTS = 40.0


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast a network learns; `steps_per_epoch` counts the losses that an epoch yields."""

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    schedule: Schedule
    momentum: float
    weight_decay: float = 0.0
    second_momentum: float = 0.999


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
    batch_losses: Callable[[int], Iterator[Tensor]],
    settings: LoopSettings,
    into: Path,
    report: Callable[[str], None],
) -> None:
    """Train `network` and write its weights to `into`, with the training curve in the file's notes.

    If a checkpoint lies beside `into`, training goes on from it and ends with the same weights as without
    the interruption, because all randomness of an epoch follows from its number.

    Args:
        network: on its device.
        batch_losses: called with the number of an epoch; yields the loss of one batch after another.
        settings: length and speed.
        into: the safetensors file to write.
        report: called after each epoch with a line about it.
    """

    def batch_turns(epoch: int) -> Iterator[Turn]:
        return (Turn("loss", network, loss) for loss in batch_losses(epoch))

    with _denormals_flushed():
        curves = _train(network, batch_turns, settings, into, report)
    _finish(network, into, {"losses": curves["loss"]})


def train_in_turns(
    network: nn.Module,
    batch_turns: Callable[[int], Iterator[Turn]],
    settings: LoopSettings,
    into: Path,
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
        report: called after each epoch with a line about it.
    """
    with _denormals_flushed():
        curves = _train(network, batch_turns, settings, into, report)
    _finish(network, into, {"losses": curves})


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Moments of weights that no longer move sink below the smallest normal number, where arithmetic is slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _train(
    network: nn.Module,
    batch_turns: Callable[[int], Iterator[Turn]],
    settings: LoopSettings,
    into: Path,
    report: Callable[[str], None],
) -> dict[str, list[float]]:
    optimizer = Adam(
        network.parameters(),
        momentum=settings.momentum,
        second_momentum=settings.second_momentum,
        weight_decay=settings.weight_decay,
    )
    checkpoint = _checkpoint(into)
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
    for epoch in range(done, settings.epochs):
        step = epoch * settings.steps_per_epoch
        losses: dict[str, list[Tensor]] = {}
        for turn in batch_turns(epoch):
            speed = turn.speed * learning_rate(settings.schedule, settings.learning_rate, step, steps)
            optimizer.zero_grad()
            # A part without gradients is passed over by the optimizer.
            turn.loss.backward(inputs=[one for one in turn.learner.parameters() if one.requires_grad])  # type: ignore[no-untyped-call]
            optimizer.step(speed)
            losses.setdefault(turn.curve, []).append(turn.loss.detach())
            step += 1
        for name, values in losses.items():
            curves.setdefault(name, []).append(float(torch.stack(values).mean()))
        if time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS and epoch + 1 < settings.epochs:
            save_tensors(checkpoint, training_state(network, optimizer), {"curves": curves})
            saved_at = time.monotonic()
        report(_line(curves, epoch))
    return curves


def _finish(network: nn.Module, into: Path, notes: dict[str, object]) -> None:
    save_tensors(into, network.state_dict(), notes)
    _checkpoint(into).unlink(missing_ok=True)


def _checkpoint(into: Path) -> Path:
    return into.with_suffix(".checkpoint")


def _line(curves: dict[str, list[float]], epoch: int) -> str:
    return ", ".join(f"{name} {curve[epoch]:.4f}" for name, curve in curves.items())
