from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from ddad.recipe import Recipe
from ddad.training import cutpaste, f_anogan, ganomaly, igd
from ddad.training.device import Compute
from ddad.training.epochs import balancing_repeats, epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings
from ddad.training.pixels import ImagePool


@given(count=st.integers(1, 300), batch_size=st.integers(1, 80), least=st.integers(1, 40), seed=st.integers(0, 9))
def test_every_image_comes_before_one_comes_again(count: int, batch_size: int, least: int, seed: int) -> None:
    batches = epoch_batches(count, batch_size, least, torch.Generator().manual_seed(seed))
    width = min(batch_size, count)
    assert batches.shape == (steps_in_epoch(count, batch_size, least), width)
    assert len(batches) >= least
    drawn = batches.flatten().tolist()
    for start in range(0, len(drawn), count):
        assert len(set(drawn[start : start + count])) == len(drawn[start : start + count])


@given(count=st.integers(8, 400), batch_size=st.integers(2, 64), seed=st.integers(0, 9))
def test_with_images_enough_it_is_one_shuffled_pass_without_the_incomplete_batch(
    count: int, batch_size: int, seed: int
) -> None:
    width = min(batch_size, count)
    steps = count // width
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    expected = [order[step * width : (step + 1) * width].tolist() for step in range(steps)]
    batches = epoch_batches(count, batch_size, steps, torch.Generator().manual_seed(seed))
    assert batches.tolist() == expected


def test_cohorts_of_the_benchmarks_size_train_as_before() -> None:
    """Also the 320 normals that ddad+ keeps of 500, when a tenth is held out and then a fifth."""
    for preset in ("fast", "paper"):
        recipe = Recipe.preset(preset)
        for count in (320, 500, 1000, 4000):
            turns = (recipe.f_anogan, recipe.ganomaly, recipe.igd, recipe.cutpaste)
            for section in (recipe.reconstruction, recipe.refinement, recipe.segmentation, *turns):
                assert steps_in_epoch(count, section.batch_size, section.least_steps) == count // section.batch_size
        # The classifiers see normal and unlabeled images, at the least three of four folds of 500 and 200.
        classifier = recipe.classification
        assert steps_in_epoch(525, classifier.batch_size, classifier.least_steps) == 525 // 64


def test_ten_images_are_trained_on_for_hundreds_of_steps() -> None:
    fast = Recipe().reconstruction
    assert fast.ndm_epochs * steps_in_epoch(10, fast.batch_size, fast.least_steps) == 600


@given(count=st.integers(1, 2000), other=st.integers(0, 5000))
@example(count=214, other=1712)
@example(count=214, other=1711)
def test_a_side_is_repeated_only_if_the_other_is_eight_times_as_large(count: int, other: int) -> None:
    times = balancing_repeats(count, other)
    assert times >= 1
    assert (times == 1) == (8 * count > other)
    if times > 1:
        assert other / 8 - 1 <= times * count <= other / 4


def test_repeats_by_hand() -> None:
    assert [balancing_repeats(count, 1000) for count in (10, 20, 50, 125, 126, 1000)] == [25, 12, 5, 2, 1, 1]
    assert np.isclose(25 * 10, 0.25 * 1000)


@pytest.mark.parametrize(
    ("train", "loop", "of_ten", "of_a_thousand"),
    [
        (ganomaly.train_ganomaly, "train_in_turns", 2 * 8, 2 * 31),
        (igd.train_igd, "train_in_turns", 2 * 16, 2 * 62),
        (cutpaste.train_cutpaste, "train_epochs", 8, 31),
        (f_anogan.train_gan, "train_in_turns", 16, 62),
    ],
)
def test_rivals_go_over_few_images_several_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Any, loop: str, of_ten: int, of_a_thousand: int
) -> None:
    settings: list[LoopSettings] = []

    def record(*arguments: Any) -> None:
        settings.extend(one for one in arguments if isinstance(one, LoopSettings))

    monkeypatch.setattr(sys.modules[train.__module__], loop, record)
    recipe = Recipe().changed({"images.image_size": 32})
    for count in (10, 1000):
        pool = ImagePool([np.zeros((count, 1, 32, 32), np.float32)])
        train(recipe, pool, tmp_path / "network.safetensors", Compute("cpu", "fp32"), lambda _: None)

    assert [one.steps_per_epoch for one in settings] == [of_ten, of_a_thousand]
