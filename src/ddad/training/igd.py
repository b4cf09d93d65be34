"""Train IGD (Chen et al. 2022): an autoencoder with a Gaussian description, against a critic of interpolations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from ddad.networks.igd import IGDNetwork, build_igd
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, Turn, train_in_turns
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator

_ESTIMATION_BATCH = 64
_SHARE_OF_REAL = 0.2  # γ: what the critic must call uninterpolated is a reconstruction drawn towards its image


def train_igd(recipe: Recipe, normal: ImagePool, into: Path, compute: Compute, report: Callable[[str], None]) -> None:
    """Train all networks and write their weights to `into`; go on from a checkpoint beside it.

    The autoencoder minimises its reconstruction error, the unlikeliness of its codes under the Gaussian, and the share
    that the critic sees in images decoded from two codes mixed; the critic learns to tell that share. The Gaussian is
    estimated from all images at the start and every few epochs.

    Args:
        recipe: its `igd` section is followed.
        normal: D_n.
        into: the safetensors file to write; its notes hold the training curves.
        compute: device and precision.
        report: called after each epoch with a line about it.
    """
    settings = recipe.igd
    torch.manual_seed(derived_seed(recipe.seed, "igd", "weights"))
    network = compute.place(build_igd(recipe.images, settings))
    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)

    def batch_turns(epoch: int) -> Iterator[Turn]:
        if epoch % settings.estimation_epochs == 0:
            _estimate(network, normal, compute)
        random = torch_generator(recipe.seed, "igd", "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, random):
            images = compute.send(normal.batch(chosen.numpy()))
            share = (torch.rand(len(chosen), generator=random) / 2).to(compute.device)
            with compute.autocast():
                codes = network.encode(images)
                reconstructions = network.decode(codes)
                mixed = network.decode(torch.lerp(codes.flip(0), codes, share[:, None]))
                fooled = network.critic(mixed).squeeze(1)
            loss = network.reconstruction_error(images, reconstructions).mean() + network.unlikeliness(codes).mean()
            loss = loss + settings.interpolation_weight * (fooled**2).mean()
            yield Turn("autoencoder", network.autoencoder, loss)
            unmixed = torch.lerp(reconstructions.detach(), images, _SHARE_OF_REAL)
            with compute.autocast():
                guess, none = network.critic(mixed.detach()).squeeze(1), network.critic(unmixed).squeeze(1)
            yield Turn("critic", network.critic, ((guess - share) ** 2).mean() + (none**2).mean())

    steps = 2 * steps_in_epoch(*epoch_shape)
    loop = LoopSettings(
        settings.epochs, steps, settings.learning_rate, "polynomial", 0.0, 1e-6, second_momentum=0.9, section="igd"
    )
    train_in_turns(network, batch_turns, loop, into, compute, report)


def _estimate(network: IGDNetwork, normal: ImagePool, compute: Compute) -> None:
    """Fit the Gaussian to the codes of all images, as they are when images are scored."""
    network.eval()
    places = np.arange(len(normal))
    with torch.no_grad(), compute.autocast():
        codes = [
            network.encode(compute.send(normal.batch(places[start : start + _ESTIMATION_BATCH])))
            for start in range(0, len(places), _ESTIMATION_BATCH)
        ]
    network.fit_gaussian(torch.cat(codes))
    network.train()
