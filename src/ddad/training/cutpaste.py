"""Train CutPaste (Li et al. 2021): tell a normal image from one with a pasted patch and from one with a scar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ddad.augmentation import apply_augmentations, draw_augmentations
from ddad.networks.cutpaste import CLASSES, CutPasteNetwork
from ddad.recipe import Recipe
from ddad.recipe_sections import Augmentation
from ddad.synthesis import apply_cutpaste, draw_cutpaste, draw_scars
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_epochs
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator
from ddad.training.steps import Batch


def train_cutpaste(
    recipe: Recipe, normal: ImagePool, into: Path, compute: Compute, report: Callable[[str], None]
) -> None:
    """Train the classifier and write its weights to `into`; go on from a checkpoint beside it.

    Every batch holds the same images three times: as they are, with a patch, and with a scar, after one change of
    place, contrast and brightness.

    Args:
        recipe: its `cutpaste` section is followed.
        normal: D_n.
        into: the safetensors file to write; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
    """
    settings, size = recipe.cutpaste, recipe.images.image_size
    torch.manual_seed(derived_seed(recipe.seed, "cutpaste", "weights"))
    network = compute.place(CutPasteNetwork(recipe.images.channels, settings.width))
    batch_size = min(settings.batch_size, len(normal))
    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)
    change = Augmentation(
        rotation=0, scale=0, shift=settings.shift, flip_share=0, gamma=0,
        contrast=settings.jitter, brightness=settings.jitter, blur=0, noise=0,
    )  # fmt: skip
    labels = torch.arange(CLASSES).repeat_interleave(batch_size).to(compute.device)

    def batches(epoch: int) -> Iterator[Batch]:
        random = torch_generator(recipe.seed, "cutpaste", "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, random):
            own = normal.batch(chosen.numpy())
            images = apply_augmentations(own, draw_augmentations(batch_size, size, change, random))
            patched = apply_cutpaste(images, draw_cutpaste(batch_size, size, settings, random))
            scarred = apply_cutpaste(images, draw_scars(batch_size, size, settings, random))
            yield (torch.cat([images, patched, scarred]),)

    def loss(images: Tensor) -> Tensor:
        with compute.autocast():
            logits = network(images)
        return functional.cross_entropy(logits, labels)

    loop = LoopSettings(
        settings.epochs,
        steps_in_epoch(*epoch_shape),
        settings.learning_rate,
        "one-cycle",
        0.9,
        settings.weight_decay,
        section="cutpaste",
    )
    train_epochs(network, batches, loss, loop, into, compute, report)
