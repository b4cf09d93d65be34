from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from ddad.networks.cutpaste import CutPasteNetwork
from support import random_images


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (48, 3)])
def test_an_image_has_an_embedding_and_three_logits(size: int, channels: int) -> None:
    network = CutPasteNetwork(channels, 4).eval()
    images = random_images(2, channels, size)
    assert network(images).shape == (2, 3)
    assert network.embed(images).shape == (2, 32)


def test_the_mean_of_the_grid_is_the_squared_mahalanobis_distance_of_scikit_learn() -> None:
    torch.manual_seed(0)
    network = CutPasteNetwork(1, 4).eval()
    with torch.inference_mode():
        embeddings = network.embed(random_images(40, size=32))
        network.fit_gaussian(embeddings)
        images = random_images(5, size=32, seed=1)
        found = network.distance(images)
        reference = LedoitWolf().fit(embeddings.double().numpy())
        expected = reference.mahalanobis(network.embed(images).double().numpy())
    assert found.shape == (5, 2, 2)
    np.testing.assert_allclose(found.mean(dim=(1, 2)).numpy(), expected, rtol=1e-3)
