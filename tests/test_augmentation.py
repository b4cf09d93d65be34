from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddad.augmentation import apply_augmentations, draw_augmentations, moved
from ddad.recipe_sections import Augmentation
from ddad.training.seeds import torch_generator
from support import random_images

NOTHING = dict.fromkeys(
    ("rotation", "scale", "shift", "flip_share", "gamma", "contrast", "brightness", "blur", "noise"), 0.0
)


def augmented(count: int = 4, size: int = 16, seed: int = 0, **changes: float) -> tuple[torch.Tensor, torch.Tensor]:
    images = random_images(count, size=size)
    draw = draw_augmentations(count, size, Augmentation(**(NOTHING | changes)), torch_generator(seed, "test"))
    return images, apply_augmentations(images, draw)


def test_without_any_change_an_image_stays_as_it_is() -> None:
    images, changed = augmented()
    torch.testing.assert_close(changed, images, rtol=0, atol=1e-5)


def test_a_mirrored_image_is_mirrored_left_to_right() -> None:
    images, changed = augmented(flip_share=1.0)
    torch.testing.assert_close(changed, images.flip(-1), rtol=0, atol=1e-5)


def test_brightness_is_added_to_the_grey_range() -> None:
    images, changed = augmented(brightness=0.1)
    shift = ((changed - images) / 2)[(changed.abs() < 1)].view(-1)
    assert shift.abs().max() <= 0.1 + 1e-5
    assert shift.abs().max() > 0.005


def test_a_shift_moves_by_no_more_than_its_share() -> None:
    ramp = torch.linspace(-0.5, 0.5, 32).expand(8, 1, 32, 32).contiguous()
    draw = draw_augmentations(8, 32, Augmentation(**(NOTHING | {"shift": 0.25})), torch_generator(1, "test"))
    shifted = apply_augmentations(ramp, draw)
    columns = ((shifted - ramp)[:, 0, 16, 12:20].mean(1) / (1 / 31)).abs()
    assert columns.max() <= 8.01
    assert columns.max() > 1


def test_a_map_is_moved_as_its_image_is_and_is_nothing_beyond() -> None:
    draw = draw_augmentations(8, 32, Augmentation(rotation=30, flip_share=0.5, shift=0.2), torch_generator(2, "test"))
    blob = torch.zeros(8, 1, 32, 32)
    blob[:, :, 12:18, 16:24] = 1
    seen = apply_augmentations(2 * blob - 1, draw) > 0
    told = moved(blob, draw.affine, beyond="zeros") > 0.5
    assert (seen == told).float().mean() > 0.98
    assert not torch.equal(told, blob > 0.5)
    assert (moved(torch.ones(8, 1, 32, 32), draw.affine, beyond="zeros") == 0).any()
    assert (moved(torch.ones(8, 1, 32, 32), draw.affine, beyond="border") > 0.999).all()


def test_blur_keeps_the_mean_and_takes_the_detail() -> None:
    noise = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    draw = draw_augmentations(2, 32, Augmentation(**(NOTHING | {"blur": 1.0})), torch_generator(3, "test"))
    blurred = apply_augmentations(noise, draw)
    assert abs(blurred.mean() - noise.mean()) < 0.02
    assert blurred.std() < noise.std()


@given(st.integers(0, 2**31), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=25)
def test_a_drawn_change_can_be_replayed_and_stays_in_range(seed: int, channels: int) -> None:
    images = random_images(3, channels)
    draws = [draw_augmentations(3, 16, Augmentation(), torch_generator(seed, "test")) for _ in range(2)]
    first, second = (apply_augmentations(images, draw) for draw in draws)
    assert torch.equal(first, second)
    assert first.shape == images.shape
    assert first.abs().max() <= 1


def test_each_image_changes_by_itself() -> None:
    images = random_images(5)
    draw = draw_augmentations(5, 16, Augmentation(), torch_generator(0, "test"))
    other = images.clone()
    other[1:] = 0
    torch.testing.assert_close(apply_augmentations(images, draw)[0], apply_augmentations(other, draw)[0])


@pytest.mark.parametrize("degrees", [30.0])
def test_a_rotation_stays_within_its_range(degrees: float) -> None:
    draw = draw_augmentations(200, 16, Augmentation(**(NOTHING | {"rotation": degrees})), torch_generator(0, "test"))
    angles = torch.atan2(draw.affine[:, 1, 0], draw.affine[:, 0, 0]).abs()
    assert angles.max() <= math.radians(degrees) + 1e-6
    assert angles.max() > math.radians(degrees) * 0.9
