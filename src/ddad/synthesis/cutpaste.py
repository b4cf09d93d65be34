"""CutPaste's anomalies (Li et al. 2021): a part of the image pasted elsewhere, as a patch or as a thin turned scar."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddad.recipe_sections import CutPasteClassification


@dataclass(frozen=True)
class CutPasteDraw:
    """One piece for each of N images, in pixels.

    Attributes:
        height: (N,) of the piece.
        width: (N,) of the piece.
        source: (N, 2) row and column of the pixel where it is cut, its first one.
        target: (N, 2) row and column of where that pixel is pasted, before the piece is turned.
        angle: (N,) by which it is turned about its middle, in radians.
        contrast: (N,) factor of the piece's grey values around mid-grey.
        brightness: (N,) added to them; the whole range of grey is 2.
    """

    height: Tensor
    width: Tensor
    source: Tensor
    target: Tensor
    angle: Tensor
    contrast: Tensor
    brightness: Tensor


def draw_cutpaste(
    count: int, image_size: int, settings: CutPasteClassification, generator: torch.Generator
) -> CutPasteDraw:
    """Draw patches of a share of the area in the recipe's range, flat or steep with equal chance."""
    area = _uniform(settings.area, count, generator) * image_size**2
    flat = _uniform((settings.aspect, 1.0), count, generator)
    aspect = torch.where(torch.rand(count, generator=generator) < 0.5, flat, 1 / flat)
    height, width = (area * aspect).sqrt(), (area / aspect).sqrt()
    return _placed(height, width, torch.zeros(count), image_size, settings, generator)


def draw_scars(
    count: int, image_size: int, settings: CutPasteClassification, generator: torch.Generator
) -> CutPasteDraw:
    """Draw scars: thin, long, and turned; width and length in the recipe's ranges of the image's width."""
    width = _uniform(settings.scar_width, count, generator) * image_size
    length = _uniform(settings.scar_length, count, generator) * image_size
    turn = math.radians(settings.scar_rotation)
    return _placed(length, width, _uniform((-turn, turn), count, generator), image_size, settings, generator)


def apply_cutpaste(images: Tensor, draw: CutPasteDraw) -> Tensor:
    """Paste each image's piece onto it, and return the new images.

    Args:
        images: (N, C, S, S) in [-1, 1].
        draw: what was drawn for these images.
    """
    size = images.shape[-1]
    place = torch.arange(size, dtype=torch.float32)
    half = torch.stack([draw.height - 1, draw.width - 1], dim=1) / 2
    middle = draw.target + half
    down = place[None, :, None] - middle[:, :1, None]
    right = place[None, None, :] - middle[:, 1:, None]
    cosine, sine = torch.cos(draw.angle)[:, None, None], torch.sin(draw.angle)[:, None, None]
    # Where in the piece, counted from its first pixel, every pixel of the image would lie; the nearest one is taken.
    row = (cosine * down - sine * right + half[:, :1, None]).round().long()
    column = (sine * down + cosine * right + half[:, 1:, None]).round().long()
    inside = (row >= 0) & (row < draw.height[:, None, None]) & (column >= 0) & (column < draw.width[:, None, None])
    row = (row + draw.source[:, :1, None]).clamp(0, size - 1)
    column = (column + draw.source[:, 1:, None]).clamp(0, size - 1)
    cut = images.flatten(2).gather(2, (row * size + column).flatten(1)[:, None].expand(-1, images.shape[1], -1))
    piece = cut.view_as(images) * draw.contrast[:, None, None, None] + draw.brightness[:, None, None, None]
    return torch.where(inside[:, None], piece.clamp(-1, 1), images)


def _placed(
    height: Tensor,
    width: Tensor,
    angle: Tensor,
    size: int,
    settings: CutPasteClassification,
    generator: torch.Generator,
) -> CutPasteDraw:
    count = len(height)
    height, width = height.round().clamp(1, size).long(), width.round().clamp(1, size).long()
    room = torch.stack([size - height, size - width], dim=1) + 1

    def anywhere() -> Tensor:
        return (torch.rand(count, 2, generator=generator) * room).long()

    return CutPasteDraw(
        height=height,
        width=width,
        source=anywhere(),
        target=anywhere(),
        angle=angle,
        contrast=1 + _uniform((-settings.jitter, settings.jitter), count, generator),
        brightness=2 * _uniform((-settings.jitter, settings.jitter), count, generator),
    )


def _uniform(limits: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(count, generator=generator)
