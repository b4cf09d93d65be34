from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ddad.errors import ModelError, OutputError
from ddad.training.adam import Adam
from ddad.training.checkpoint import load_tensors, restore_training_state, save_tensors, training_state
from ddad.training.device import Compute


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(144, 2)
    )
    return Compute("cpu", "fp32").place(layers)


def adam(model: nn.Module) -> Adam:
    return Adam(model.parameters(), momentum=0.5, second_momentum=0.999)


def learn(model: nn.Module, optimizer: Adam, steps: range) -> None:
    for step in steps:
        x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step(1e-2)


def test_tensors_of_every_kind_and_notes_come_back_as_they_were(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {
        "a.weight": torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last),
        "half": torch.randn(7).to(torch.bfloat16),
        "count": torch.tensor(12),
        "view": torch.arange(12.0).reshape(3, 4).t(),
        "empty": torch.empty(0, 3),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
        "name é ü": torch.ones(1),
    }
    notes = {"losses": [0.1, 1e-30, 1 / 3], "text": "Größe"}
    save_tensors(tmp_path / "w.safetensors", tensors, notes)
    loaded, found = load_tensors(tmp_path / "w.safetensors")
    assert found == notes
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_parameters_can_be_saved_without_their_gradients(tmp_path: Path) -> None:
    model = network()
    save_tensors(tmp_path / "w", dict(model.named_parameters()))
    assert not any(tensor.requires_grad for tensor in load_tensors(tmp_path / "w")[0].values())


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "was here"
    for name, save in (("p", lambda path: path.write_bytes(pickle.dumps(Trap(trace)))), ("t", torch_saved(trace))):
        save(tmp_path / name)
        with pytest.raises(ModelError, match=str(tmp_path / name)):
            load_tensors(tmp_path / name)
        assert not trace.exists()


def torch_saved(trace: Path):
    return lambda path: torch.save({"weights": Trap(trace)}, path)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage", "folder"])
def test_a_file_that_is_no_weights_file_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.arange(1000.0)})
    whole = path.read_bytes()
    path.unlink()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "garbage":
            path.write_bytes(b"\xff" * 100)
        case "folder":
            path.mkdir()
    with pytest.raises(ModelError, match=r"w\.safetensors"):
        load_tensors(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w"
    save_tensors(path, {"a": torch.zeros(3)})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"w: the disk is full"):
        save_tensors(path, {"a": torch.ones(3)})
    monkeypatch.undo()
    assert load_tensors(path)[0]["a"].tolist() == [0, 0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["w"]


def test_training_goes_on_from_a_saved_state_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    """Bit for bit, also for convolutions whose weights lie channels-last in memory."""
    whole, whole_adam = network(), None
    whole_adam = adam(whole)
    learn(whole, whole_adam, range(8))

    first = network()
    first_adam = adam(first)
    learn(first, first_adam, range(5))
    save_tensors(tmp_path / "state", training_state(first, first_adam), {})

    second = network(seed=1)
    second_adam = adam(second)
    restore_training_state(load_tensors(tmp_path / "state")[0], second, second_adam)
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    learn(second, second_adam, range(5, 8))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name
