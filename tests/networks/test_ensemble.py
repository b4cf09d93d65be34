from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddad.networks.autoencoder import Autoencoder
from ddad.networks.ensemble import Ensemble, discrepancy_maps
from ddad.networks.memory import MemoryAutoencoder


def ensemble(members: int, size: int = 16, channels: int = 1, *, uncertain: bool = False, seed: int = 0) -> Ensemble:
    torch.manual_seed(seed)
    networks = [Autoencoder(size, channels, predict_uncertainty=uncertain) for _ in range(members)]
    return Ensemble(networks).eval()


def images(count: int, channels: int = 1, size: int = 16) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("size", [16, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_are_stacked_over_members(members: int, size: int, channels: int) -> None:
    x = images(2, channels, size)
    with torch.no_grad():
        reconstructions, log_variances = ensemble(members, size, channels)(x)
        assert reconstructions.shape == (members, *x.shape)
        assert log_variances is None
        reconstructions, log_variances = ensemble(members, size, channels, uncertain=True)(x)
    assert reconstructions.shape == (members, *x.shape)
    assert log_variances is not None
    assert log_variances.shape == (members, *x.shape)


def test_every_member_reconstructs_as_it_does_alone() -> None:
    module, x = ensemble(3, uncertain=True), images(4)
    reconstructions, log_variances = module(x)
    assert log_variances is not None
    for k, member in enumerate(module.members):
        alone, log_variance = member(x)
        assert torch.equal(reconstructions[k], alone)
        assert torch.equal(log_variances[k], log_variance)
    assert not torch.equal(reconstructions[0], reconstructions[1])


@torch.no_grad()
def test_maps_without_uncertainty_by_hand() -> None:
    ndm, udm, x = ensemble(3, seed=1), ensemble(2, seed=2), images(4)
    normative, unknown = ndm(x)[0], udm(x)[0]
    maps = discrepancy_maps(ndm, udm, x)
    assert set(maps) == {"rec", "rec_ensemble", "a_intra", "a_inter"}
    torch.testing.assert_close(maps["rec"], (x - normative[0])[:, 0] ** 2)
    torch.testing.assert_close(maps["rec_ensemble"], (x - normative.mean(0))[:, 0] ** 2)
    torch.testing.assert_close(maps["a_intra"], normative.var(0, correction=0)[:, 0].sqrt())
    torch.testing.assert_close(maps["a_inter"], (normative.mean(0) - unknown.mean(0))[:, 0].abs())


@torch.no_grad()
def test_maps_with_uncertainty_are_divided_by_the_sigma_of_the_ndm() -> None:
    ndm, udm, x = ensemble(3, uncertain=True, seed=1), ensemble(3, uncertain=True, seed=2), images(4)
    (normative, log_variances), (unknown, _) = ndm(x), udm(x)
    variance = torch.exp(log_variances).mean(0)
    maps = discrepancy_maps(ndm, udm, x)
    expected = {
        "rec": (x - normative[0]) ** 2 / torch.exp(log_variances[0]),
        "rec_ensemble": (x - normative.mean(0)) ** 2 / variance,
        "a_intra": normative.std(0, correction=0) / variance.sqrt(),
        "a_inter": (normative.mean(0) - unknown.mean(0)).abs() / variance.sqrt(),
    }
    for name, values in expected.items():
        torch.testing.assert_close(maps[name], values[:, 0], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_without_an_udm_there_is_no_inter_discrepancy_and_the_rest_stays() -> None:
    ndm, udm, x = ensemble(2, seed=1), ensemble(2, seed=2), images(3)
    both, alone = discrepancy_maps(ndm, udm, x), discrepancy_maps(ndm, None, x)
    assert set(alone) == set(both) - {"a_inter"}
    assert all(torch.equal(alone[name], both[name]) for name in alone)


@torch.no_grad()
def test_maps_of_colour_images_are_the_mean_over_their_channels() -> None:
    ndm, x = ensemble(2, channels=3), images(2, channels=3)
    normative = ndm(x)[0]
    maps = discrepancy_maps(ndm, None, x)
    assert all(score_map.shape == (2, 16, 16) for score_map in maps.values())
    torch.testing.assert_close(maps["rec"], ((x - normative[0]) ** 2).mean(1))
    torch.testing.assert_close(maps["a_intra"], normative.std(0, correction=0).mean(1))


@torch.no_grad()
def test_one_member_has_no_spread() -> None:
    maps = discrepancy_maps(ensemble(1), None, images(2))
    assert torch.equal(maps["a_intra"], torch.zeros(2, 16, 16))
    assert torch.equal(maps["rec"], maps["rec_ensemble"])


@torch.no_grad()
def test_members_with_a_memory_are_members_too() -> None:
    torch.manual_seed(0)
    module = Ensemble([MemoryAutoencoder(16) for _ in range(2)]).eval()
    assert set(discrepancy_maps(module, module, images(2))) == {"rec", "rec_ensemble", "a_intra", "a_inter"}
    assert discrepancy_maps(module, module, images(2))["a_inter"].max() == 0
