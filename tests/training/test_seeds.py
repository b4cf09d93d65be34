from __future__ import annotations

import subprocess
import sys
from itertools import product

import torch

from ddad.training.seeds import derived_seed, torch_generator


def test_every_purpose_has_a_seed_of_its_own() -> None:
    purposes = [
        (seed, module, member, what)
        for seed, module, member in product(range(5), ("ndm", "udm", "a_intra"), range(10))
        for what in ("weights", "epoch")
    ]
    epochs = [(0, "ndm", 0, "epoch", epoch) for epoch in range(500)]
    seeds = [derived_seed(seed, *purpose) for seed, *purpose in [*purposes, *epochs]]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_order_of_the_parts_matters() -> None:
    assert derived_seed(0, "a", 1) != derived_seed(0, 1, "a")
    assert derived_seed(0, 1, 2) != derived_seed(0, 2, 1)
    assert derived_seed(1, 0) != derived_seed(0, 1)


def test_the_same_purpose_gets_the_same_seed_in_another_process() -> None:
    code = "from ddad.training.seeds import derived_seed; print(derived_seed(7, 'ndm', 2, 'epoch', 11))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == derived_seed(7, "ndm", 2, "epoch", 11)


def test_the_largest_seed_of_a_recipe_can_be_used() -> None:
    assert derived_seed(2**63 - 1, "ndm") != derived_seed(2**63 - 2, "ndm")


def test_a_generator_replays_and_leaves_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    first = torch.rand(5, generator=torch_generator(3, "x"))
    again = torch.rand(5, generator=torch_generator(3, "x"))
    other = torch.rand(5, generator=torch_generator(3, "y"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
