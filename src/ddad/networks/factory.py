"""Build the networks that a recipe names."""

from __future__ import annotations

from collections.abc import Sequence

from ddad.networks.asr_net import AnchoredASRNet, ASRNet
from ddad.networks.autoencoder import Autoencoder
from ddad.networks.memory import MemoryAutoencoder
from ddad.networks.variational import VariationalAutoencoder
from ddad.recipe import Recipe
from ddad.recipe_sections import Preprocessing, Reconstruction


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


def build_asr_net(recipe: Recipe, inputs: Sequence[str]) -> ASRNet:
    """Build an untrained ASR-Net for the discrepancy maps named `inputs`."""
    if recipe.refinement.network == "anchored":
        return AnchoredASRNet(inputs, recipe.refinement.width, recipe.images.image_size)
    return ASRNet(inputs, recipe.refinement.width)
