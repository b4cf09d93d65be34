"""A model is made once for a plan, whatever was killed when; another plan's is never taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddad import Cohort, Model, fit, fitting
from ddad.errors import OutputError
from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.workspace import Workspace
from support import RecordedProgress, contents, tiny_recipe, write_images


class Killed(BaseException):
    pass


class KilledProgress(RecordedProgress):
    """Kills a fit that begins to train."""

    def task(self, title: str, total: int):  # type: ignore[no-untyped-def]
        if "reconstruction" in title:
            raise Killed
        return super().task(title, total)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    write_images(tmp_path / "normal", 12)
    return Cohort.from_folders(normal=tmp_path / "normal")


@pytest.fixture
def recipe() -> Recipe:
    return tiny_recipe(detector="ae", reconstruction__ndm_epochs=1, precision="auto")


@pytest.mark.parametrize("changed", ["precision", "ddad", "order"])
def test_an_overwriting_fit_that_was_killed_does_not_end_in_the_old_model(
    changed: str, cohort: Cohort, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe and the images are the same: the old model's card differs in nothing but its plan."""
    out = tmp_path / "m"
    monkeypatch.setattr(Compute, "choose", lambda *_: Compute("cpu", "fp32"))
    old = fit(cohort, recipe, out=out, workers=0)
    if changed == "precision":
        monkeypatch.setattr(Compute, "choose", lambda *_: Compute("cpu", "bf16"))
    elif changed == "ddad":
        monkeypatch.setattr(fitting, "__version__", "99.0")
    else:
        paths = Cohort.paths
        monkeypatch.setattr(Cohort, "paths", lambda *arguments: paths(*arguments)[::-1])
    with pytest.raises(Killed):
        fit(cohort, recipe, out=out, workers=0, overwrite=True, progress=KilledProgress())
    assert Model.load(out).card == old.card
    new = fit(cohort, recipe, out=out, workers=0, overwrite=True)
    assert new.card["plan"] != old.card["plan"]
    assert Model.load(out).card == new.card
    assert {path.name for path in tmp_path.iterdir()} == {"normal", "m"}


def test_a_finished_model_of_the_same_fit_is_taken_as_it_is(cohort: Cohort, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "m"
    fit(cohort, recipe, out=out, workers=0)
    before = contents(tmp_path)
    progress = RecordedProgress()
    again = fit(cohort, recipe, out=out, workers=0, overwrite=True, progress=progress)
    assert contents(tmp_path) == before
    assert again.card == Model.load(out).card
    assert any("is there already, of the same images and settings" in message for message in progress.messages)
    assert progress.tasks == []
    with pytest.raises(OutputError, match="exists already"):
        fit(cohort, recipe, out=out, workers=0)
    other = fit(cohort, recipe.changed({"seed": 5}), out=out, workers=0, overwrite=True)
    assert other.card["seed"] == Model.load(out).card["seed"] == 5


@pytest.mark.parametrize("file", ["weights.safetensors", "model_card.json", "calibration.json"])
def test_a_damaged_model_is_made_anew(file: str, cohort: Cohort, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "m"
    fit(cohort, recipe, out=out, workers=0)
    (out / file).write_bytes(b"damaged")
    fit(cohort, recipe, out=out, workers=0, overwrite=True)
    assert Model.load(out).calibration is not None


def test_a_model_whose_card_has_no_plan_is_not_taken_for_the_same(
    cohort: Cohort, recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    model = fit(cohort, recipe, out=out, workers=0)
    del model.card["plan"]
    model.save(out, overwrite=True)
    assert "plan" in fit(cohort, recipe, out=out, workers=0, overwrite=True).card
    assert "plan" in Model.load(out).card


def test_other_unfinished_work_is_dropped_where_the_model_is_there(
    cohort: Cohort, recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    fit(cohort, recipe, out=out, workers=0)
    with pytest.raises(Killed):
        fit(cohort, recipe.changed({"seed": 5}), out=out, workers=0, overwrite=True, progress=KilledProgress())
    with (
        Workspace.beside(out).claimed({}, overwrite=True),
        pytest.raises(OutputError, match="another process is working here"),
    ):
        fit(cohort, recipe, out=out, workers=0, overwrite=True)
    assert fit(cohort, recipe, out=out, workers=0, overwrite=True).card["seed"] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"normal", "m"}
