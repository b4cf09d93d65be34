"""What this machine can do at its best, and how near to it ASR-Net's convolutions come."""

from __future__ import annotations

import os
import platform
import subprocess

import published_procedure as published
import torch
from torch import nn

from ddad.detectors.ddad import REFINED_AT_ONCE
from ddad.machine import processor_cores
from ddad.networks.factory import build_asr_net
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.side_by_side import side_by_side

_SIZES = (1024, 2048, 4096)


def described() -> str:
    """Say which processor this is."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def commit() -> str:
    """Return the short name of the commit that is measured."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def matrix_peak(dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Return GFLOP/s of a matrix product on all cores, of the size that it is fastest with."""

    def rate(size: int) -> float:
        left, right = torch.randn(2, size, size).to(dtype)
        return published.images_per_second(lambda: (left @ right, 1)[1], seconds) * 2 * size**3 / 1e9

    return max(rate(size) for size in _SIZES)


def asr_net_gflops(recipe: Recipe, compute: Compute, seconds: float) -> dict[str, float]:
    """Return GFLOP/s of ASR-Net as the engine scores, and of its wide convolution, padding included."""
    network = compute.place(build_asr_net(recipe, ["a_intra", "a_inter"]).eval())
    size, width = recipe.images.image_size, recipe.refinement.width
    maps = compute.send(torch.rand(REFINED_AT_ONCE, 2, size, size))
    hidden = compute.send(torch.rand(REFINED_AT_ONCE, width, size, size))
    if compute.precision == "bf16":
        hidden = hidden.bfloat16()

    def rate(part: nn.Module, images: torch.Tensor, multiplications: int) -> float:
        def refine(images: torch.Tensor) -> int:
            with torch.inference_mode(), compute.autocast():
                part(images)
            return len(images)

        def step() -> int:
            return sum(side_by_side(refine, [images] * 8 * processor_cores(), compute))

        # A multiplication and an addition at each of the nine places of a kernel.
        return published.images_per_second(step, seconds) * 2 * 9 * size**2 * multiplications / 1e9

    return {
        "network": rate(network, maps, 2 * width + width * width + 2 * width),
        "wide convolution": rate(network.layers[3], hidden, width * width),
    }
