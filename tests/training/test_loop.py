from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ddad.errors import DivergenceError
from ddad.networks.ensemble import Ensemble
from ddad.networks.factory import build_autoencoder
from ddad.recipe import Recipe
from ddad.training import loop
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.loop import LoopSettings, Turn, train_epochs, train_in_turns, train_together
from ddad.training.pixels import ImagePool
from ddad.training.reconstruction import train_members
from ddad.training.refinement import train_refiners
from ddad.training.steps import Batch
from support import random_images, same_tensors, tiny_recipe

CPU = Compute("cpu", "fp32")


class Interruption(BaseException):
    pass


def interrupt_after(epochs: int) -> Callable[[str], None]:
    left = [epochs]

    def report(_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Interruption

    return report


def ignore(_: str) -> None: ...


def run_with_interruptions(train: Callable[[Path, Callable[[str], None]], None], into: Path, after: list[int]) -> None:
    """Train, stopping after so many reports at each attempt, then to the end."""
    for epochs in after:
        with pytest.raises(Interruption):
            train(into, interrupt_after(epochs))
        assert not into.exists()
    train(into, ignore)


def train_line(into: Path, report: Callable[[str], None], settings: LoopSettings) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(settings.steps_per_epoch):
            yield (torch.rand(8, 3, generator=generator),)

    def loss(x: Tensor) -> Tensor:
        error: Tensor = ((network(x) - x.sum(1, keepdim=True)) ** 2).mean()
        return error

    train_epochs(network, batches, loss, settings, into, CPU, report)
    return network


@pytest.fixture
def checkpoint_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0)


def test_training_learns_and_writes_weights_and_curve(tmp_path: Path) -> None:
    lines: list[str] = []
    network = train_line(
        tmp_path / "w.safetensors", lines.append, LoopSettings(30, 4, 0.02, "one-cycle", 0.5, section="line")
    )
    weights, notes = load_tensors(tmp_path / "w.safetensors")
    assert same_tensors(weights, network.state_dict())
    assert len(notes["losses"]) == len(lines) == 30
    assert notes["losses"][-1] < 0.2 * notes["losses"][0]
    assert lines[-1] == f"loss {notes['losses'][-1]:.4f}"
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
@pytest.mark.usefixtures("checkpoint_every_epoch")
def test_interrupted_training_ends_with_the_same_weights(schedule: str, tmp_path: Path) -> None:
    settings = LoopSettings(8, 3, 0.05, schedule, 0.9, weight_decay=0.01, section="line")  # type: ignore[arg-type]
    train_line(tmp_path / "whole", ignore, settings)
    # A resumed run reports the epochs behind it, too: the bars count them.
    run_with_interruptions(lambda into, report: train_line(into, report, settings), tmp_path / "cut", [2, 5])
    (whole, curve), (cut, cut_curve) = load_tensors(tmp_path / "whole"), load_tensors(tmp_path / "cut")
    assert same_tensors(whole, cut)
    assert curve == cut_curve
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


@pytest.mark.usefixtures("checkpoint_every_epoch")
def test_a_resumed_run_does_not_start_over_and_reports_every_epoch_once(tmp_path: Path) -> None:
    settings = LoopSettings(6, 2, 0.05, "constant", 0.5, section="line")
    with pytest.raises(Interruption):
        train_line(tmp_path / "w", interrupt_after(4), settings)
    lines: list[str] = []
    computed: list[int] = []
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def batches(epoch: int) -> Iterator[Batch]:
        computed.append(epoch)
        yield from ((torch.rand(8, 3),) for _ in range(2))

    train_epochs(network, batches, lambda x: network(x).mean(), settings, tmp_path / "w", CPU, lines.append)
    assert computed == [4, 5]
    assert len(lines) == 6


def test_without_time_for_a_checkpoint_an_interrupted_run_starts_over(tmp_path: Path) -> None:
    settings = LoopSettings(4, 2, 0.05, "constant", 0.5, section="line")
    train_line(tmp_path / "whole", ignore, settings)
    run_with_interruptions(lambda into, report: train_line(into, report, settings), tmp_path / "cut", [3])
    assert same_tensors(load_tensors(tmp_path / "whole")[0], load_tensors(tmp_path / "cut")[0])


def test_weight_decay_and_rate_are_those_of_the_settings(tmp_path: Path) -> None:
    """One step of Adam moves each weight by the learning rate, whatever the gradient."""
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def batches(_: int) -> Iterator[Batch]:
        yield (torch.ones(1, 3),)

    settings = LoopSettings(1, 1, 0.03, "constant", 0.5, section="line")
    train_epochs(network, batches, lambda x: network(x).sum(), settings, tmp_path / "w", CPU, ignore)
    for name, tensor in load_tensors(tmp_path / "w")[0].items():
        torch.testing.assert_close(before[name] - tensor, torch.full_like(tensor, 0.03), rtol=1e-4, atol=1e-6)


def recipe_of(backbone: str) -> Recipe:
    return tiny_recipe(
        reconstruction__backbone=backbone,
        reconstruction__ndm_epochs=6,
        reconstruction__udm_epochs=6,
        reconstruction__learning_rate=0.01,
        refinement__epochs=5,
        refinement__learning_rate=0.01,
    )


@pytest.mark.parametrize(("backbone", "moves"), [("ae", False), ("memae", False), ("ae-u", False), ("ae-u", True)])
@pytest.mark.parametrize("module", ["ndm", "udm"])
@pytest.mark.usefixtures("checkpoint_every_epoch")
def test_an_interrupted_member_ends_with_the_same_weights(
    backbone: str, moves: bool, module: str, tmp_path: Path
) -> None:
    recipe, pool = recipe_of(backbone), ImagePool([random_images(20).numpy()])

    def train(into: Path, report: Callable[[str], None]) -> None:
        train_members(recipe, module, [1], pool, [into], CPU, report, moves=moves)

    train(tmp_path / "whole", ignore)
    run_with_interruptions(train, tmp_path / "cut", [3])
    whole, cut = load_tensors(tmp_path / "whole"), load_tensors(tmp_path / "cut")
    assert whole[1] == cut[1]
    assert same_tensors(whole[0], cut[0])


@pytest.mark.parametrize("network", ["published", "anchored"])
@pytest.mark.parametrize(
    "inputs",
    [[["a_intra"]], [["a_intra", "a_inter"]], [["a_intra", "a_inter"], ["a_intra"]]],
    ids=["r_intra", "r_dual", "both"],
)
@pytest.mark.usefixtures("checkpoint_every_epoch")
def test_an_interrupted_refiner_ends_with_the_same_weights(
    network: str, inputs: list[list[str]], tmp_path: Path
) -> None:
    recipe = recipe_of("ae-u").changed({"refinement.network": network})
    pool = ImagePool([random_images(20).numpy()])
    torch.manual_seed(0)
    modules = {
        name: Ensemble([build_autoencoder(recipe.images, recipe.reconstruction) for _ in range(2)]).eval()
        for name in ("ndm", "udm")
    }

    def train(into: Path, report: Callable[[str], None]) -> None:
        files = [into.with_name(f"{into.name}-{number}") for number in range(len(inputs))]
        train_refiners(recipe, inputs, pool, modules, files, CPU, report)

    train(tmp_path / "whole", ignore)
    run_with_interruptions(train, tmp_path / "cut", [3])
    for number in range(len(inputs)):
        whole, cut = (load_tensors(tmp_path / f"{name}-{number}") for name in ("whole", "cut"))
        assert whole[1] == cut[1]
        assert same_tensors(whole[0], cut[0])


def test_members_and_seeds_differ_and_the_same_ones_do_not(tmp_path: Path) -> None:
    recipe, pool = tiny_recipe(), ImagePool([random_images(20).numpy()])
    runs = {"a": (0, 0, "ndm"), "again": (0, 0, "ndm"), "member": (0, 1, "ndm"), "seed": (1, 0, "ndm")}
    runs["module"] = (0, 0, "udm")
    weights = {}
    for name, (seed, member, module) in runs.items():
        torch.manual_seed(len(name))  # what was drawn before must not matter
        train_members(recipe.changed({"seed": seed}), module, [member], pool, [tmp_path / name], CPU, ignore)
        weights[name] = load_tensors(tmp_path / name)[0]
    assert same_tensors(weights["a"], weights["again"])
    for name in ("member", "seed", "module"):
        assert not same_tensors(weights["a"], weights[name])


@pytest.mark.parametrize(("backbone", "moves"), [("ae", False), ("memae", False), ("ae-u", False), ("ae-u", True)])
@pytest.mark.usefixtures("checkpoint_every_epoch")
def test_members_that_learn_together_are_those_that_learn_alone(backbone: str, moves: bool, tmp_path: Path) -> None:
    recipe, pool = recipe_of(backbone), ImagePool([random_images(20).numpy()])
    alone, together = ([tmp_path / f"{how}-{member}" for member in range(3)] for how in ("alone", "together"))
    for member in range(3):
        train_members(recipe, "ndm", [member], pool, [alone[member]], CPU, ignore, moves=moves)

    with pytest.raises(Interruption):
        train_members(recipe, "ndm", [0, 1, 2], pool, together, CPU, interrupt_after(3), moves=moves)
    assert not any(file.exists() for file in together)
    lines: list[str] = []
    train_members(recipe, "ndm", [0, 1, 2], pool, together, CPU, lines.append, moves=moves)

    assert len(lines) == recipe.reconstruction.ndm_epochs
    assert lines[0].startswith("loss 1 ")
    for one, other in zip(alone, together, strict=True):
        (weights, notes), (other_weights, other_notes) = load_tensors(one), load_tensors(other)
        assert same_tensors(weights, other_weights)
        assert notes == other_notes
    assert sorted(tmp_path.iterdir()) == sorted([*alone, *together])


class Pair(nn.Module):
    """Two parts; the second reads the first, so that a loss of the second has gradients for both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)


def train_pair(into: Path, report: Callable[[str], None], epochs: int = 6) -> Pair:
    torch.manual_seed(0)
    pair = Pair()

    def batch_turns(epoch: int) -> Iterator[Turn]:
        generator = torch.Generator().manual_seed(epoch)
        for step in range(3):
            x = torch.rand(8, 3, generator=generator)
            yield Turn("second", pair.second, (pair.second(pair.first(x)) ** 2).mean())
            if step == 1:
                yield Turn("first", pair.first, (pair.first(x) - 1).abs().mean(), speed=0.5)

    settings = LoopSettings(epochs, 4, 0.05, "constant", 0.0, second_momentum=0.9, section="line")
    train_in_turns(pair, batch_turns, settings, into, CPU, report)
    return pair


def test_turns_are_as_an_optimizer_for_each_part(tmp_path: Path) -> None:
    lines: list[str] = []
    pair = train_pair(tmp_path / "w", lines.append)
    torch.manual_seed(0)
    expected = Pair()
    adams = [
        torch.optim.Adam(part.parameters(), lr=rate, betas=(0.0, 0.9), fused=True)
        for part, rate in ((expected.first, 0.025), (expected.second, 0.05))
    ]
    for epoch in range(6):
        generator = torch.Generator().manual_seed(epoch)
        for step in range(3):
            x = torch.rand(8, 3, generator=generator)
            adams[1].zero_grad()
            (expected.second(expected.first(x)) ** 2).mean().backward()
            adams[1].step()
            if step == 1:
                adams[0].zero_grad()
                (expected.first(x) - 1).abs().mean().backward()
                adams[0].step()
    assert same_tensors(pair.state_dict(), expected.state_dict())
    weights, notes = load_tensors(tmp_path / "w")
    assert same_tensors(weights, pair.state_dict())
    assert {name: len(curve) for name, curve in notes["losses"].items()} == {"second": 6, "first": 6}
    assert lines[-1] == ", ".join(f"{name} {curve[-1]:.4f}" for name, curve in notes["losses"].items())


@pytest.mark.usefixtures("checkpoint_every_epoch")
def test_interrupted_turns_end_with_the_same_weights(tmp_path: Path) -> None:
    train_pair(tmp_path / "whole", ignore)
    run_with_interruptions(lambda into, report: train_pair(into, report), tmp_path / "cut", [2, 4])
    (whole, curves), (cut, cut_curves) = load_tensors(tmp_path / "whole"), load_tensors(tmp_path / "cut")
    assert same_tensors(whole, cut)
    assert curves == cut_curves


def spoilt_in(epoch: int, wrong: float) -> Callable[[int], Iterator[Batch]]:
    """Batches whose loss is `wrong` in one epoch."""

    def batches(number: int) -> Iterator[Batch]:
        yield (torch.full((2, 3), wrong if number == epoch else 1.0),)

    return batches


@pytest.mark.usefixtures("checkpoint_every_epoch")
def test_training_ends_where_a_loss_is_no_number(tmp_path: Path) -> None:
    settings, batches = LoopSettings(5, 1, 0.05, "constant", 0.0, section="igd"), spoilt_in(2, float("nan"))
    said = r"nan after epoch 3 of 5\. Lower the learning rate in the recipe's section igd \(it is 0\.05\)\.$"
    alone, one, other, turning = (nn.Linear(3, 1) for _ in range(4))

    with pytest.raises(DivergenceError, match=f"loss is {said}"):
        train_epochs(alone, batches, lambda x: alone(x).mean(), settings, tmp_path / "alone", CPU, ignore)
    with pytest.raises(DivergenceError, match=f"loss 2 is {said}"):
        train_together(
            [one, other], batches, lambda x: [one(torch.ones(1, 3)).mean(), other(x).mean()],
            settings, [tmp_path / "a", tmp_path / "b"], CPU, ignore,
        )  # fmt: skip
    with pytest.raises(DivergenceError, match=f"second is {said}"):
        train_in_turns(
            turning, lambda epoch: (Turn("second", turning, turning(x).mean()) for (x,) in batches(epoch)),
            settings, tmp_path / "turns", CPU, ignore,
        )  # fmt: skip

    checkpoints = sorted(tmp_path.iterdir())
    assert [file.name for file in checkpoints] == ["a.checkpoint", "alone.checkpoint", "turns.checkpoint"]
    for file in checkpoints:
        tensors, notes = load_tensors(file)
        assert all(tensor.isfinite().all() for tensor in tensors.values())
        assert all(len(curve) == 2 for curve in notes["curves"].values())


def test_training_ends_where_the_last_step_spoilt_the_weights(tmp_path: Path) -> None:
    network = nn.Linear(3, 1)
    bf16 = Compute("cpu", "bf16")

    def loss(x: Tensor) -> Tensor:
        zero: Tensor = network(x).mean() * 0
        return zero.sqrt()  # the root of zero has no slope

    settings = LoopSettings(1, 1, 0.05, "constant", 0.0, section="line")
    with pytest.raises(DivergenceError, match=r"a weight is no number after epoch 1 of 1.*--precision fp32"):
        train_epochs(network, spoilt_in(-1, 0), loss, settings, tmp_path / "w", bf16, ignore)
    assert list(tmp_path.iterdir()) == []
