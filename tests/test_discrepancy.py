from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddad.discrepancy import (
    ensemble_sigma,
    image_score,
    inter_discrepancy,
    intra_discrepancy,
    reconstruction_error,
)

property_test = settings(deadline=None, max_examples=40)


def one_pixel(*members: float) -> Tensor:
    """The reconstructions of one pixel by K members, (K, 1, 1, 1, 1)."""
    return torch.tensor(members).reshape(-1, 1, 1, 1, 1)


@st.composite
def ensembles(draw: st.DrawFn, least: int = 1) -> Tensor:
    shape = (draw(st.integers(least, 5)), draw(st.integers(1, 3)), draw(st.sampled_from((1, 3))), 4, 5)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.rand(shape, generator=generator) * 2 - 1


def test_reconstruction_error_is_the_squared_difference_over_the_variance() -> None:
    images, reconstruction = torch.tensor([[[[0.5, -1.0]]]]), torch.tensor([[[[0.2, 1.0]]]])
    assert reconstruction_error(images, reconstruction).flatten().tolist() == pytest.approx([0.09, 4.0])
    sigma = torch.tensor([[[[0.3, 2.0]]]])
    assert reconstruction_error(images, reconstruction, sigma).flatten().tolist() == pytest.approx([1.0, 1.0])


def test_equation_3_divides_by_k_and_takes_the_root() -> None:
    # Mean 0.3, squared distances 0.09, 0.01 and 0.16: divided by 3, not by 2.
    expected = math.sqrt((0.09 + 0.01 + 0.16) / 3)
    assert intra_discrepancy(one_pixel(0.0, 0.2, 0.7)).item() == pytest.approx(expected)


def test_equation_4_is_the_distance_of_the_means_whatever_their_numbers_of_members() -> None:
    assert inter_discrepancy(one_pixel(0.1, 0.3), one_pixel(0.9, 0.3, 0.9, 0.5)).item() == pytest.approx(0.45)
    assert inter_discrepancy(one_pixel(0.8), one_pixel(-0.2)).item() == pytest.approx(1.0)


def test_equations_6_and_7_divide_by_sigma() -> None:
    sigma = torch.full((1, 1, 1, 1), 0.25)
    spread = math.sqrt((0.09 + 0.01 + 0.16) / 3)
    assert intra_discrepancy(one_pixel(0.0, 0.2, 0.7), sigma).item() == pytest.approx(4 * spread)
    assert inter_discrepancy(one_pixel(0.2), one_pixel(0.7), sigma).item() == pytest.approx(2.0)


def test_sigma_is_the_root_of_the_mean_variance_not_the_mean_of_roots() -> None:
    log_variances = torch.log(one_pixel(0.01, 0.09, 0.49))
    sigma = ensemble_sigma(log_variances)
    assert sigma.shape == (1, 1, 1, 1)
    assert sigma.item() == pytest.approx(math.sqrt((0.01 + 0.09 + 0.49) / 3))
    assert sigma.item() != pytest.approx((0.1 + 0.3 + 0.7) / 3, rel=0.01)


def test_image_score_is_the_mean_of_all_pixels_of_each_image() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]], [[[0.0, 0.0], [0.0, 1.0]]]])
    assert image_score(maps).tolist() == [3.0, 0.25]


def test_images_do_not_mix() -> None:
    generator = torch.Generator().manual_seed(3)
    normative, unknown = (torch.rand(3, 4, 1, 5, 5, generator=generator) for _ in range(2))
    together_intra, together_inter = intra_discrepancy(normative), inter_discrepancy(normative, unknown)
    for n in range(4):
        assert torch.equal(together_intra[n], intra_discrepancy(normative[:, n : n + 1])[0])
        alone = inter_discrepancy(normative[:, n : n + 1], unknown[:, n : n + 1])[0]
        assert torch.equal(together_inter[n], alone)


@given(ensembles(), ensembles())
@property_test
def test_discrepancies_have_the_shape_of_one_image_batch_and_are_never_negative(
    normative: Tensor, other: Tensor
) -> None:
    unknown = other[:, :1, :1].expand(-1, *normative.shape[1:])
    for found in (intra_discrepancy(normative), inter_discrepancy(normative, unknown)):
        assert found.shape == normative.shape[1:]
        assert (found >= 0).all()
        assert torch.isfinite(found).all()


@given(ensembles(), st.integers(1, 5))
@property_test
def test_identical_members_have_no_intra_and_identical_modules_no_inter_discrepancy(
    normative: Tensor, copies: int
) -> None:
    same = normative[:1].expand(copies, *normative.shape[1:])
    assert intra_discrepancy(same).abs().max() < 1e-6
    assert torch.equal(inter_discrepancy(normative, normative), torch.zeros(normative.shape[1:]))


@given(ensembles(least=2), st.randoms(use_true_random=False))
@property_test
def test_the_order_of_the_members_does_not_matter(normative: Tensor, random: object) -> None:
    order = list(range(len(normative)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = normative[order]
    zeros = torch.zeros_like(normative)
    measures: tuple[Callable[[Tensor], Tensor], ...] = (
        intra_discrepancy,
        ensemble_sigma,
        lambda members: inter_discrepancy(members, zeros),
        lambda members: inter_discrepancy(zeros, members),
    )
    for measure in measures:
        torch.testing.assert_close(measure(shuffled), measure(normative), rtol=1e-5, atol=1e-6)


@given(ensembles(), st.floats(0.125, 16))
@property_test
def test_a_wider_sigma_makes_discrepancies_smaller_in_proportion(normative: Tensor, factor: float) -> None:
    generator = torch.Generator().manual_seed(0)
    sigma = torch.rand(normative.shape[1:], generator=generator) + 0.1
    unknown = normative.flip(-1)
    intra, inter = intra_discrepancy(normative, sigma), inter_discrepancy(normative, unknown, sigma)
    torch.testing.assert_close(intra_discrepancy(normative, sigma * factor), intra / factor)
    torch.testing.assert_close(inter_discrepancy(normative, unknown, sigma * factor), inter / factor)
    error = reconstruction_error(unknown[0], normative[0], sigma)
    scaled = reconstruction_error(unknown[0], normative[0], sigma * factor)
    torch.testing.assert_close(scaled, error / factor**2)


@given(ensembles(least=2), st.floats(-3, 3))
@property_test
def test_what_all_members_share_does_not_change_their_spread(normative: Tensor, shift: float) -> None:
    shifted = normative + shift
    torch.testing.assert_close(intra_discrepancy(shifted), intra_discrepancy(normative), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        inter_discrepancy(shifted, normative), torch.full(normative.shape[1:], abs(shift)), rtol=1e-3, atol=1e-5
    )


@given(ensembles(), ensembles())
@property_test
def test_the_distance_between_modules_is_symmetric(normative: Tensor, other: Tensor) -> None:
    unknown = other[:, :1, :1].expand(-1, *normative.shape[1:])
    assert torch.equal(inter_discrepancy(normative, unknown), inter_discrepancy(unknown, normative))
