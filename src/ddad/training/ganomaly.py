"""Train GANomaly (Akcay et al. 2018): generator and discriminator in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.nn import functional

from ddad.networks.ganomaly import GANomalyNetwork
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, Turn, train_in_turns
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator


def train_ganomaly(
    recipe: Recipe, normal: ImagePool, into: Path, compute: Compute, report: Callable[[str], None]
) -> None:
    """Train all networks and write their weights to `into`; go on from a checkpoint beside it.

    The generator's loss is the published sum: the discriminator's features of image and reconstruction shall be
    alike (squared), so shall the images (absolute) and both codes (squared).

    Args:
        recipe: its `ganomaly` section is followed.
        normal: D_n.
        into: the safetensors file to write; its notes hold the training curves.
        compute: device and precision.
        report: called after each epoch with a line about it.
    """
    settings, images = recipe.ganomaly, recipe.images
    torch.manual_seed(derived_seed(recipe.seed, "ganomaly", "weights"))
    network = compute.place(GANomalyNetwork(images.image_size, images.channels, settings.width, settings.latent_size))
    generator, discriminator = network.generator, network.discriminator
    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)

    def batch_turns(epoch: int) -> Iterator[Turn]:
        random = torch_generator(recipe.seed, "ganomaly", "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, random):
            real = compute.send(normal.batch(chosen.numpy()))
            with compute.autocast():
                fake, code, second_code = generator(real)
                says_real, says_fake = discriminator(real), discriminator(fake.detach())
            error = functional.softplus(-says_real).mean() + functional.softplus(says_fake).mean()
            yield Turn("discriminator", discriminator, error)
            with compute.autocast():
                features = discriminator.features(fake), discriminator.features(real)
            loss = settings.adversarial_weight * functional.mse_loss(features[0].float(), features[1].float())
            loss = loss + settings.contextual_weight * functional.l1_loss(fake, real)
            loss = loss + settings.encoder_weight * functional.mse_loss(second_code, code)
            yield Turn("generator", generator, loss)

    loop = LoopSettings(
        settings.epochs, 2 * steps_in_epoch(*epoch_shape), settings.learning_rate, "constant", 0.5, section="ganomaly"
    )
    train_in_turns(network, batch_turns, loop, into, compute, report)
