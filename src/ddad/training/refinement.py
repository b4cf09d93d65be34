"""Stage 2: train one ASR-Net on synthetic anomalies (section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddad.networks.asr_net import AnchoredASRNet
from ddad.networks.ensemble import Ensemble, discrepancy_maps
from ddad.networks.factory import build_asr_net, build_autoencoder
from ddad.recipe import Recipe
from ddad.synthesis import apply_patches, draw_patches
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_epochs
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator
from ddad.training.steps import Batch

_STATISTICS_BATCH = 64


def focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Mean of -(1 - p_t)^γ log p_t over all pixels (equation 12).

    Args:
        logits: of the anomaly probability, any shape.
        labels: 0 or 1, same shape.
        gamma: focusing parameter; 0 gives cross-entropy.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    # The root of zero has no slope, so a pixel that could not be surer is held just short of it.
    doubt = (1 - torch.exp(-cross_entropy)).clamp_min(torch.finfo(torch.float32).eps)
    return (doubt**gamma * cross_entropy).mean()


def load_ensemble(recipe: Recipe, paths: Sequence[str | Path]) -> Ensemble:
    """Build a module from its members' weights files, ready to reconstruct."""
    members = []
    for path in paths:
        member = build_autoencoder(recipe.images, recipe.reconstruction)
        member.load_state_dict(load_tensors(Path(path))[0])
        members.append(member)
    return Ensemble(members).eval()


def train_refiner_job(
    *, recipe: dict[str, Any], inputs: list[str], pixels: str, members: dict[str, list[str]], into: str,
    compute: dict[str, Any], report: Callable[[str], None],
) -> None:  # fmt: skip
    """Do `train_refiner` with arguments that travel as JSON."""
    settings = Recipe.model_validate(recipe)
    modules = {module: load_ensemble(settings, paths) for module, paths in members.items()}
    train_refiner(settings, inputs, ImagePool.open([pixels]), modules, Path(into), Compute(**compute), report)


def train_refiner(
    recipe: Recipe,
    inputs: Sequence[str],
    normal: ImagePool,
    modules: Mapping[str, Ensemble],
    into: Path,
    compute: Compute,
    report: Callable[[str], None],
) -> None:
    """Train F(·) of equation 8 or 13 and write its weights to `into`; go on from a checkpoint if one lies there.

    Args:
        recipe: its `refinement` and `synthesis` sections are followed.
        inputs: the discrepancy maps to refine, `a_intra` alone or with `a_inter`.
        normal: D_n; at least two images.
        modules: `ndm`, and `udm` if `a_inter` is an input.
        into: the safetensors file to write; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
    """
    settings, purpose = recipe.refinement, "+".join(inputs)
    ensembles = {module: compute.place(ensemble) for module, ensemble in modules.items()}

    def discrepancies(images: Tensor) -> Tensor:
        with torch.no_grad():
            maps = discrepancy_maps(ensembles["ndm"], ensembles.get("udm"), images)
        return torch.stack([maps[name] for name in inputs], dim=1)

    torch.manual_seed(derived_seed(recipe.seed, purpose, "weights"))
    network = compute.place(build_asr_net(recipe, inputs))
    if isinstance(network, AnchoredASRNet):
        starts = range(0, len(normal), _STATISTICS_BATCH)
        parts = [np.arange(start, min(start + _STATISTICS_BATCH, len(normal))) for start in starts]
        with compute.exactly():
            network.fit_normal_statistics(discrepancies(compute.send(normal.batch(batch))) for batch in parts)

    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch_generator(recipe.seed, purpose, "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, generator):
            draw = draw_patches(chosen, len(normal), recipe.images.image_size, recipe.synthesis, generator)
            yield apply_patches(normal.batch(chosen.numpy()), normal.batch(draw.donors.numpy()), draw)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        maps = discrepancies(images)
        with compute.autocast():
            logits = network(maps)
        return focal_loss(logits, labels, settings.focal_gamma)

    loop = LoopSettings(
        settings.epochs,
        steps_in_epoch(*epoch_shape),
        settings.learning_rate,
        settings.schedule,
        settings.momentum,
        settings.weight_decay,
        section="refinement",
    )
    train_epochs(network, batches, loss, loop, into, compute, report)
