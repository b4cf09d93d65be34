from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR, PolynomialLR

from ddad.training.schedule import learning_rate


def reference(peak: float, steps: int) -> list[float]:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    # From peak/25 over the peak to peak/1e5.
    scheduler = OneCycleLR(
        optimizer, max_lr=peak, total_steps=steps, div_factor=25, final_div_factor=1e5 / 25, cycle_momentum=False
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [4, 5, 7, 10, 11, 100, 333, 1001])
@pytest.mark.parametrize("peak", [2e-3, 0.5])
def test_one_cycle_is_that_of_torch(peak: float, steps: int) -> None:
    ours = [learning_rate("one-cycle", peak, step, steps) for step in range(steps)]
    assert ours == pytest.approx(reference(peak, steps), rel=1e-6, abs=peak * 1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 10, 50])
def test_a_rate_is_always_usable_however_short_the_training(steps: int) -> None:
    for step in range(steps):
        assert 0 < learning_rate("one-cycle", 1e-3, step, steps) <= 1e-3


def test_one_cycle_rises_to_its_peak_once_and_ends_far_below_its_start() -> None:
    rates = [learning_rate("one-cycle", 1.0, step, 200) for step in range(200)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(1.0)
    assert top == 59
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[-1] == pytest.approx(1e-5)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_a_constant_rate_is_constant() -> None:
    assert {learning_rate("constant", 5e-4, step, 50) for step in range(50)} == {5e-4}


def test_a_rate_depends_on_the_step_alone() -> None:
    forwards = [learning_rate("one-cycle", 1.0, step, 40) for step in range(40)]
    backwards = [learning_rate("one-cycle", 1.0, step, 40) for step in reversed(range(40))]
    assert forwards == backwards[::-1]


def test_polynomial_is_that_of_torch() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = PolynomialLR(optimizer, total_iters=20, power=0.9)
    for step in range(20):
        assert learning_rate("polynomial", 0.3, step, 20) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
