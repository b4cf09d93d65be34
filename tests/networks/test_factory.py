"""What is known of networks before they are built."""

from __future__ import annotations

from typing import get_args

import pytest

from ddad.networks.factory import build_autoencoder, member_bytes, refining_memory, training_memory
from ddad.recipe_sections import Backbone
from support import tiny_recipe


@pytest.mark.parametrize("backbone", get_args(Backbone))
@pytest.mark.parametrize("size", [16, 64])
def test_memory_is_known_before_a_network_is_built(backbone: str, size: int) -> None:
    recipe = tiny_recipe(reconstruction__backbone=backbone, images__image_size=size, reconstruction__members=3)
    weights = build_autoencoder(recipe.images, recipe.reconstruction).parameters()
    own = 4 * sum(weight.numel() for weight in weights)
    assert member_bytes(recipe.images, recipe.reconstruction) == own
    assert training_memory(recipe.images, recipe.reconstruction) == 7 * own + 5 * 10**8
    assert refining_memory(recipe.images, recipe.reconstruction) == 6 * own + 5 * 10**8
