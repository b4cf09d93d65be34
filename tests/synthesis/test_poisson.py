from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from ddad.synthesis import PatchDraw, apply_poisson_patches, inside_rim, patch_weights
from support import random_images


def one_patch(alpha: float, rows: tuple[int, int] = (4, 10), columns: tuple[int, int] = (3, 12)) -> PatchDraw:
    return PatchDraw(
        rows=torch.tensor([rows]),
        columns=torch.tensor([columns]),
        alpha=torch.tensor([alpha]),
        donors=torch.tensor([0]),
        touched=torch.tensor([True]),
    )


def test_without_a_share_of_the_donor_the_image_stays_as_it_is() -> None:
    image, donor = random_images(1, size=16), random_images(1, size=16, seed=1)
    torch.testing.assert_close(apply_poisson_patches(image, donor, one_patch(0.0)), image, rtol=0, atol=1e-5)


def test_an_untouched_image_stays_as_it_is() -> None:
    image, donor = random_images(1, size=16), random_images(1, size=16, seed=1)
    draw = one_patch(0.7)
    untouched = PatchDraw(draw.rows, draw.columns, draw.alpha, draw.donors, torch.tensor([False]))
    assert torch.equal(apply_poisson_patches(image, donor, untouched), image)


def test_a_donors_own_gradients_come_back_on_a_flat_image() -> None:
    """With α = 1 and a flat image, the inside is the donor's pattern moved onto the image's grey."""
    image = torch.zeros(1, 1, 16, 16)
    donor = torch.zeros(1, 1, 16, 16)
    donor[0, 0, 6:8, 6:9] = 0.5  # away from the rim, where both are flat
    blended = apply_poisson_patches(image, donor, one_patch(1.0))
    torch.testing.assert_close(blended, donor, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_the_fast_solver_agrees_with_a_sparse_one(alpha: float) -> None:
    image, donor = 0.4 * random_images(1, size=16), 0.4 * random_images(1, size=16, seed=1)
    (top, bottom), (left, right) = (4, 10), (3, 12)
    blended = apply_poisson_patches(image, donor, one_patch(alpha))[0, 0].double().numpy()
    own, foreign = image[0, 0].double().numpy(), donor[0, 0].double().numpy()

    places = [(i, j) for i in range(top, bottom) for j in range(left, right)]
    number = {place: index for index, place in enumerate(places)}
    matrix, right_side = lil_matrix((len(places), len(places))), np.zeros(len(places))
    for (i, j), index in number.items():
        matrix[index, index] = 4
        for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            there = (i + di, j + dj)
            mine = (1 - alpha) * (own[i, j] - own[there])
            theirs = alpha * (foreign[i, j] - foreign[there])
            right_side[index] += mine if abs(mine) > abs(theirs) else theirs
            if there in number:
                matrix[index, number[there]] = -1
            else:
                right_side[index] += own[there]
    expected = spsolve(matrix.tocsr(), right_side)
    np.testing.assert_allclose([blended[place] for place in places], np.clip(expected, -1, 1), atol=1e-5)
    outside = np.ones_like(own, dtype=bool)
    outside[top:bottom, left:right] = False
    np.testing.assert_array_equal(blended[outside], own[outside])


def test_patches_at_the_corner_keep_the_images_rim() -> None:
    image, donor = random_images(1, 3, 16), random_images(1, 3, 16, seed=1)
    blended = apply_poisson_patches(image, donor, one_patch(0.8, rows=(0, 16), columns=(0, 16)))
    assert torch.equal(blended[..., 0, :], image[..., 0, :])
    assert torch.equal(blended[..., -1], image[..., -1])
    assert torch.isfinite(blended).all()
    assert blended.abs().max() <= 1
    empty = apply_poisson_patches(image, donor, one_patch(0.8, rows=(0, 1), columns=(0, 16)))
    assert torch.equal(empty, image)


@pytest.mark.parametrize(
    ("rows", "columns", "left"),
    [((0, 6), (10, 16), ((1, 6), (10, 15))), ((4, 10), (3, 12), ((4, 10), (3, 12))), ((0, 1), (0, 16), None)],
)
def test_the_label_lies_where_pixels_can_change(
    rows: tuple[int, int], columns: tuple[int, int], left: tuple[tuple[int, int], tuple[int, int]] | None
) -> None:
    draw = one_patch(0.8, rows, columns)
    label = patch_weights(inside_rim(draw, 16), 16)

    expected = torch.zeros(1, 16, 16)
    if left is not None:
        expected[0, slice(*left[0]), slice(*left[1])] = 0.8
    torch.testing.assert_close(label, expected)
    image, donor = random_images(1, size=16), random_images(1, size=16, seed=1)
    changed = (apply_poisson_patches(image, donor, draw) != image)[:, 0]
    assert not (changed & (label == 0)).any()
