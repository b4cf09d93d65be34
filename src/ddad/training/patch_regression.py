"""Train a network to see how much of another image was mixed in, pixel by pixel (FPI and PII)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ddad.networks.unet import UNet
from ddad.recipe import Recipe
from ddad.synthesis import apply_patches, apply_poisson_patches, draw_patches, inside_rim, patch_weights
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_epochs
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator
from ddad.training.steps import Batch


def train_patch_regression(
    recipe: Recipe, normal: ImagePool, into: Path, compute: Compute, report: Callable[[str], None], *, method: str
) -> None:
    """Train one network on synthetic anomalies and write its weights to `into`; go on from a checkpoint beside it.

    Args:
        recipe: its `segmentation` and `synthesis` sections are followed.
        normal: D_n, at least two images.
        into: the safetensors file to write; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
        method: `fpi` mixes pixels (Tan et al. 2020), `pii` mixes gradients (Tan et al. 2021).
    """
    settings, size = recipe.segmentation, recipe.images.image_size
    torch.manual_seed(derived_seed(recipe.seed, method, "weights"))
    network = compute.place(UNet(recipe.images.channels, 1, settings.width))
    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch_generator(recipe.seed, method, "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, generator):
            draw = draw_patches(chosen, len(normal), size, recipe.synthesis, generator)
            own, donors = normal.batch(chosen.numpy()), normal.batch(draw.donors.numpy())
            mixed = apply_poisson_patches(own, donors, draw) if method == "pii" else apply_patches(own, donors, draw)[0]
            yield mixed, patch_weights(inside_rim(draw, size) if method == "pii" else draw, size)

    def loss(mixed: Tensor, target: Tensor) -> Tensor:
        with compute.autocast():
            logits = network(mixed).squeeze(1)
        # As published: the cross-entropy with α itself as a soft label.
        return functional.binary_cross_entropy_with_logits(logits, target)

    loop = LoopSettings(
        settings.epochs, steps_in_epoch(*epoch_shape), settings.learning_rate, "one-cycle", 0.9, section="segmentation"
    )
    train_epochs(network, batches, loss, loop, into, compute, report)
