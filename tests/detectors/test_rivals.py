"""What every rival must keep: one score, one map, each of its image alone, saved and resumed like DDAD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import Tensor

from ddad.cohorts import Cohort
from ddad.detectors import DETECTORS, Detector, FitContext
from ddad.errors import CohortError, ModelError, SettingError
from ddad.fitting import fit
from ddad.recipe import Recipe
from ddad.training import loop
from ddad.training.device import Compute
from support import TINY_RIVALS, RecordedProgress, RecordedTask, random_images, same_tensors, tiny_recipe, write_images

FP32 = Compute("cpu", "fp32")
RIVALS = sorted(set(DETECTORS) - {"ddad"})
SCORED_BESIDE_THE_MAP = {"draem", "f-anogan", "ganomaly", "igd"}  # all others by the map's mean


def recipe_of(name: str, **changes: object) -> Recipe:
    tiny = {name.replace(".", "__"): value for name, value in TINY_RIVALS.items()}
    return tiny_recipe(detector=name, **(tiny | changes))


def fit_in(workspace: Path, recipe: Recipe, channels: int = 1, unlabeled: bool = True) -> Detector:
    np.save(workspace / "normal.npy", random_images(12, channels).numpy())
    np.save(workspace / "unlabeled.npy", 0.5 * random_images(10, channels, seed=1).numpy())
    detector = DETECTORS[recipe.detector](recipe)
    progress = RecordedProgress()
    context = FitContext(workspace, FP32, workers=0, progress=progress)
    curves = detector.fit(workspace / "normal.npy", workspace / "unlabeled.npy" if unlabeled else None, context)
    assert curves
    assert all(np.isfinite(curve).all() for curve in curves.values())
    assert progress.tasks
    assert all(task.title.endswith(", epochs") for task in progress.tasks)
    return detector


@cache
def fitted(name: str, channels: int = 1) -> Detector:
    with TemporaryDirectory() as folder:
        return fit_in(Path(folder), recipe_of(name, images__channels=channels), channels)


@pytest.mark.parametrize("name", ["ddad", *RIVALS])
@pytest.mark.usefixtures("networks_compute_exactly")
def test_statistics_are_computed_as_exactly_as_scores(name: str, tmp_path: Path) -> None:
    fit_in(tmp_path, recipe_of(name)).score(random_images(2), FP32)


def assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6 * max(1.0, float(tensor.abs().max())))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", RIVALS)
def test_one_score_and_one_map(name: str, channels: int) -> None:
    detector = fitted(name, channels)
    scored = detector.score(random_images(5, channels), FP32)
    assert detector.name == name
    assert detector.primary_score == "image"
    assert set(scored.scores) == set(scored.maps) == {"image"}
    assert scored.scores["image"].shape == (5,)
    assert scored.maps["image"].shape == (5, 16, 16)
    assert torch.isfinite(scored.maps["image"]).all()
    if name not in SCORED_BESIDE_THE_MAP:
        torch.testing.assert_close(scored.scores["image"], scored.maps["image"].mean((1, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", RIVALS)
def test_a_score_belongs_to_its_image_alone(name: str) -> None:
    detector, images = fitted(name), random_images(9, seed=7)
    together, backwards = detector.score(images, FP32), detector.score(images.flip(0), FP32)
    for index in (0, 4, 8):
        alone = detector.score(images[index : index + 1], FP32)
        assert_close({"s": alone.scores["image"][0]}, {"s": together.scores["image"][index]})
        assert_close({"m": alone.maps["image"][0]}, {"m": together.maps["image"][index]})
        assert_close({"s": backwards.scores["image"][8 - index]}, {"s": together.scores["image"][index]})


@pytest.mark.parametrize("name", RIVALS)
def test_what_was_learned_can_be_put_back(name: str) -> None:
    detector, images = fitted(name), random_images(3, seed=3)
    copy = DETECTORS[name](detector.recipe)
    copy.load_state_dict(detector.state_dict())
    assert torch.equal(copy.score(images, FP32).scores["image"], detector.score(images, FP32).scores["image"])
    with pytest.raises(ModelError, match="do not fit the recipe"):
        copy.load_state_dict({})


@pytest.mark.parametrize("name", RIVALS)
def test_the_seed_decides_the_weights(name: str, tmp_path: Path) -> None:
    states = []
    for number, seed in enumerate((0, 0, 1)):
        (tmp_path / str(number)).mkdir()
        states.append(fit_in(tmp_path / str(number), recipe_of(name, seed=seed)).state_dict())
    assert same_tensors(states[0], states[1])
    assert not same_tensors(states[0], states[2])


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_no_other_section_of_the_recipe_is_read(name: str, tmp_path: Path) -> None:
    tiny = recipe_of(name)
    own = tiny.keeping({"images", *DETECTORS[name].sections})
    assert own != tiny
    expected = fitted(name) if name in RIVALS else fit_in(tmp_path, tiny)
    (tmp_path / "own").mkdir()
    assert same_tensors(fit_in(tmp_path / "own", own).state_dict(), expected.state_dict())


@pytest.mark.parametrize("name", sorted(name for name in RIVALS if DETECTORS[name].unread))
def test_unread_fields_change_nothing(name: str, tmp_path: Path) -> None:
    others = {
        "reconstruction.backbone": "ae" if name == "vae" else "vae",
        "reconstruction.members": 5,
        "reconstruction.udm_epochs": 7,
        "reconstruction.move_below": 0,
        "reconstruction.memory_slots": 7,
        "reconstruction.memory_entropy_weight": 0.5,
        "classification.members": 7,
    }
    recipe = recipe_of(name, **{field.replace(".", "__"): others[field] for field in DETECTORS[name].unread})
    assert same_tensors(fit_in(tmp_path, recipe).state_dict(), fitted(name).state_dict())


@pytest.mark.parametrize(
    "name", sorted(name for name in RIVALS if not DETECTORS[name].needs_unlabeled and name != "ddad+")
)
def test_unlabeled_images_are_not_looked_at(name: str, tmp_path: Path) -> None:
    alone = fit_in(tmp_path, recipe_of(name), unlabeled=False)
    assert same_tensors(alone.state_dict(), fitted(name).state_dict())


def test_a_baseline_is_the_first_network_of_the_ndm(tmp_path: Path) -> None:
    ddad = fit_in(tmp_path, tiny_recipe(reconstruction__backbone="ae-u", reconstruction__move_below=0))
    images = random_images(4, seed=2)
    expected = ddad.score(images, FP32).scores["rec"]
    torch.testing.assert_close(fitted("ae-u").score(images, FP32).scores["image"], expected)


def test_the_classifier_tells_what_only_the_unlabeled_images_show(tmp_path: Path) -> None:
    recipe = recipe_of("normal-vs-unlabeled", classification__epochs=25, classification__width=8)
    rng = torch.Generator().manual_seed(0)
    normal = 0.2 * torch.randn(48, 1, 16, 16, generator=rng)
    odd = 0.2 * torch.randn(24, 1, 16, 16, generator=rng)
    odd[:, :, 5:11, 5:11] += 0.8
    np.save(tmp_path / "normal.npy", normal[:32].numpy())
    np.save(tmp_path / "unlabeled.npy", torch.cat([normal[32:40], odd[:16]]).numpy())
    detector = DETECTORS[recipe.detector](recipe)
    context = FitContext(tmp_path, FP32, workers=0, progress=RecordedProgress())
    detector.fit(tmp_path / "normal.npy", tmp_path / "unlabeled.npy", context)
    scores = detector.score(torch.cat([normal[40:], odd[16:]]), FP32).scores["image"]
    assert scores[8:].min() > scores[:8].max()


def test_a_classifier_without_unlabeled_images_stops_before_any_work(tmp_path: Path) -> None:
    write_images(tmp_path / "normal", 10)
    cohort = Cohort.from_folders(normal=tmp_path / "normal")
    with pytest.raises(CohortError, match=r"unlabeled: none.*normal-vs-unlabeled"):
        fit(cohort, recipe_of("normal-vs-unlabeled"), out=tmp_path / "m", workers=0)
    assert not list(tmp_path.glob("m*"))
    with pytest.raises(SettingError, match="needs unlabeled images"):
        fit_in(tmp_path, recipe_of("normal-vs-unlabeled"), unlabeled=False)


class Interruption(BaseException):
    pass


class ImpatientProgress(RecordedProgress):
    """Stops the fit when more epochs than these were reported."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[RecordedTask]:
        with super().task(title, total) as task:
            yield ImpatientTask(task.title, task.total, self)


class ImpatientTask(RecordedTask):
    def __init__(self, title: str, total: int, progress: ImpatientProgress) -> None:
        super().__init__(title, total)
        self.progress = progress

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        super().advance(steps, note=note)
        self.progress.epochs -= steps
        if self.progress.epochs < 0:
            raise Interruption


@pytest.mark.parametrize(
    ("name", "after"), [("cutpaste", [1, 2]), ("ganomaly", [1, 2]), ("igd", [1, 2]), ("f-anogan", [1, 2, 4])]
)
def test_an_interrupted_fit_ends_with_the_same_weights(
    name: str, after: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the moments of all networks that learn in turns, and in each of f-AnoGAN's two trainings."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    recipe = recipe_of(name)
    np.save(tmp_path / "normal.npy", random_images(12).numpy())
    for epochs in after:  # those of the attempts before are reported again
        context = FitContext(tmp_path, FP32, workers=0, progress=ImpatientProgress(epochs))
        with pytest.raises(Interruption):
            DETECTORS[name](recipe).fit(tmp_path / "normal.npy", None, context)
    assert list(tmp_path.glob("*.checkpoint"))
    assert same_tensors(fit_in(tmp_path, recipe).state_dict(), fitted(name).state_dict())
