"""Build the networks that a recipe names."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ddad.networks.asr_net import AnchoredASRNet, ASRNet
from ddad.networks.autoencoder import Autoencoder
from ddad.networks.memory import MemoryAutoencoder
from ddad.networks.variational import VariationalAutoencoder
from ddad.recipe import Recipe
from ddad.recipe_sections import Preprocessing, Reconstruction

_PROCESS_BYTES = 500_000_000


def build_autoencoder(images: Preprocessing, settings: Reconstruction) -> Autoencoder:
    """Build one untrained member, its parameters drawn from torch's global generator."""
    size, channels, latent = images.image_size, images.channels, settings.latent_size
    match settings.backbone:
        case "ae":
            return Autoencoder(size, channels, latent)
        case "ae-u":
            return Autoencoder(size, channels, latent, predict_uncertainty=True)
        case "vae":
            return VariationalAutoencoder(size, channels, latent)
        case "memae":
            return MemoryAutoencoder(
                size,
                channels,
                latent,
                slots=settings.memory_slots,
                entropy_weight=settings.memory_entropy_weight,
            )


def training_memory(images: Preprocessing, settings: Reconstruction) -> int:
    """Return how many bytes the training of one member takes at its most.

    Weights, gradients and the two moments of Adam; weights and moments once more while a checkpoint is written; and
    half a gigabyte for the process.
    """
    return 7 * member_bytes(images, settings) + _PROCESS_BYTES


def refining_memory(images: Preprocessing, settings: Reconstruction) -> int:
    """Return how many bytes the training of an ASR-Net takes at its most: it holds the members of both modules."""
    return 2 * settings.members * member_bytes(images, settings) + _PROCESS_BYTES


def member_bytes(images: Preprocessing, settings: Reconstruction) -> int:
    """Return how many bytes the weights of one member take."""
    with torch.device("meta"):
        member = build_autoencoder(images, settings)
    return sum(weight.numel() * weight.element_size() for weight in member.parameters())


def build_asr_net(recipe: Recipe, inputs: Sequence[str]) -> ASRNet:
    """Build an untrained ASR-Net for the discrepancy maps named `inputs`."""
    if recipe.refinement.network == "anchored":
        return AnchoredASRNet(inputs, recipe.refinement.width, recipe.images.image_size)
    return ASRNet(inputs, recipe.refinement.width)
