from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from ddad.training.adam import Adam
from ddad.training.device import Compute
from ddad.training.steps import RecordedStep, Step, step_on
from support import same_tensors


class Repeating:
    """Stands for a GPU: what was recorded is done again on the same tensors, and not when it is recorded."""

    def __init__(self) -> None:
        self.warmed_up = self.recorded = self.replayed = 0

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        self.warmed_up += 1
        return function()

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        result = torch.zeros(2)

        def replay() -> Tensor:
            self.replayed += 1
            return result.copy_(function())

        return replay


class Refusing(Repeating):
    @override
    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")


def two_lines() -> tuple[nn.ModuleList, Step]:
    torch.manual_seed(0)
    lines = nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)])
    optimizer = Adam(lines.parameters(), momentum=0.9, second_momentum=0.999)

    def losses(x: Tensor, y: Tensor) -> list[Tensor]:
        return [((line(x) - y) ** 2).mean() for line in lines]

    return lines, step_on(Compute("cpu", "fp32"), lines, losses, optimizer)


def take_steps(step: Step, count: int) -> list[list[float]]:
    found = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        x, y = torch.rand(8, 3, generator=generator), torch.rand(8, 1, generator=generator)
        found.append(step((x, y), 2.0 ** -(3 + number)))  # a rate that float32 holds exactly
    return [losses.tolist() for losses in found]


def test_each_network_learns_from_its_own_loss() -> None:
    together, step = two_lines()
    losses = take_steps(step, 6)
    alone, _ = two_lines()
    for number, line in enumerate(alone):
        adam = torch.optim.Adam(line.parameters(), betas=(0.9, 0.999), fused=True)
        for place in range(6):
            generator = torch.Generator().manual_seed(place)
            x, y = torch.rand(8, 3, generator=generator), torch.rand(8, 1, generator=generator)
            adam.param_groups[0]["lr"] = 2.0 ** -(3 + place)
            adam.zero_grad()
            loss = ((line(x) - y) ** 2).mean()
            assert losses[place][number] == loss.item()
            loss.backward()
            adam.step()
    assert same_tensors(together.state_dict(), alone.state_dict())


def test_a_recorded_step_does_what_the_step_does() -> None:
    plain, step = two_lines()
    expected = take_steps(step, 8)
    recorded, step = two_lines()
    recorder = Repeating()
    assert take_steps(RecordedStep(step, recorder), 8) == expected
    assert same_tensors(plain.state_dict(), recorded.state_dict())
    assert (recorder.warmed_up, recorder.recorded, recorder.replayed) == (3, 1, 5)


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is() -> None:
    plain, step = two_lines()
    expected = take_steps(step, 8)
    refused, step = two_lines()
    with pytest.warns(UserWarning, match="without CUDA graphs, more slowly: operation not permitted") as caught:
        assert take_steps(RecordedStep(step, Refusing()), 8) == expected
    assert len(caught) == 1
    assert same_tensors(plain.state_dict(), refused.state_dict())
