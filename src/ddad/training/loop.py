"""The training loop that every network shares: Adam, a schedule, checkpoints, and a curve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ddad.training.checkpoint import load_tensors, restore_training_state, save_tensors, training_state
from ddad.training.schedule import learning_rate

SECONDS_BETWEEN_CHECKPOINTS = 20.0


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast a network learns."""

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    schedule: Literal["constant", "one-cycle"]
    momentum: float
    weight_decay: float = 0.0


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
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=settings.learning_rate,
        betas=(settings.momentum, 0.999),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    checkpoint = into.with_suffix(".checkpoint")
    curve: list[float] = []
    if checkpoint.exists():
        tensors, notes = load_tensors(checkpoint)
        restore_training_state(tensors, network, optimizer)
        curve = list(notes["losses"])
        for value in curve:
            report(f"loss {value:.4f}")

    steps = settings.epochs * settings.steps_per_epoch
    saved_at = time.monotonic()
    network.train()
    for epoch in range(len(curve), settings.epochs):
        step = epoch * settings.steps_per_epoch
        losses = []
        for loss in batch_losses(epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings.schedule, settings.learning_rate, step, steps)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
            step += 1
        curve.append(float(torch.stack(losses).mean()))
        if time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS and epoch + 1 < settings.epochs:
            save_tensors(checkpoint, training_state(network, optimizer), {"losses": curve})
            saved_at = time.monotonic()
        report(f"loss {curve[-1]:.4f}")

    save_tensors(into, network.state_dict(), {"losses": curve})
    checkpoint.unlink(missing_ok=True)
