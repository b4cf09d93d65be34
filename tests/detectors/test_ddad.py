from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import Tensor

from ddad.detectors import DDAD, DETECTORS, FitContext, Scored
from ddad.errors import ModelError
from ddad.networks.factory import build_asr_net
from ddad.training.device import Compute
from ddad.training.jobs import Job
from support import RecordedProgress, random_images, same_tensors, tiny_recipe

FP32, BF16 = Compute("cpu", "fp32"), Compute("cpu", "bf16")
SIX = {"rec", "rec_ensemble", "a_intra", "a_inter", "r_intra", "r_dual"}
FOUR = SIX - {"a_inter", "r_dual"}


@cache
def fitted(
    backbone: str = "ae-u", members: int = 2, channels: int = 1, network: str = "anchored", unlabeled: bool = True
) -> tuple[DDAD, dict[str, list[float]]]:
    recipe = tiny_recipe(
        reconstruction__backbone=backbone,
        reconstruction__members=members,
        images__channels=channels,
        refinement__network=network,
    )
    with TemporaryDirectory() as name:
        workspace = Path(name)
        np.save(workspace / "normal.npy", random_images(12, channels).numpy())
        np.save(workspace / "unlabeled.npy", 0.5 * random_images(10, channels, seed=1).numpy())
        detector = DDAD(recipe)
        curves = detector.fit(
            workspace / "normal.npy",
            workspace / "unlabeled.npy" if unlabeled else None,
            FitContext(workspace, FP32, workers=0, progress=RecordedProgress()),
        )
    return detector, curves


def row(scored: Scored, index: int) -> dict[str, Tensor]:
    return {name: values[index] for name, values in scored.scores.items()} | {
        f"{name} map": score_map[index] for name, score_map in scored.maps.items()
    }


def assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6 * float(tensor.abs().max()), msg=name)


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_six_scores_and_maps_of_every_image(members: int, channels: int) -> None:
    detector, curves = fitted(members=members, channels=channels)
    scored = detector.score(random_images(5, channels), FP32)
    assert set(scored.scores) == set(scored.maps) == SIX
    assert all(values.shape == (5,) and torch.isfinite(values).all() for values in scored.scores.values())
    assert all(values.shape == (5, 16, 16) and torch.isfinite(values).all() for values in scored.maps.values())
    assert detector.primary_score == "r_dual"
    networks = {f"{module}.members.{k}" for module in ("ndm", "udm") for k in range(members)}
    assert set(curves) == networks | {"r_intra", "r_dual"}
    assert {len(curves[network]) for network in networks} == {2}
    assert (scored.scores["a_intra"] == 0).all() == (members == 1)


@pytest.mark.parametrize("backbone", ["ae", "memae", "ae-u"])
def test_every_backbone_without_unlabeled_images_has_r_intra_as_its_score(backbone: str) -> None:
    detector, curves = fitted(backbone, unlabeled=False)
    scored = detector.score(random_images(3), FP32)
    assert set(scored.scores) == set(scored.maps) == FOUR
    assert detector.primary_score == "r_intra"
    assert not any(part.startswith("udm") or part == "r_dual" for part in curves)


def test_unlabeled_images_do_not_change_the_normative_part() -> None:
    x = random_images(4, seed=5)
    both, alone = fitted()[0].score(x, FP32), fitted(unlabeled=False)[0].score(x, FP32)
    for name in FOUR:
        assert torch.equal(both.scores[name], alone.scores[name])


@pytest.mark.parametrize("network", ["published", "anchored"])
def test_a_score_is_the_mean_of_its_map(network: str) -> None:
    scored = fitted(network=network)[0].score(random_images(6, seed=4), FP32)
    for name in SIX:
        torch.testing.assert_close(scored.scores[name], scored.maps[name].mean((1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compute", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("network", ["published", "anchored"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_score_belongs_to_its_image_alone(compute: Compute, network: str, channels: int) -> None:
    """It does not change with the number of images beside it, their order, or what they are."""
    detector, _ = fitted(network=network, channels=channels)
    x = random_images(9, channels, seed=7)
    together = detector.score(x, compute)
    backwards = detector.score(x.flip(0), compute)
    strangers = torch.cat([torch.ones(3, channels, 16, 16), x[4:5], -torch.ones(2, channels, 16, 16)])
    for index in (0, 4, 8):
        expected = row(together, index)
        assert_close(row(detector.score(x[index : index + 1], compute), 0), expected)
        assert_close(row(detector.score(x[: index + 1], compute), index), expected)
        assert_close(row(backwards, 8 - index), expected)
    assert_close(row(detector.score(strangers, compute), 3), row(together, 4))


@pytest.mark.parametrize("compute", [FP32, BF16], ids=["fp32", "bf16"])
def test_a_score_does_not_change_across_the_blocks_that_are_scored_at_once(compute: Compute) -> None:
    recipe = tiny_recipe(images__image_size=64, reconstruction__members=1)
    torch.manual_seed(0)
    source = DDAD(recipe)
    parts = source.state_dict() | {f"udm.{name}": tensor for name, tensor in source.ndm.state_dict().items()}
    from ddad.networks.factory import build_asr_net

    for score, inputs in (("r_intra", ["a_intra"]), ("r_dual", ["a_intra", "a_inter"])):
        refiner = build_asr_net(recipe, inputs)
        torch.nn.init.normal_(refiner.head.weight, std=0.1)
        parts |= {f"{score}.{name}": tensor for name, tensor in refiner.state_dict().items()}
    detector = DDAD(recipe)
    detector.load_state_dict(parts)
    x = random_images(35, size=64)
    together = detector.score(x, compute)
    for index in (0, 31, 32, 34):
        assert_close(row(detector.score(x[index : index + 1], compute), 0), row(together, index))


def test_bf16_stays_near_fp32() -> None:
    x = random_images(6, seed=8)
    exact, fast = (fitted()[0].score(x, compute) for compute in (FP32, BF16))
    for name in SIX:
        torch.testing.assert_close(fast.scores[name], exact.scores[name], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("unlabeled", [True, False])
@pytest.mark.parametrize("network", ["published", "anchored"])
def test_everything_learned_travels_in_the_state_dict(unlabeled: bool, network: str) -> None:
    detector, _ = fitted(network=network, unlabeled=unlabeled)
    copy = DDAD(detector.recipe)
    copy.load_state_dict(detector.state_dict())
    assert same_tensors(copy.state_dict(), detector.state_dict())
    assert copy.primary_score == detector.primary_score
    x = random_images(5, seed=3)
    assert all(
        torch.equal(a, b)
        for a, b in zip(copy.score(x, FP32).scores.values(), detector.score(x, FP32).scores.values(), strict=True)
    )


def test_scoring_changes_neither_weights_nor_images() -> None:
    detector, _ = fitted()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    x = random_images(5)
    kept = x.clone()
    detector.score(x, FP32)
    assert torch.equal(x, kept)
    assert same_tensors(before, detector.state_dict())


@pytest.mark.parametrize("fault", ["empty", "foreign", "no refiner", "no member", "no udm", "other size"])
def test_weights_that_do_not_fit_are_refused(fault: str) -> None:
    detector, _ = fitted()
    tensors, recipe = detector.state_dict(), detector.recipe
    match fault:
        case "empty":
            tensors = {}
        case "foreign":
            tensors["classifier.weight"] = torch.zeros(3)
        case "no refiner":
            tensors = {name: t for name, t in tensors.items() if not name.startswith("r_")}
        case "no member":
            tensors = {name: t for name, t in tensors.items() if not name.startswith("ndm.members.1")}
        case "no udm":
            tensors = {name: t for name, t in tensors.items() if not name.startswith("udm")}
        case "other size":
            recipe = recipe.changed({"images.image_size": 32})
    with pytest.raises(ModelError, match="weights"):
        DDAD(recipe).load_state_dict(tensors)


def test_progress_counts_every_epoch_of_every_network(tmp_path: Path) -> None:
    recipe, progress = tiny_recipe(), RecordedProgress()
    np.save(tmp_path / "normal.npy", random_images(10).numpy())
    DDAD(recipe).fit(tmp_path / "normal.npy", None, FitContext(tmp_path, FP32, 0, progress))
    assert [(task.total, task.done) for task in progress.tasks] == [(4, 4), (1, 1)]
    assert any("NDM network 2 of 2" in note for note in progress.tasks[0].notes)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Job]]:
    """The jobs of both stages of a fit, of which none is run."""
    recorded: list[Sequence[Job]] = []

    def run(jobs: Sequence[Job], **_: object) -> None:
        recorded.append(jobs)
        if len(recorded) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("ddad.detectors.ddad_training.run_jobs", run)
    return recorded


def test_on_a_gpu_networks_of_one_kind_are_one_job(tmp_path: Path, stages: list[Sequence[Job]]) -> None:
    np.save(tmp_path / "normal.npy", random_images(10).numpy())
    context = FitContext(tmp_path, Compute("cuda", "bf16"), 2, RecordedProgress())
    recipe = tiny_recipe(reconstruction__members=3, reconstruction__ndm_epochs=4, refinement__epochs=5)
    with pytest.raises(KeyboardInterrupt):
        DDAD(recipe).fit(tmp_path / "normal.npy", tmp_path / "unlabeled.npy", context)
    (udm, ndm), (refiners,) = stages
    assert udm.arguments["into"] == [str(tmp_path / f"udm-{k}.safetensors") for k in range(3)]
    assert ndm.output == tmp_path / "ndm-2.safetensors"  # the one that is written last
    assert ndm.steps == 3 * 4
    assert refiners.arguments["inputs"] == [["a_intra", "a_inter"], ["a_intra"]]
    assert refiners.arguments["into"] == [str(tmp_path / f"{score}.safetensors") for score in ("r_dual", "r_intra")]
    assert refiners.output == tmp_path / "r_intra.safetensors"
    assert refiners.steps == 2 * 5


def test_an_asr_net_that_reads_no_a_inter_is_not_given_the_udm(tmp_path: Path, stages: list[Sequence[Job]]) -> None:
    np.save(tmp_path / "normal.npy", random_images(10).numpy())
    context = FitContext(tmp_path, FP32, 2, RecordedProgress())
    with pytest.raises(KeyboardInterrupt):
        DDAD(tiny_recipe()).fit(tmp_path / "normal.npy", tmp_path / "unlabeled.npy", context)
    given = {job.output.stem: set(job.arguments["members"]) for job in stages[1]}
    assert given == {"r_dual": {"ndm", "udm"}, "r_intra": {"ndm"}}


def test_finished_networks_are_not_trained_again(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    np.save(tmp_path / "normal.npy", random_images(10).numpy())
    context = FitContext(tmp_path, FP32, 0, RecordedProgress())
    first = DDAD(recipe)
    first.fit(tmp_path / "normal.npy", None, context)
    np.save(tmp_path / "normal.npy", random_images(10, seed=9).numpy())
    second = DDAD(recipe)
    second.fit(tmp_path / "normal.npy", None, context)
    assert same_tensors(first.state_dict(), second.state_dict())


def test_the_registry_knows_it() -> None:
    assert DETECTORS["ddad"] is DDAD


@pytest.mark.parametrize("network", ["published", "anchored"])
def test_scores_without_maps_are_the_same_to_the_last_bit(network: str) -> None:
    torch.manual_seed(0)
    detector = DDAD(tiny_recipe(refinement__network=network))
    detector.udm = detector._ensemble()
    detector.refiners = {
        "r_intra": build_asr_net(detector.recipe, ["a_intra"]),
        "r_dual": build_asr_net(detector.recipe, ["a_intra", "a_inter"]),
    }
    images, compute = random_images(11), Compute("cpu", "fp32")
    scored, alone = detector.score(images, compute), detector.image_scores(images, compute)
    assert list(alone) == list(scored.scores)
    for name, values in alone.items():
        assert torch.equal(values, scored.scores[name]), name
        # What is added to the anchor has no mean, but for rounding.
        torch.testing.assert_close(values, scored.maps[name].flatten(1).mean(dim=1), rtol=1e-4, atol=1e-5)
