"""The procedure as published, written plainly for comparison: what `fast` and the engine are measured against.

One network after another, fp32, images in memory, ASR-Net at batch 8 with a pass over the test set after each
epoch, scoring one image at a time. `bench.py` runs a few steps of each part and extrapolates, and says so; for
`same_scores.py` it is run to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ddad.networks.autoencoder import Autoencoder
from ddad.networks.ensemble import Ensemble, discrepancy_maps
from ddad.networks.factory import build_autoencoder
from ddad.recipe import Recipe
from ddad.synthesis import apply_patches, draw_patches
from ddad.training.refinement import focal_loss

STAGE_1_BATCH = 64
STAGE_2_BATCH = 8


class _PlainASRNet(nn.Module):
    """ASR-Net as published: three convolutions, the last one with two outputs."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width, kernel_size=3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, kernel_size=3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, 2, kernel_size=3, padding=1),
        )  # fmt: skip

    def forward(self, discrepancies: Tensor) -> Tensor:
        """Return logits (N, H, W) of the anomaly probability for discrepancies (N, inputs, H, W)."""
        normal, abnormal = self.layers(discrepancies).unbind(dim=1)
        difference: Tensor = abnormal - normal
        return difference


def _reconstruction_network(recipe: Recipe) -> Autoencoder:
    """Build the published network: its last layer as torch computes it, not by the project's faster way."""
    network = build_autoencoder(recipe.images, recipe.reconstruction)
    last = network.decoder[-1]
    assert isinstance(last, nn.ConvTranspose2d)
    network.decoder[-1] = nn.ConvTranspose2d(last.in_channels, last.out_channels, kernel_size=4, stride=2, padding=1)
    return network


def images_per_second(step: Callable[[], int], seconds: float) -> float:
    """Repeat `step`, which returns how many images it did, for about `seconds`, after one step to warm up."""
    step()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        count += step()
    return count / (time.perf_counter() - started)


def stage_1_rate(recipe: Recipe, images: Tensor, seconds: float) -> float:
    """Train one reconstruction network on images (N, C, S, S); return images a second."""
    return images_per_second(reconstruction_step(_reconstruction_network(recipe), recipe, images), seconds)


def reconstruction_step(network: Autoencoder, recipe: Recipe, images: Tensor) -> Callable[[], int]:
    """Return what trains a network by the next batch of images (N, C, S, S), and says how many these were."""
    network.train()
    optimizer = _adam(network, recipe.reconstruction.learning_rate)
    batches = _batches(len(images), STAGE_1_BATCH)

    def step() -> int:
        batch = images[next(batches)]
        loss = network.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # the published loop keeps a running mean on the CPU
        return len(batch)

    return step


def _batches(count: int, size: int) -> Iterator[Tensor]:
    """Draw batches for ever; the last, incomplete one of an epoch is dropped, as published."""
    steps = steps_in_epoch(count, size)
    while True:
        yield from torch.randperm(count)[: steps * size].chunk(steps)


def steps_in_epoch(count: int, size: int) -> int:
    """Return how many whole batches an epoch has."""
    return max(1, count // size)


def images_in_epoch(count: int, size: int) -> int:
    """Return how many of so many images are in whole batches."""
    return steps_in_epoch(count, size) * min(size, count)


def trained(step: Callable[[], int], steps: int) -> None:
    """Repeat `step` so often."""
    for _ in range(steps):
        step()


def fitted(recipe: Recipe, normal: Tensor, unlabeled: Tensor) -> tuple[Ensemble, Ensemble, dict[str, nn.Module]]:
    """Run the procedure to its end where the images (N, C, S, S) are; return NDM, UDM, and ASR-Net by score.

    The pass over the test set after each epoch, which changes nothing, is left out.
    """
    ndm, udm = (module.to(normal.device) for module in untrained_modules(recipe))
    settings = recipe.reconstruction
    both = torch.cat([normal, unlabeled])
    for module, images, epochs in ((ndm, normal, settings.ndm_epochs), (udm, both, settings.udm_epochs)):
        for member in module.members:
            steps = epochs * steps_in_epoch(len(images), STAGE_1_BATCH)
            trained(reconstruction_step(member, recipe, images), steps)
        module.eval()
    refiners: dict[str, nn.Module] = {}
    for score, modules in (("r_intra", (ndm,)), ("r_dual", (ndm, udm))):
        refiner = _PlainASRNet(len(modules), recipe.refinement.width).to(normal.device)
        steps = recipe.refinement.epochs * steps_in_epoch(len(normal), STAGE_2_BATCH)
        trained(refinement_step(refiner, recipe, modules, normal), steps)
        refiners[score] = refiner.eval()
    return ndm, udm, refiners


def scored(modules: Sequence[Ensemble], refiner: nn.Module, images: Tensor) -> list[float]:
    """Score images (N, C, S, S) one at a time."""
    with torch.no_grad():
        return [torch.sigmoid(refiner(_discrepancies(modules, one[None]))).mean().item() for one in images]


def untrained_modules(recipe: Recipe) -> tuple[Ensemble, Ensemble]:
    """Build NDM and UDM; for timing, what they learned does not matter."""
    count = recipe.reconstruction.members
    ndm, udm = (Ensemble([_reconstruction_network(recipe) for _ in range(count)]) for _ in range(2))
    return ndm.eval(), udm.eval()


def stage_2_rate(recipe: Recipe, modules: Sequence[Ensemble], images: Tensor, seconds: float) -> float:
    """Train one ASR-Net on images (N, C, S, S) with synthetic patches; return images a second.

    It is that of R_intra if `modules` is the NDM alone, that of R_dual if it is NDM and UDM.
    """
    refiner = _PlainASRNet(len(modules), recipe.refinement.width)
    return images_per_second(refinement_step(refiner, recipe, modules, images), seconds)


def refinement_step(
    refiner: nn.Module, recipe: Recipe, modules: Sequence[Ensemble], images: Tensor
) -> Callable[[], int]:
    """Return what trains an ASR-Net by the next batch of images (N, C, S, S), and says how many these were."""
    refiner.train()
    optimizer = _adam(refiner, recipe.refinement.learning_rate, recipe.refinement.weight_decay)
    batches, generator = _batches(len(images), STAGE_2_BATCH), torch.default_generator

    def step() -> int:
        chosen = next(batches)
        draw = draw_patches(chosen, len(images), recipe.images.image_size, recipe.synthesis, generator)
        batch, labels = apply_patches(images[chosen], images[draw.donors], draw)
        loss = focal_loss(refiner(_discrepancies(modules, batch)), labels, 2.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        return len(batch)

    return step


def scoring_rate(recipe: Recipe, modules: Sequence[Ensemble], images: Tensor, seconds: float) -> float:
    """Score images (N, C, S, S) one at a time with the modules and one ASR-Net; return images a second."""
    refiner = _PlainASRNet(len(modules), recipe.refinement.width).eval()
    place = 0

    def step() -> int:
        nonlocal place
        place = (place + 1) % len(images)
        with torch.no_grad():
            torch.sigmoid(refiner(_discrepancies(modules, images[place : place + 1]))).mean().item()
        return 1

    return images_per_second(step, seconds)


@torch.no_grad()
def _discrepancies(modules: Sequence[Ensemble], images: Tensor) -> Tensor:
    maps = discrepancy_maps(modules[0], modules[1] if len(modules) > 1 else None, images)
    return torch.stack([maps[name] for name in ("a_intra", "a_inter") if name in maps], dim=1)


def _adam(network: nn.Module, rate: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.999), weight_decay=weight_decay)
