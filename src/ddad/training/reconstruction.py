"""Stage 1: train reconstruction networks (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddad.augmentation import draw_movements, moved
from ddad.networks.factory import build_autoencoder
from ddad.networks.streams import together
from ddad.recipe import Recipe
from ddad.recipe_sections import Augmentation
from ddad.training.device import Compute
from ddad.training.epochs import balancing_repeats, epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_together
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator
from ddad.training.steps import Batch

# Mirroring would hide a change of sides, such as a heart on the right.
_MOVEMENT = Augmentation(rotation=15, scale=0.15, shift=0.08, flip_share=0)


def train_members_job(
    *, recipe: dict[str, Any], module: str, members: list[int], pixels: list[str], into: list[str],
    compute: dict[str, Any], report: Callable[..., None], moves_few: bool = False,
) -> None:  # fmt: skip
    """Do `train_members` with arguments that travel as JSON; `pixels` are D_n and, for the UDM, D_u.

    With `moves_few`, the images are moved if D_n has fewer than the recipe says.
    """

    def report_all(line: str) -> None:
        report(line, len(members))

    followed = Recipe.model_validate(recipe)
    train_members(
        followed,
        module,
        members,
        _balanced(pixels),
        [Path(path) for path in into],
        Compute(**compute),
        report_all,
        moves=moves_few and are_moved(followed, pixels[0]),
    )


def are_moved(recipe: Recipe, normal: str | Path) -> bool:
    """Say whether D_n, in this `.npy` file, is so small that networks see all images moved."""
    return len(ImagePool.open([normal])) < recipe.reconstruction.move_below


def train_members(
    recipe: Recipe,
    module: str,
    members: Sequence[int],
    images: ImagePool,
    into: Sequence[Path],
    compute: Compute,
    report: Callable[[str], None],
    *,
    moves: bool = False,
) -> None:
    """Train members of an ensemble in the same steps, and write their weights; go on from a checkpoint beside them.

    Each starts and learns from weights and batches of its own, so that it is the network that it would be alone; only
    what a VAE's loss draws is another draw.

    Args:
        recipe: its `reconstruction` section is followed.
        module: `udm`, or else what is trained as the `ndm` is; with the member's number it names the random stream.
        members: numbers of the networks within their module, from 0.
        images: D_n, and D_u for the UDM.
        into: the safetensors file of each; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
        moves: whether images are turned, scaled and shifted a little, anew each time: where they are few, networks
            learn each one by heart.
    """
    settings, images = recipe.reconstruction, images.near(compute)
    networks = []
    for member in members:
        torch.manual_seed(derived_seed(recipe.seed, module, member, "weights"))
        networks.append(compute.place(build_autoencoder(recipe.images, settings)))
    epoch_shape = (len(images), settings.batch_size, settings.least_steps)

    def shown(batch: Tensor, generator: torch.Generator) -> Tensor:
        return moved(batch, draw_movements(len(batch), _MOVEMENT, generator), beyond="border")

    def batches(epoch: int) -> Iterator[Batch]:
        drawn = [
            epoch_batches(*epoch_shape, torch_generator(recipe.seed, module, member, "epoch", epoch))
            for member in members
        ]
        torch.manual_seed(derived_seed(recipe.seed, module, *members, "noise", epoch))  # of a loss that draws
        movements = [torch_generator(recipe.seed, module, member, "movement", epoch) for member in members]
        for chosen in zip(*drawn, strict=True):
            own = [images.batch(places.numpy()) for places in chosen]
            yield tuple(map(shown, own, movements) if moves else own)

    def losses(*own: Tensor) -> list[Tensor]:
        with compute.autocast():
            return together(
                [partial(net.loss, batch) for net, batch in zip(networks, own, strict=True)], compute.device
            )

    epochs = settings.udm_epochs if module == "udm" else settings.ndm_epochs
    steps = steps_in_epoch(*epoch_shape)
    loop = LoopSettings(
        epochs, steps, settings.learning_rate, settings.schedule, settings.momentum, section="reconstruction"
    )
    train_together(networks, batches, losses, loop, into, compute, report)


def _balanced(pixels: list[str]) -> ImagePool:
    """Join the files; the first one's images, D_n, come several times where the others would drown them."""
    normal, others = ImagePool.open(pixels[:1]), pixels[1:]
    if not others:
        return normal
    unlabeled = ImagePool.open(others)
    return normal.repeated(balancing_repeats(len(normal), len(unlabeled))) + unlabeled
