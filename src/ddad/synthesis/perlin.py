"""DRAEM's anomalies (Zavrtanik et al. 2021): another texture shines through where Perlin noise is high."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_FINEST = 5  # cells an axis are 1, 2, ... 2^5
_THRESHOLD = 0.5
_LEAST_OPACITY = 0.1


@dataclass(frozen=True)
class PerlinDraw:
    """One texture anomaly for each of N images.

    Attributes:
        masks: (N, S, S), 1 where the texture shows and 0 elsewhere; empty where an image stays untouched.
        opacity: (N,) share β of the texture, in [0.1, 1].
        donors: (N,) index of the normal image that the texture is taken from.
    """

    masks: Tensor
    opacity: Tensor
    donors: Tensor


def draw_perlin(images: Tensor, pool_size: int, image_size: int, generator: torch.Generator) -> PerlinDraw:
    """Draw texture anomalies; half of the images stay untouched, as published.

    Args:
        images: (N,) indices of the images within the pool of normal images; a donor is never the image itself.
        pool_size: normal images to take textures from, at least 2.
        image_size: side S of the square images.
        generator: source of all randomness.
    """
    count = len(images)
    noise = torch.stack([_noise(image_size, generator) for _ in range(count)])
    touched = torch.rand(count, generator=generator) < 0.5
    donors = torch.randint(0, pool_size - 1, (count,), generator=generator)
    return PerlinDraw(
        masks=((noise > _THRESHOLD) & touched[:, None, None]).float(),
        opacity=_LEAST_OPACITY + (1 - _LEAST_OPACITY) * torch.rand(count, generator=generator),
        donors=donors + (donors >= images).long(),
    )


def apply_perlin(images: Tensor, textures: Tensor, draw: PerlinDraw) -> Tensor:
    """Let the texture shine through: (1 - βM)x + βM·texture, for images and textures (N, C, S, S) in [-1, 1]."""
    weight = draw.masks * draw.opacity[:, None, None]
    return torch.lerp(images, textures, weight[:, None].to(images))


def _noise(size: int, generator: torch.Generator) -> Tensor:
    """Return Perlin noise (size, size), about in [-1, 1], with a random number of cells along each axis."""
    cells = [2 ** int(torch.randint(0, _FINEST + 1, (), generator=generator)) for _ in range(2)]
    angles = 2 * math.pi * torch.rand(cells[0] + 1, cells[1] + 1, generator=generator)
    slopes = torch.stack([torch.cos(angles), torch.sin(angles)], dim=-1)
    places = [torch.arange(size) * count / size for count in cells]
    corner = [place.long() for place in places]
    inside = torch.stack(
        torch.meshgrid(*(place - start for place, start in zip(places, corner, strict=True)), indexing="ij"), dim=-1
    )

    def ramp(down: int, right: int) -> Tensor:
        slope = slopes[corner[0] + down][:, corner[1] + right]
        return (slope * (inside - torch.tensor([float(down), float(right)]))).sum(dim=-1)

    fade = inside**3 * (inside * (6 * inside - 15) + 10)
    upper = torch.lerp(ramp(0, 0), ramp(0, 1), fade[..., 1])
    lower = torch.lerp(ramp(1, 0), ramp(1, 1), fade[..., 1])
    return math.sqrt(2) * torch.lerp(upper, lower, fade[..., 0])
