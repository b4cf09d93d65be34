"""Train DRAEM's two networks on texture anomalies (Zavrtanik et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ddad.augmentation import apply_augmentations, draw_augmentations
from ddad.networks.draem import DRAEMNetwork
from ddad.networks.ssim import structural_similarity
from ddad.recipe import Recipe
from ddad.synthesis import apply_perlin, draw_perlin
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_epochs
from ddad.training.pixels import ImagePool
from ddad.training.refinement import focal_loss
from ddad.training.seeds import derived_seed, torch_generator
from ddad.training.steps import Batch

_FOCAL_GAMMA = 2.0


def train_draem(recipe: Recipe, normal: ImagePool, into: Path, compute: Compute, report: Callable[[str], None]) -> None:
    """Train both networks together and write their weights to `into`; go on from a checkpoint beside it.

    The loss is that of the paper: squared error and SSIM of the reconstruction, focal loss of the map. Textures are
    other training images, changed by the section `augmentation`, where the paper takes photographs of textures.

    Args:
        recipe: its `segmentation` and `augmentation` sections are followed.
        normal: D_n, at least two images.
        into: the safetensors file to write; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
    """
    settings, size = recipe.segmentation, recipe.images.image_size
    torch.manual_seed(derived_seed(recipe.seed, "draem", "weights"))
    network = compute.place(DRAEMNetwork(recipe.images.channels, settings.width))
    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch_generator(recipe.seed, "draem", "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, generator):
            draw = draw_perlin(chosen, len(normal), size, generator)
            change = draw_augmentations(len(chosen), size, recipe.augmentation, generator)
            textures = apply_augmentations(normal.batch(draw.donors.numpy()), change)
            images = normal.batch(chosen.numpy())
            yield apply_perlin(images, textures, draw), images, draw.masks

    def loss(altered: Tensor, images: Tensor, masks: Tensor) -> Tensor:
        with compute.autocast():
            reconstruction, logits = network(altered)
        similarity = structural_similarity(reconstruction, images).mean()
        error = functional.mse_loss(reconstruction, images)
        return error + (1 - similarity) + focal_loss(logits, masks, _FOCAL_GAMMA)

    loop = LoopSettings(
        settings.epochs, steps_in_epoch(*epoch_shape), settings.learning_rate, "one-cycle", 0.9, section="segmentation"
    )
    train_epochs(network, batches, loss, loop, into, compute, report)
