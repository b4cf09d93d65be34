"""Foreign patch interpolation (Tan et al. 2020; equations 9 and 10): anomalies made from normal images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddad.draws import Draw
from ddad.recipe_sections import Synthesis


@dataclass(frozen=True)
class PatchDraw(Draw):
    """One patch for each of N images.

    Attributes:
        rows: (N, 2) first and past-the-last row of the patch h, clipped to the image.
        columns: (N, 2) first and past-the-last column.
        alpha: (N,) interpolation α in [0, 1]; 0 leaves an image untouched.
        donors: (N,) index of the other normal image x_f that is mixed in.
        touched: (N,) False where the image stays as it is and its label is empty.
    """

    rows: Tensor
    columns: Tensor
    alpha: Tensor
    donors: Tensor
    touched: Tensor


def draw_patches(
    images: Tensor, pool_size: int, image_size: int, settings: Synthesis, generator: torch.Generator
) -> PatchDraw:
    """Draw patches by equation 10: h_c ~ U(0.1d, 0.9d) on each axis, half-width ~ U(0.05d, 0.2d), α ~ U(0, 1).

    Args:
        images: (N,) indices of the images within the pool of normal images; a donor is never the image itself.
        pool_size: normal images to take donors from, at least 2.
        image_size: side d of the square images.
        settings: the recipe's ranges.
        generator: source of all randomness.
    """
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    half = uniform(*settings.half_width, count, 1) * image_size
    centre = uniform(*settings.centre, count, 2) * image_size
    first = (centre - half).round().clamp(0, image_size).long()
    last = (centre + half).round().clamp(0, image_size).long()
    donors = torch.randint(0, pool_size - 1, (count,), generator=generator)
    return PatchDraw(
        rows=torch.stack([first[:, 0], last[:, 0]], dim=1),
        columns=torch.stack([first[:, 1], last[:, 1]], dim=1),
        alpha=torch.rand(count, generator=generator),
        donors=donors + (donors >= images).long(),
        touched=torch.rand(count, generator=generator) >= settings.untouched_share,
    )


def apply_patches(images: Tensor, donors: Tensor, draw: PatchDraw) -> tuple[Tensor, Tensor]:
    """Mix each image with its donor inside the patch: x_s = (1 - α)x + αx_f (equation 9).

    Args:
        images: (N, C, S, S) normal images x.
        donors: (N, C, S, S) the images that `draw.donors` names.
        draw: what `draw_patches` drew for these images.

    Returns:
        The synthetic images (N, C, S, S), and the pseudo labels y_s (N, S, S): 1 in the whole patch.
    """
    draw = draw.beside(images)
    inside = _inside(draw, images.shape[-1]).to(images)
    return torch.lerp(images, donors, (inside * draw.alpha[:, None, None].to(images))[:, None]), inside


def patch_weights(draw: PatchDraw, size: int) -> Tensor:
    """Return α inside each patch and 0 elsewhere, (N, size, size)."""
    return _inside(draw, size) * draw.alpha[:, None, None]


def _inside(draw: PatchDraw, size: int) -> Tensor:
    place = torch.arange(size, device=draw.rows.device)
    in_rows = (place >= draw.rows[:, :1]) & (place < draw.rows[:, 1:])
    in_columns = (place >= draw.columns[:, :1]) & (place < draw.columns[:, 1:])
    return in_rows[:, :, None] & in_columns[:, None, :] & draw.touched[:, None, None]
