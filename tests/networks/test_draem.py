from __future__ import annotations

import pytest
import torch

from ddad.networks.draem import DRAEMNetwork


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 64)])
def test_a_reconstruction_and_a_map_have_the_size_of_the_image(channels: int, size: int) -> None:
    reconstruction, logits = DRAEMNetwork(channels, 4)(torch.zeros(2, channels, size, size))
    assert reconstruction.shape == (2, channels, size, size)
    assert logits.shape == (2, size, size)
