"""Stage 2: train ASR-Nets on synthetic anomalies (section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddad.networks.asr_net import AnchoredASRNet, ASRNet
from ddad.networks.ensemble import Ensemble, discrepancy_maps
from ddad.networks.factory import build_asr_net, build_autoencoder
from ddad.networks.streams import together
from ddad.recipe import Recipe
from ddad.synthesis import apply_patches, draw_patches
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.epochs import epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_together
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


def train_refiners_job(
    *, recipe: dict[str, Any], inputs: list[list[str]], pixels: str, members: dict[str, list[str]], into: list[str],
    compute: dict[str, Any], report: Callable[..., None],
) -> None:  # fmt: skip
    """Do `train_refiners` with arguments that travel as JSON."""

    def report_all(line: str) -> None:
        report(line, len(inputs))

    settings = Recipe.model_validate(recipe)
    train_refiners(
        settings,
        inputs,
        ImagePool.open([pixels]),
        {module: load_ensemble(settings, paths) for module, paths in members.items()},
        [Path(path) for path in into],
        Compute(**compute),
        report_all,
    )


def train_refiners(
    recipe: Recipe,
    inputs: Sequence[Sequence[str]],
    normal: ImagePool,
    modules: Mapping[str, Ensemble],
    into: Sequence[Path],
    compute: Compute,
    report: Callable[[str], None],
) -> None:
    """Train F(·) of equation 8 or 13, or both, and write their weights; go on from a checkpoint beside them.

    Several are trained in the same steps. Each learns from batches of its own, so that it is what it would be alone.

    Args:
        recipe: its `refinement` and `synthesis` sections are followed.
        inputs: for each network the discrepancy maps that it refines, `a_intra` alone or with `a_inter`.
        normal: D_n; at least two images.
        modules: `ndm`, and `udm` if `a_inter` is an input.
        into: the safetensors file of each; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
    """
    settings, normal = recipe.refinement, normal.near(compute)
    ensembles = {module: compute.place(ensemble) for module, ensemble in modules.items()}
    purposes = ["+".join(names) for names in inputs]

    def discrepancies(images: Tensor, names: Sequence[str]) -> Tensor:
        with torch.no_grad():
            # A network that reads no A_inter has no need of the UDM.
            maps = discrepancy_maps(ensembles["ndm"], ensembles["udm"] if "a_inter" in names else None, images)
        return torch.stack([maps[name] for name in names], dim=1)

    networks = []
    for purpose, names in zip(purposes, inputs, strict=True):
        torch.manual_seed(derived_seed(recipe.seed, purpose, "weights"))
        network = compute.place(build_asr_net(recipe, names))
        if isinstance(network, AnchoredASRNet):
            starts = range(0, len(normal), _STATISTICS_BATCH)
            parts = [np.arange(start, min(start + _STATISTICS_BATCH, len(normal))) for start in starts]
            with compute.exactly():
                network.fit_normal_statistics(
                    discrepancies(compute.send(normal.batch(batch)), names) for batch in parts
                )
        networks.append(network)

    epoch_shape = (len(normal), settings.batch_size, settings.least_steps)

    def own_batches(purpose: str, epoch: int) -> Iterator[Batch]:
        generator = torch_generator(recipe.seed, purpose, "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, generator):
            draw = draw_patches(chosen, len(normal), recipe.images.image_size, recipe.synthesis, generator)
            yield apply_patches(normal.batch(chosen.numpy()), normal.batch(draw.donors.numpy()), draw)

    def batches(epoch: int) -> Iterator[Batch]:
        for each in zip(*(own_batches(purpose, epoch) for purpose in purposes), strict=True):
            yield tuple(chain.from_iterable(each))

    def loss(network: ASRNet, names: Sequence[str], images: Tensor, labels: Tensor) -> Tensor:
        maps = discrepancies(images, names)
        with compute.autocast():
            logits = network(maps)
        return focal_loss(logits, labels, settings.focal_gamma)

    def losses(*own: Tensor) -> list[Tensor]:
        each = zip(networks, inputs, own[::2], own[1::2], strict=True)
        return together([partial(loss, *arguments) for arguments in each], compute.device)

    loop = LoopSettings(
        settings.epochs,
        steps_in_epoch(*epoch_shape),
        settings.learning_rate,
        settings.schedule,
        settings.momentum,
        settings.weight_decay,
        section="refinement",
    )
    train_together(networks, batches, losses, loop, into, compute, report)
