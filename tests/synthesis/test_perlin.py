from __future__ import annotations

import torch

from ddad.synthesis import PerlinDraw, apply_perlin, draw_perlin
from ddad.synthesis.perlin import _noise
from ddad.training.seeds import torch_generator


def drawn(count: int, seed: int = 0) -> PerlinDraw:
    return draw_perlin(torch.arange(count), count, 32, torch_generator(seed, "test"))


def test_a_texture_shines_through_inside_its_mask_alone() -> None:
    images, textures = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    masks = torch.zeros(2, 4, 4)
    masks[0, 1, 2] = 1
    changed = apply_perlin(images, textures, PerlinDraw(masks, torch.tensor([0.3, 0.9]), torch.tensor([1, 0])))
    torch.testing.assert_close(changed[0, 0], 0.3 * masks[0])
    assert (changed[1] == 0).all()


def test_about_half_of_the_images_stay_untouched_and_no_donor_is_the_image_itself() -> None:
    draw = drawn(200)
    touched = draw.masks.flatten(1).any(dim=1).float().mean().item()
    assert 0.2 < touched <= 0.6
    assert (draw.donors != torch.arange(200)).all()
    assert ((draw.donors >= 0) & (draw.donors < 200)).all()
    assert ((draw.opacity >= 0.1) & (draw.opacity <= 1)).all()
    assert set(draw.masks.unique().tolist()) == {0.0, 1.0}


def test_the_same_stream_draws_the_same() -> None:
    assert torch.equal(drawn(5).masks, drawn(5).masks)
    assert not torch.equal(drawn(20).masks, drawn(20, seed=1).masks)


def test_noise_is_bounded_smooth_and_nothing_at_the_corners_of_its_cells() -> None:
    for seed in range(20):
        noise = _noise(64, torch_generator(seed, "noise"))
        assert noise.shape == (64, 64)
        assert noise.abs().max() <= 1.001
        assert noise[0, 0] == 0
