"""Train a U-Net to see in an image how much evidence of an anomaly there is at each pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ddad.augmentation import apply_augmentations, draw_augmentations, moved
from ddad.networks.unet import UNet
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_epochs
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator
from ddad.training.steps import Batch


def train_extent_job(
    *, recipe: dict[str, Any], images: Sequence[str], shares: str, into: str, compute: dict[str, Any],
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Do `train_extent` with arguments that travel as JSON: `.npy` files."""
    train_extent(
        Recipe.model_validate(recipe),
        ImagePool.open(images),
        ImagePool.open([shares]),
        Path(into),
        Compute(**compute),
        report,
    )


def train_extent(
    recipe: Recipe, images: ImagePool, shares: ImagePool, into: Path, compute: Compute, report: Callable[[str], None]
) -> None:
    """Train one network and write its weights to `into`; go on from a checkpoint beside it.

    Args:
        recipe: its `segmentation` and `augmentation` sections are followed.
        images: of any kind, N.
        shares: how abnormal their pixels are, (N, 1, S, S) in [0, 1].
        into: the safetensors file to write; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
    """
    settings, size = recipe.segmentation, recipe.images.image_size
    torch.manual_seed(derived_seed(recipe.seed, "extent", "weights"))
    network = compute.place(UNet(recipe.images.channels, 1, settings.width))
    images, shares = images.near(compute), shares.near(compute)
    epoch_shape = (len(images), settings.batch_size, settings.least_steps)

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch_generator(recipe.seed, "extent", "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, generator):
            draw = draw_augmentations(len(chosen), size, recipe.augmentation, generator)
            own, share = (compute.send(pool.batch(chosen.numpy())) for pool in (images, shares))
            yield apply_augmentations(own, draw), moved(share, draw.affine, beyond="zeros")

    def loss(batch: Tensor, target: Tensor) -> Tensor:
        with compute.autocast():
            logits = network(batch)
        return functional.binary_cross_entropy_with_logits(logits, target)

    loop = LoopSettings(
        settings.epochs, steps_in_epoch(*epoch_shape), settings.learning_rate, "one-cycle", 0.9, section="segmentation"
    )
    train_epochs(network, batches, loss, loop, into, compute, report)
