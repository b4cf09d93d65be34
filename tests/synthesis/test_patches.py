from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddad.recipe_sections import Synthesis
from ddad.synthesis import PatchDraw, apply_patches, draw_patches

property_test = settings(deadline=None, max_examples=40)
FIELDS = ("rows", "columns", "alpha", "donors", "touched")


def draw(count: int = 8, pool: int = 20, size: int = 32, seed: int = 0, **ranges: object) -> PatchDraw:
    chosen = torch.arange(count) % pool
    generator = torch.Generator().manual_seed(seed)
    return draw_patches(chosen, pool, size, Synthesis.model_validate(ranges), generator)


def images(count: int, channels: int = 1, size: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, size, size, generator=generator) * 2 - 1


def patch(size: int, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


@given(st.integers(0, 2**32), st.integers(1, 12))
@property_test
def test_the_same_generator_seed_replays_the_same_anomalies(seed: int, count: int) -> None:
    first, again, other = draw(count, seed=seed), draw(count, seed=seed), draw(count, seed=seed + 1)
    assert all(torch.equal(getattr(first, field), getattr(again, field)) for field in FIELDS)
    assert not torch.equal(first.alpha, other.alpha)
    x, donors = images(count), images(count, seed=1)
    assert torch.equal(apply_patches(x, donors, first)[0], apply_patches(x, donors, again)[0])


def test_centres_and_half_widths_fill_their_published_ranges_and_no_more() -> None:
    size = 200
    many = draw(20_000, pool=50, size=size, seed=5)
    inside = torch.ones(20_000, dtype=torch.bool)
    for sides in (many.rows, many.columns):
        assert sides.min() == 0
        assert sides.max() == size
        assert (sides[:, 1] > sides[:, 0]).all()
        inside &= (sides[:, 0] > 0) & (sides[:, 1] < size)
    assert 0.5 < inside.double().mean() < 0.95
    for sides in (many.rows[inside], many.columns[inside]):
        centre, half = sides.double().mean(1) / size, (sides[:, 1] - sides[:, 0]).double() / 2 / size
        assert half.min() == pytest.approx(0.05, abs=0.005)
        assert half.max() == pytest.approx(0.2, abs=0.005)
        assert centre.min() == pytest.approx(0.1, abs=0.01)
        assert centre.max() == pytest.approx(0.9, abs=0.01)
    # A clipped patch still reaches its uniform centre: one side tells, (centre + half) or (centre - half).
    assert (many.rows[:, 1] >= 0.1 * size).all()
    assert (many.rows[:, 0] <= 0.9 * size).all()


def test_patches_are_squares_before_they_are_clipped() -> None:
    many = draw(5_000, size=128, seed=2)
    inside = ((many.rows > 0) & (many.rows < 128) & (many.columns > 0) & (many.columns < 128)).all(1)
    heights, widths = (sides[inside, 1] - sides[inside, 0] for sides in (many.rows, many.columns))
    # The two axes are rounded apart from each other.
    assert (heights - widths).abs().max() <= 1


def test_centres_on_both_axes_alpha_and_touched_are_drawn_apart() -> None:
    many = draw(20_000, size=128, seed=3, half_width=(0.1, 0.1), centre=(0.2, 0.8))
    row, column = many.rows.double().mean(1), many.columns.double().mean(1)
    drawn = torch.stack([row, column, many.alpha.double(), many.touched.double(), many.donors.double()])
    correlation = torch.corrcoef(drawn) - torch.eye(5)
    assert correlation.abs().max() < 0.04


def test_alpha_is_uniform_between_0_and_1() -> None:
    alpha = draw(20_000, seed=7).alpha
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    assert torch.histc(alpha, 10, 0, 1).tolist() == pytest.approx([2000] * 10, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_the_untouched_share_is_that_of_the_recipe(share: float) -> None:
    touched = draw(20_000, seed=1, untouched_share=share).touched
    assert touched.double().mean().item() == pytest.approx(1 - share, abs=0.015)


@given(st.integers(2, 6), st.integers(0, 2**32))
@property_test
def test_a_donor_is_any_other_image_of_the_pool(pool: int, seed: int) -> None:
    chosen = torch.arange(pool).repeat(200)
    donors = draw_patches(chosen, pool, 32, Synthesis(), torch.Generator().manual_seed(seed)).donors
    assert (donors != chosen).all()
    for image in range(pool):
        expected = set(range(pool)) - {image}
        assert set(donors[chosen == image].tolist()) == expected


def test_equation_9_by_hand() -> None:
    x, donors = torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), -1.0)
    drawn = PatchDraw(
        rows=torch.tensor([[1, 3]]),
        columns=torch.tensor([[0, 2]]),
        alpha=torch.tensor([0.25]),
        donors=torch.tensor([1]),
        touched=torch.tensor([True]),
    )
    mixed, labels = apply_patches(x, donors, drawn)
    expected = torch.full((4, 4), 0.5)
    expected[1:3, 0:2] = 0.75 * 0.5 + 0.25 * -1.0
    assert torch.equal(mixed[0, 0], expected)
    assert torch.equal(labels[0].bool(), patch(4, (1, 3), (0, 2)))


@given(st.integers(0, 2**32), st.sampled_from((1, 3)), st.sampled_from((16, 32, 48)))
@property_test
def test_inside_the_patch_images_are_mixed_and_outside_nothing_changes(seed: int, channels: int, size: int) -> None:
    count = 6
    drawn = draw(count, size=size, seed=seed)
    x, donors = images(count, channels, size), images(count, channels, size, seed=1)
    kept = x.clone()
    mixed, labels = apply_patches(x, donors, drawn)
    assert torch.equal(x, kept)
    assert mixed.shape == x.shape
    assert labels.shape == (count, size, size)
    for n in range(count):
        if not drawn.touched[n]:
            assert torch.equal(mixed[n], x[n])
            assert labels[n].sum() == 0
            continue
        rows, columns = (tuple(sides[n].tolist()) for sides in (drawn.rows, drawn.columns))
        inside = patch(size, rows, columns)
        assert torch.equal(labels[n], inside.to(labels))
        assert torch.equal(mixed[n][:, ~inside], x[n][:, ~inside])
        alpha = drawn.alpha[n]
        expected = (1 - alpha) * x[n] + alpha * donors[n]
        torch.testing.assert_close(mixed[n][:, inside], expected[:, inside], rtol=1e-5, atol=1e-6)
        low, high = torch.minimum(x[n], donors[n]), torch.maximum(x[n], donors[n])
        assert (mixed[n] >= low - 1e-6).all()
        assert (mixed[n] <= high + 1e-6).all()


def test_the_label_is_the_whole_patch_even_where_nothing_can_be_seen() -> None:
    # The donor is the same image: every α gives x again, and the label is there all the same.
    drawn = draw(40, seed=11, untouched_share=0.0)
    x = images(40)
    mixed, labels = apply_patches(x, x, drawn)
    torch.testing.assert_close(mixed, x)
    sizes = (drawn.rows[:, 1] - drawn.rows[:, 0]) * (drawn.columns[:, 1] - drawn.columns[:, 0])
    assert labels.sum((1, 2)).tolist() == sizes.tolist()


def test_patches_are_clipped_at_the_border() -> None:
    drawn = draw(300, size=16, seed=0, centre=(0.0, 0.0), half_width=(0.25, 0.25), untouched_share=0.0)
    assert drawn.rows.tolist() == [[0, 4]] * 300
    assert drawn.columns.tolist() == [[0, 4]] * 300
    far = draw(300, size=16, seed=0, centre=(1.0, 1.0), half_width=(0.25, 0.25), untouched_share=0.0)
    assert far.rows.tolist() == [[12, 16]] * 300
