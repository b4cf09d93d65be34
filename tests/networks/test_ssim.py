from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as reference

from ddad.networks.ssim import structural_similarity
from support import random_images


@pytest.mark.parametrize("seed", [1, 2])
def test_it_agrees_with_scikit_image(seed: int) -> None:
    first = random_images(1, size=32)
    second = (first + 0.2 * torch.randn(first.shape, generator=torch.Generator().manual_seed(seed))).clamp(-1, 1)
    _, expected = reference(
        first[0, 0].double().numpy(), second[0, 0].double().numpy(), data_range=2.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    found = structural_similarity(first.double(), second.double())[0, 0].numpy()
    np.testing.assert_allclose(found, expected[5:-5, 5:-5], atol=1e-6)


def test_equal_images_are_wholly_similar() -> None:
    images = random_images(2, 3, 16)
    torch.testing.assert_close(structural_similarity(images, images), torch.ones(2, 3, 6, 6), rtol=0, atol=1e-4)
