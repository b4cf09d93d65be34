from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity as reference
from torch.nn import functional

from ddad.networks.ssim import multi_scale_similarity, scale_weights, similarity_map, structural_similarity
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


def test_there_are_as_many_scales_as_fit_and_all_five_at_the_published_size() -> None:
    assert scale_weights(16) == [1.0]
    assert [len(scale_weights(size)) for size in (32, 64, 128, 256, 512)] == [2, 3, 4, 5, 5]
    assert sum(scale_weights(64)) == pytest.approx(1)
    np.testing.assert_allclose(scale_weights(256), [0.0448, 0.2856, 0.3001, 0.2363, 0.1333], rtol=1e-3)


def test_several_scales_agree_with_scikit_image() -> None:
    """Wang et al. 2003: structure at every scale but the coarsest, where luminance joins, each to its weight."""
    first = random_images(1, size=32).double()
    second = (first + 0.2 * torch.randn(first.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    coarse = [functional.avg_pool2d(image, 2) for image in (first, second)]
    options = {"data_range": 2.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    _, last = reference(coarse[0][0, 0].numpy(), coarse[1][0, 0].numpy(), **options)
    means, products = [], []
    for image in (first, second):
        means.append(gaussian_filter(image[0, 0].numpy(), 1.5, truncate=3.5))
    for one, other in ((0, 0), (1, 1), (0, 1)):
        images = (first, second)
        product = gaussian_filter((images[one] * images[other])[0, 0].numpy(), 1.5, truncate=3.5)
        products.append(product - means[one] * means[other])
    structure = (2 * products[2] + 0.06**2) / (products[0] + products[1] + 0.06**2)
    expected = structure[5:-5, 5:-5].mean() ** scale_weights(32)[0] * last[5:-5, 5:-5].mean() ** scale_weights(32)[1]
    assert float(multi_scale_similarity(first, second)) == pytest.approx(expected, abs=1e-6)


def test_the_map_has_the_images_size_and_is_one_where_they_are_equal() -> None:
    images = random_images(2, 3, 32)
    changed = images.clone()
    changed[:, :, :8, :8] = -images[:, :, :8, :8]
    local = similarity_map(images, changed)
    assert local.shape == images.shape
    torch.testing.assert_close(local[..., 26:, 26:], torch.ones(2, 3, 6, 6), rtol=0, atol=1e-3)
    assert local[..., :8, :8].mean() < 0.5


def test_a_loss_of_unlike_images_has_a_slope_without_infinity() -> None:
    images = random_images(2, 1, 64)
    other = (-images).requires_grad_()
    multi_scale_similarity(images, other).sum().backward()
    assert other.grad is not None
    assert torch.isfinite(other.grad).all()
