from __future__ import annotations

from ddad.networks.streams import together


def test_calls_are_returned_in_order() -> None:
    assert together([lambda number=number: number for number in range(6)], "cpu") == list(range(6))  # type: ignore[misc]
