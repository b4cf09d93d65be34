from __future__ import annotations

from pathlib import Path

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from ddad.networks.unet import UNet
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.extent import train_extent
from ddad.training.pixels import ImagePool
from support import tiny_recipe


def flickering(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images with a bright square, where it is, and evidence that sees half of its pixels, and some beside it."""
    generator = torch.Generator().manual_seed(seed)
    squares = torch.zeros(count, 1, 16, 16)
    for number, (row, column) in enumerate(torch.randint(1, 9, (count, 2), generator=generator).tolist()):
        squares[number, :, row : row + 6, column : column + 6] = 1
    images = squares - 0.5 + 0.1 * torch.randn(squares.shape, generator=generator)
    chance = torch.rand(squares.shape, generator=generator)
    return images.clamp(-1, 1), squares, (chance < 0.1 + 0.4 * squares).float()


def test_it_learns_what_is_alike_in_evidence_that_flickers(tmp_path: Path) -> None:
    images, _, evidence = flickering(64, seed=0)
    recipe = tiny_recipe(segmentation__epochs=8, segmentation__width=8, segmentation__learning_rate=0.01)
    file = tmp_path / "extent.safetensors"

    train_extent(
        recipe, ImagePool([images.numpy()]), ImagePool([evidence.numpy()]), file, Compute("cpu", "fp32"), lambda _: None
    )

    network = UNet(1, 1, 8)
    network.load_state_dict(load_tensors(file)[0])
    unseen, squares, flicker = flickering(32, seed=1)
    with torch.inference_mode():
        found = network.eval()(unseen)
    truth = squares.flatten().numpy()
    learned, given = (average_precision_score(truth, maps.flatten().numpy()) for maps in (found, flicker))
    assert given < 0.6
    assert learned > 0.9
