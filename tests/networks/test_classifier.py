from __future__ import annotations

import pytest
import torch

from ddad.networks.classifier import Classifier, enlarge
from support import random_images


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 64), (1, 80)])
def test_a_logit_is_the_mean_of_its_map(channels: int, size: int) -> None:
    network = Classifier(channels, 8).eval()
    images = random_images(3, channels, size)
    evidence = network.activation(images)
    assert evidence.shape == (3, size // 16, size // 16)
    torch.testing.assert_close(network(images), evidence.mean((1, 2)))


def test_a_map_is_enlarged_to_the_image() -> None:
    evidence = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    enlarged = enlarge(evidence, 32)
    assert enlarged.shape == (1, 32, 32)
    assert enlarged[0, 0, 0] == 0
    assert enlarged[0, -1, -1] == 3
    torch.testing.assert_close(enlarged.mean(), evidence.mean())
