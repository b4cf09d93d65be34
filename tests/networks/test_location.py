from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddad.networks.location import Location, smoothed
from ddad.networks.statistics import pixel_statistics


def test_smoothing_is_that_of_scipy() -> None:
    maps = torch.rand(2, 3, 64, 64)
    expected = [[gaussian_filter(one, 2, mode="nearest", radius=6) for one in kinds] for kinds in maps.double().numpy()]
    np.testing.assert_allclose(smoothed(maps, 1 / 32).numpy(), expected, atol=1e-5)


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    maps = 100 + torch.rand(23, 2, 16, 16)
    mean, deviation = pixel_statistics(maps.split(5))
    torch.testing.assert_close(mean, maps.mean(dim=0))
    torch.testing.assert_close(deviation, maps.std(dim=0), rtol=1e-3, atol=1e-4)


def edges_everywhere(count: int) -> torch.Tensor:
    """Errors that every image has in one column, and a little noise."""
    maps = 0.1 * torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(count))
    maps[:, :, :, 10] += 5
    return maps


def test_it_points_at_what_is_unusual_and_not_at_what_every_image_has() -> None:
    location = Location(1, 32, spread=1 / 32)
    location.fit([edges_everywhere(20)])
    maps = edges_everywhere(3)
    maps[1, 0, 20:24, 22:26] += 2

    found = location(maps)[:, 0]

    assert found.flatten(1).mean(dim=1).abs().max() < 1e-4
    row, column = divmod(int(found[1].argmax()), 32)
    assert row in range(20, 24)
    assert column in range(22, 26)
    assert found[1].max() > 5 * found[0].abs().max()


@pytest.mark.parametrize("size", [16, 64])
def test_kinds_that_never_vary_are_finite(size: int) -> None:
    location = Location(2, size, spread=1 / 64)
    location.fit([torch.ones(4, 2, size, size)])
    assert torch.isfinite(location(torch.ones(2, 2, size, size))).all()
