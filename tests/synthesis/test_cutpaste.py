from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

from ddad.recipe import Recipe
from ddad.synthesis import CutPasteDraw, apply_cutpaste, draw_cutpaste, draw_scars
from ddad.training.seeds import torch_generator

SETTINGS = Recipe().cutpaste


def piece(**changes: torch.Tensor) -> CutPasteDraw:
    """Cut 2 rows and 3 columns at (1, 0) and paste them at (4, 2), unchanged."""
    plain = CutPasteDraw(
        height=torch.tensor([2]), width=torch.tensor([3]), source=torch.tensor([[1, 0]]),
        target=torch.tensor([[4, 2]]), angle=torch.zeros(1), contrast=torch.ones(1), brightness=torch.zeros(1),
    )  # fmt: skip
    return replace(plain, **changes)


def image() -> torch.Tensor:
    return torch.linspace(-1, 1, 64).view(1, 1, 8, 8)


def test_the_piece_lies_where_it_was_pasted_and_nothing_else_changes() -> None:
    pasted = apply_cutpaste(image(), piece())
    expected = image()
    expected[:, :, 4:6, 2:5] = image()[:, :, 1:3, 0:3]
    assert torch.equal(pasted, expected)


def test_a_piece_can_be_brighter_and_stays_in_range() -> None:
    pasted = apply_cutpaste(image(), piece(contrast=torch.tensor([0.5]), brightness=torch.tensor([0.1])))
    torch.testing.assert_close(pasted[0, 0, 4:6, 2:5], 0.5 * image()[0, 0, 1:3, 0:3] + 0.1)
    assert (apply_cutpaste(image(), piece(brightness=torch.tensor([9.0])))[0, 0, 4:6, 2:5] == 1).all()


def test_a_quarter_turn_makes_rows_of_columns() -> None:
    """Of a piece 3x3, so that its middle is a pixel."""
    turned = apply_cutpaste(image(), piece(height=torch.tensor([3]), angle=torch.tensor([math.pi / 2])))
    cut = image()[0, 0, 1:4, 0:3]
    found = turned[0, 0, 4:7, 2:5]
    assert any(torch.allclose(found, torch.rot90(cut, turns)) for turns in (1, 3))
    turned[0, 0, 4:7, 2:5] = image()[0, 0, 4:7, 2:5]
    assert torch.equal(turned, image())


@pytest.mark.parametrize("size", [16, 64, 100])
def test_patches_have_the_published_area_and_aspect_and_fit_into_the_image(size: int) -> None:
    draw = draw_cutpaste(500, size, SETTINGS, torch_generator(0, "t"))
    height, width = draw.height.double(), draw.width.double()
    slack = (height + width + 1) / 2  # sides are rounded
    assert (height * width >= 0.02 * size**2 - slack).all()
    assert (height * width <= 0.15 * size**2 + slack).all()
    if size == 100:
        assert ((height + 0.5) / (width - 0.5) >= 0.3).all()
        assert ((height - 0.5) / (width + 0.5) <= 1 / 0.3).all()
    assert 0.4 < (height > width).double().mean() < 0.6
    for corner in (draw.source, draw.target):
        assert (corner >= 0).all()
        assert (corner[:, 0] + draw.height <= size).all()
        assert (corner[:, 1] + draw.width <= size).all()
    assert (draw.angle == 0).all()


def test_scars_are_thin_long_and_turned() -> None:
    draw = draw_scars(500, 256, SETTINGS, torch_generator(0, "t"))
    assert draw.width.min() >= 2
    assert draw.width.max() <= 16
    assert draw.height.min() >= 10
    assert draw.height.max() <= 25
    assert draw.angle.abs().max() <= math.radians(45)
    assert draw.angle.std() > 0.3
    assert (draw_scars(50, 16, SETTINGS, torch_generator(0, "t")).width >= 1).all()


def test_the_same_stream_draws_the_same() -> None:
    first, again, other = (draw_scars(5, 64, SETTINGS, torch_generator(seed, "t")) for seed in (0, 0, 1))
    assert all(torch.equal(getattr(first, field.name), getattr(again, field.name)) for field in fields(first))
    assert not torch.equal(first.source, other.source)
