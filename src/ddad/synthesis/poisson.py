"""Poisson image interpolation (Tan et al. 2021): a foreign patch blended in without an edge that gives it away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dstn, idstn
from torch import Tensor

from ddad.synthesis.patches import PatchDraw


def inside_rim(draw: PatchDraw, size: int) -> PatchDraw:
    """Clip patches to what Poisson interpolation can change of images of a size: all but their outermost pixels.

    A patch of which nothing is left is empty.
    """
    return replace(draw, rows=draw.rows.clamp(1, size - 1), columns=draw.columns.clamp(1, size - 1))


def apply_poisson_patches(images: Tensor, donors: Tensor, draw: PatchDraw) -> Tensor:
    """Blend the gradients of each image and its donor inside the patch, and solve for the pixels.

    At every place the larger of (1 - α)∇x and α∇x_f is taken; the pixels on the patch's rim are the image's own
    (equations 2 and 3 of Tan et al. 2021).

    Args:
        images: (N, C, S, S) in [-1, 1].
        donors: (N, C, S, S) in [-1, 1], the images that `draw.donors` names.
        draw: what `draw_patches` drew for these images.

    Returns:
        The synthetic images, (N, C, S, S) in [-1, 1].
    """
    # The solution needs a rim of the image's own pixels on every side.
    draw = inside_rim(draw, images.shape[-1])
    blended = images.numpy().copy()
    foreign = donors.numpy()
    for number in torch.nonzero(draw.touched).flatten().tolist():
        (top, bottom), (left, right) = draw.rows[number].tolist(), draw.columns[number].tolist()
        if bottom <= top or right <= left:
            continue
        window = (slice(top - 1, bottom + 1), slice(left - 1, right + 1))
        for channel in range(blended.shape[1]):
            own = blended[number, channel][window]
            own[1:-1, 1:-1] = _solve(own, foreign[number, channel][window], float(draw.alpha[number]))
    return torch.from_numpy(blended).clamp(-1, 1)


def _solve(own: NDArray[np.float32], foreign: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Return the inside (h, w) of a window (h + 2, w + 2) whose Laplacian is the blended gradients' divergence."""
    divergence = np.zeros(tuple(side - 2 for side in own.shape))
    for axis in (0, 1):
        mine, theirs = (1 - alpha) * np.diff(own, axis=axis), alpha * np.diff(foreign, axis=axis)
        gradient = np.where(np.abs(mine) > np.abs(theirs), mine, theirs)
        inner = gradient[:, 1:-1] if axis == 0 else gradient[1:-1, :]
        divergence += np.diff(inner, axis=axis)
    # The rim is known: it moves to the right-hand side, and a sine transform diagonalises what is left.
    divergence[0] -= own[0, 1:-1]
    divergence[-1] -= own[-1, 1:-1]
    divergence[:, 0] -= own[1:-1, 0]
    divergence[:, -1] -= own[1:-1, -1]
    waves = [2 * np.cos(np.pi * np.arange(1, side + 1) / (side + 1)) - 2 for side in divergence.shape]
    solved: NDArray[np.float64] = idstn(dstn(divergence, type=1) / np.add.outer(*waves), type=1)
    return solved.astype(np.float32)
