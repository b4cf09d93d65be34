"""Train f-AnoGAN (Schlegl et al. 2019): first the GAN, then the encoder that finds an image's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ddad.networks.f_anogan import WGAN, FAnoGANNetwork
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, Turn, train_epochs, train_in_turns
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator
from ddad.training.steps import Batch


def train_gan(recipe: Recipe, normal: ImagePool, into: Path, compute: Compute, report: Callable[[str], None]) -> None:
    """Train generator and critic as a Wasserstein GAN with gradient penalty; go on from a checkpoint beside `into`.

    Args:
        recipe: its `f_anogan` section is followed.
        normal: D_n.
        into: the safetensors file to write; its notes hold the training curves.
        compute: device and precision; the gradient penalty is always exact.
        report: called after each epoch with a line about it.
    """
    settings, images = recipe.f_anogan, recipe.images
    torch.manual_seed(derived_seed(recipe.seed, "f-anogan", "gan", "weights"))
    gan = compute.place(WGAN(images.image_size, images.channels, settings.width, settings.latent_size))
    batch_size = min(settings.batch_size, len(normal))
    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)
    # In an epoch; the generator learns after every `settings.critic_steps` of them.
    critic_steps = steps_in_epoch(*epoch_shape)
    speed = settings.generator_learning_rate / settings.critic_learning_rate

    def batch_turns(epoch: int) -> Iterator[Turn]:
        random = torch_generator(recipe.seed, "f-anogan", "gan", "epoch", epoch)

        def fake() -> Tensor:
            code = torch.randn(batch_size, settings.latent_size, generator=random).to(compute.device)
            with compute.autocast():
                generated: Tensor = gan.generator(code)
            return generated

        for step, chosen in enumerate(epoch_batches(*epoch_shape, random)):
            real = compute.send(normal.batch(chosen.numpy()))
            with torch.no_grad():
                generated = fake()
            mix = torch.rand(batch_size, generator=random).to(compute.device)
            with compute.autocast():
                distance = gan.critic(real).mean() - gan.critic(generated).mean()
            penalty = gan.gradient_penalty(real, generated, mix)
            yield Turn("critic", gan.critic, settings.penalty_weight * penalty - distance)
            if (step + 1) % settings.critic_steps == 0 or step + 1 == critic_steps:
                with compute.autocast():
                    loss = -gan.critic(fake()).mean()
                yield Turn("generator", gan.generator, loss, speed)

    loop = LoopSettings(
        settings.gan_epochs,
        critic_steps,
        settings.critic_learning_rate,
        "constant",
        0.0,
        second_momentum=0.9,
        section="f_anogan",
    )
    train_in_turns(gan, batch_turns, loop, into, compute, report)


def train_encoder(
    recipe: Recipe, normal: ImagePool, into: Path, compute: Compute, report: Callable[[str], None], *, gan: str
) -> None:
    """Train the encoder from image to image and back to the critic's features (izi_f); the GAN stays as it is.

    Args:
        recipe: its `f_anogan` section is followed.
        normal: D_n.
        into: the safetensors file to write, with the encoder alone; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
        gan: file of the weights that `train_gan` wrote.
    """
    settings, images = recipe.f_anogan, recipe.images
    torch.manual_seed(derived_seed(recipe.seed, "f-anogan", "encoder", "weights"))
    network = FAnoGANNetwork(images.image_size, images.channels, settings.width, settings.latent_size)
    network.gan.load_state_dict(load_tensors(Path(gan))[0])
    network = compute.place(network)
    network.gan.eval().requires_grad_(requires_grad=False)
    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)

    def batches(epoch: int) -> Iterator[Batch]:
        random = torch_generator(recipe.seed, "f-anogan", "encoder", "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, random):
            yield (normal.batch(chosen.numpy()),)

    def loss(batch: Tensor) -> Tensor:
        with compute.autocast():
            reconstruction, difference = network(batch)
        error: Tensor = ((reconstruction - batch) ** 2).mean() + settings.feature_weight * difference.mean()
        return error

    steps = steps_in_epoch(*epoch_shape)
    loop = LoopSettings(
        settings.encoder_epochs, steps, settings.encoder_learning_rate, "one-cycle", 0.9, section="f_anogan"
    )
    train_epochs(network.encoder, batches, loss, loop, into, compute, report)
