"""What an epoch is: one pass over the images, or several where they are few."""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST_SHARE = 0.25


def steps_in_epoch(count: int, batch_size: int, least_steps: int) -> int:
    """Return how many full batches an epoch over `count` images has.

    The last incomplete batch is dropped, as published. An epoch whose pass has fewer than `least_steps` goes over
    the images again until it has as many: epochs are counted for cohorts of hundreds of images, and ten images would
    make one step.
    """
    return max(count // min(batch_size, count), least_steps)


def epoch_batches(count: int, batch_size: int, least_steps: int, generator: torch.Generator) -> Tensor:
    """Draw the batches of an epoch: (steps, images a batch), places in [0, count).

    Every pass is a permutation of its own. No image comes a second time before all others have come once.
    """
    steps, width = steps_in_epoch(count, batch_size, least_steps), min(batch_size, count)
    drawn = [torch.randperm(count, generator=generator)]
    while sum(map(len, drawn)) < steps * width:
        drawn.append(torch.randperm(count, generator=generator))
    return torch.cat(drawn)[: steps * width].view(steps, width)


def balancing_repeats(count: int, other: int) -> int:
    """Return how often each of `count` images comes in a pass that `other` images of another kind take part in.

    As often as they fit into a quarter of the others, and at least once: a handful is not lost among thousands, and
    sides of like size stay as they are.
    """
    return max(1, int(_SMALLEST_SHARE * other) // count)
