"""Augmentation that takes shortcuts away: framing, contrast, sharpness and noise say nothing of disease.

Split in *draw*, which holds all randomness, and *apply*, which is pure: every augmented image can be replayed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ddad.draws import Draw
from ddad.recipe_sections import Augmentation

_BLUR = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16  # a binomial of standard deviation 1 pixel


@dataclass(frozen=True)
class AugmentationDraw(Draw):
    """One change of appearance for each of N images.

    Attributes:
        affine: (N, 2, 3) from places in the new image to places in the old one, both in [-1, 1].
        gamma: (N,) exponent of the grey values in [0, 1].
        contrast: (N,) factor around mid-grey.
        brightness: (N,) added to the grey values.
        blur: (N,) share of the blurred image, in [0, 1].
        noise: (N, 1, S, S) added to the grey values.
    """

    affine: Tensor
    gamma: Tensor
    contrast: Tensor
    brightness: Tensor
    blur: Tensor
    noise: Tensor


def draw_augmentations(
    count: int, image_size: int, settings: Augmentation, generator: torch.Generator
) -> AugmentationDraw:
    """Draw a change of appearance, within the recipe's ranges, for `count` square images of side `image_size`."""

    def spread(width: float) -> Tensor:
        return _spread(width, count, generator)

    affine = draw_movements(count, settings, generator)
    deviation = settings.noise * torch.rand(count, 1, 1, 1, generator=generator)
    return AugmentationDraw(
        affine=affine,
        gamma=torch.exp(spread(math.log1p(settings.gamma))),
        contrast=torch.exp(spread(math.log1p(settings.contrast))),
        brightness=spread(settings.brightness),
        blur=settings.blur * torch.rand(count, generator=generator),
        noise=deviation * torch.randn(count, 1, image_size, image_size, generator=generator),
    )


def draw_movements(count: int, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Draw how `count` images are turned, scaled, mirrored and shifted, (N, 2, 3): `AugmentationDraw.affine`."""
    angle = _spread(math.radians(settings.rotation), count, generator)
    scale = torch.exp(_spread(math.log1p(settings.scale), count, generator))
    flip = torch.where(torch.rand(count, generator=generator) < settings.flip_share, -1.0, 1.0)
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    shift_x, shift_y = (_spread(2 * settings.shift, count, generator) for _ in range(2))
    return torch.stack([flip * cosine, -sine, shift_x, flip * sine, cosine, shift_y], dim=1).view(count, 2, 3)


def _spread(width: float, count: int, generator: torch.Generator) -> Tensor:
    return width * (2 * torch.rand(count, generator=generator) - 1)


def apply_augmentations(images: Tensor, draw: AugmentationDraw) -> Tensor:
    """Change the appearance of images (N, C, S, S) in [-1, 1] as drawn; the result has the same shape and range.

    This is done where the images are.
    """
    draw = draw.beside(images)

    def per_image(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1, 1)

    grey = torch.pow(((moved(images, draw.affine, beyond="border") + 1) / 2).clamp(0, 1), per_image(draw.gamma))
    grey = (grey - 0.5) * per_image(draw.contrast) + 0.5 + per_image(draw.brightness)
    grey = torch.lerp(grey, _blurred(grey), per_image(draw.blur))
    return ((grey + draw.noise) * 2 - 1).clamp(-1, 1)


def moved(images: Tensor, affine: Tensor, *, beyond: Literal["border", "zeros"]) -> Tensor:
    """Move images, or maps of images, (N, C, S, S), as drawn, and change nothing else.

    Args:
        images: any values.
        affine: (N, 2, 3), as `draw_movements` draws it.
        beyond: what is seen where an image ends: its border drawn out, or 0.
    """
    affine = affine.to(images.device, non_blocking=True)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode=beyond, align_corners=False)


def _blurred(images: Tensor) -> Tensor:
    channels = images.shape[1]
    kernel = _BLUR.to(images).view(1, 1, -1, 1).repeat(channels, 1, 1, 1)
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(
        functional.conv2d(padded, kernel, groups=channels), kernel.transpose(2, 3), groups=channels
    )
