"""Stage 1: train one reconstruction network (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddad.networks.factory import build_autoencoder
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.epochs import balancing_repeats, epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_epochs
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator


def train_member_job(
    *, recipe: dict[str, Any], module: str, member: int, pixels: list[str], into: str,
    compute: dict[str, Any], report: Callable[[str], None],
) -> None:  # fmt: skip
    """Do `train_member` with arguments that travel as JSON; `pixels` are D_n and, for the UDM, D_u."""
    train_member(
        Recipe.model_validate(recipe),
        module,
        member,
        _balanced(pixels),
        Path(into),
        Compute(**compute),
        report,
    )


def train_member(
    recipe: Recipe,
    module: str,
    member: int,
    images: ImagePool,
    into: Path,
    compute: Compute,
    report: Callable[[str], None],
) -> None:
    """Train one member of an ensemble and write its weights to `into`; go on from a checkpoint beside it.

    Args:
        recipe: its `reconstruction` section is followed.
        module: `udm`, or else what is trained as the `ndm` is; with `member` it names the random stream.
        member: number of the network within its module, from 0.
        images: D_n, and D_u for the UDM.
        into: the safetensors file to write; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
    """
    settings = recipe.reconstruction
    torch.manual_seed(derived_seed(recipe.seed, module, member, "weights"))
    network = compute.place(build_autoencoder(recipe.images, settings))
    epoch_shape = (len(images), settings.batch_size, settings.least_steps)

    def batch_losses(epoch: int) -> Iterator[Tensor]:
        generator = torch_generator(recipe.seed, module, member, "epoch", epoch)
        batches = epoch_batches(*epoch_shape, generator)
        torch.manual_seed(derived_seed(recipe.seed, module, member, "noise", epoch))  # of a loss that draws
        for chosen in batches:
            batch = compute.send(images.batch(chosen.numpy()))
            with compute.autocast():
                loss = network.loss(batch)
            yield loss

    epochs = settings.udm_epochs if module == "udm" else settings.ndm_epochs
    steps = steps_in_epoch(*epoch_shape)
    loop = LoopSettings(epochs, steps, settings.learning_rate, settings.schedule, settings.momentum)
    train_epochs(network, batch_losses, loop, into, report)


def _balanced(pixels: list[str]) -> ImagePool:
    """Join the files; the first one's images, D_n, come several times where the others would drown them."""
    normal, others = ImagePool.open(pixels[:1]), pixels[1:]
    if not others:
        return normal
    unlabeled = ImagePool.open(others)
    return normal.repeated(balancing_repeats(len(normal), len(unlabeled))) + unlabeled
