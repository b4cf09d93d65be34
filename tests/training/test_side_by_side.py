from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from ddad.training.device import Compute
from ddad.training.side_by_side import side_by_side

CPU = Compute("cpu", "fp32")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_order_from_threads_that_have_one_thread_each() -> None:
    both = threading.Barrier(2)  # broken, and so an error, unless two items are computed at once

    def work(item: int) -> tuple[int, str, int]:
        both.wait(timeout=30)
        return item, threading.current_thread().name, torch.get_num_threads()

    done = list(side_by_side(work, range(6), CPU))
    assert [item for item, _, _ in done] == list(range(6))
    assert len({name for _, name, _ in done}) == 2
    assert {threads for _, _, threads in done} == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_items_are_taken_only_a_little_ahead_and_an_early_stop_ends_the_threads() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = side_by_side(lambda number: number, items(), CPU)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 4
    assert torch.get_num_threads() == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("compute")]


@pytest.mark.usefixtures("two_threads")
def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda number: 1 // number, [1, 0, 1], CPU))


def test_elsewhere_one_item_comes_after_another_in_the_same_thread() -> None:
    names = list(side_by_side(lambda _: threading.current_thread().name, range(3), Compute("cuda", "bf16")))
    assert set(names) == {threading.current_thread().name}
