from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ddad.networks.streams import together


class Streams:
    """Stands for a GPU: writes down what waits for what, and on which stream a call is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, str, str]] = []
        self.made = 0
        self.current = FakeStream("default", self)
        monkeypatch.setattr("torch.cuda.Stream", self.new)
        monkeypatch.setattr("torch.cuda.current_stream", lambda: self.current)
        monkeypatch.setattr("torch.cuda.stream", self.on)

    def new(self) -> FakeStream:
        self.made += 1
        return FakeStream(f"stream {self.made}", self)

    @contextmanager
    def on(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def call(self, name: str) -> str:
        self.log.append((self.current.name, "computes", name))
        return name


class FakeStream:
    def __init__(self, name: str, streams: Streams) -> None:
        self.name, self._streams = name, streams

    def wait_stream(self, other: FakeStream) -> None:
        self._streams.log.append((self.name, "waits for", other.name))


def test_calls_are_returned_in_order() -> None:
    assert together([lambda number=number: number for number in range(6)], "cpu") == list(range(6))  # type: ignore[misc]


def test_on_a_gpu_each_call_waits_for_what_was_before_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    assert together([lambda: streams.call("a"), lambda: streams.call("b")], "cuda") == ["a", "b"]
    assert streams.log == [
        ("stream 1", "waits for", "default"),
        ("stream 2", "waits for", "default"),
        ("stream 1", "computes", "a"),
        ("stream 2", "computes", "b"),
        ("default", "waits for", "stream 1"),
        ("default", "waits for", "stream 2"),
    ]


def test_many_calls_share_four_streams_and_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    names = [str(number) for number in range(10)]
    assert together([lambda name=name: streams.call(name) for name in names], "cuda") == names  # type: ignore[misc]
    used = [stream for stream, what, _ in streams.log if what == "computes"]
    assert used == [f"stream {1 + number % 4}" for number in range(10)]
    assert streams.made == 4


def test_calls_within_a_call_wait_for_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)

    def nested() -> list[str]:
        return together([lambda: streams.call("a"), lambda: streams.call("b")], "cuda")

    assert together([nested, nested], "cuda") == [["a", "b"], ["a", "b"]]
    assert ("stream 3", "waits for", "stream 1") in streams.log
    assert ("stream 1", "waits for", "stream 3") in streams.log
