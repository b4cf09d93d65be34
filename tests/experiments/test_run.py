"""What a run's title says of its recipe, and what its record keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ddad.cohorts import Cohort, Role
from ddad.experiments import run
from ddad.experiments.evaluation import Evaluation
from ddad.experiments.published import benchmark_named
from ddad.experiments.run import differs_from_published, own_settings, run_once, settings_of
from ddad.progress import SilentProgress
from ddad.recipe import Recipe
from support import write_images


def test_a_title_names_what_makes_a_run_unlike_others_of_its_preset() -> None:
    recipe = Recipe().changed(
        {"detector": "draem", "seed": 3, "holdout": 0.0, "reconstruction.backbone": "ae", "reconstruction.members": 5}
    )
    assert own_settings(recipe.changed({"detector": "ddad"}), normals=200) == {"reconstruction.members": 5}
    assert own_settings(recipe, normals=200) == {}  # draem does not read it
    assert own_settings(recipe, normals=0) == {"reconstruction.members": 5}  # trimming does


def test_from_how_many_on_normals_are_moved_is_named_where_some_fit_may_have_as_few() -> None:
    former = {"recipe": Recipe().changed({"holdout": 0, "reconstruction.move_below": 0}).model_dump(mode="json")}
    for normal, named in ((50, True), (199, True), (200, False), (1000, False)):
        told = settings_of({**former, "counts": {"normal": normal, "held_out_normal": 0}})
        assert told == ({"reconstruction.move_below": 0} if named else {})
    asked = Recipe().changed({"holdout": 0, "reconstruction.move_below": 1000})
    assert own_settings(asked, normals=500) == {"reconstruction.move_below": 1000}
    assert own_settings(asked.changed({"detector": "ae-u"}), normals=500) == {}  # its network is not moved


def test_another_default_of_what_a_stored_run_did_not_read_is_no_setting_of_its_own() -> None:
    stored = Recipe().changed({"holdout": 0, "trimming.trusted": 0.5, "trimming.rounds": 3})
    record = {"recipe": stored.model_dump(mode="json")}
    assert settings_of(record) == {}
    assert settings_of({**record, "trusted": ["a.png"]}) == {"trimming.trusted": 0.5, "trimming.rounds": 3}


def test_a_share_held_out_is_named() -> None:
    assert own_settings(Recipe.preset("paper").changed({"holdout": 0.2}), normals=200) == {"holdout": 0.2}
    assert own_settings(Recipe(), normals=50) == {"holdout": 0.1}  # the preset's share is not what runs have
    assert own_settings(Recipe().changed({"holdout": 0}), normals=50) == {}
    assert own_settings(Recipe.preset("paper").changed({"holdout": 0}), normals=50) == {}


def test_the_papers_figures_do_not_stand_beside_a_run_that_held_images_out() -> None:
    benchmark = benchmark_named("brain-tumor")
    assert benchmark is not None
    labels = [0] * benchmark.test[0] + [1] * benchmark.test[1]
    counts = {"normal": benchmark.normal, "held_out_normal": 0, "unlabeled": benchmark.unlabeled}
    record = {"counts": counts, "labels": labels, "anomaly_rate": None}
    assert differs_from_published(record, benchmark, "data.json") == []
    counts |= {"normal": benchmark.normal - 100, "held_out_normal": 100}
    assert differs_from_published(record, benchmark, "data.json") == ["normal images: 900, in the paper 1000"]


@pytest.mark.parametrize("groups", [None, [0, 0, 1]])
def test_a_record_has_groups_only_where_images_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: list[int] | None
) -> None:
    counts = {"normal": 4, "held_out_normal": 0, "unlabeled": 0, "skipped": [], "blank": [], "warnings": []}
    card = {"ddad": "0", "versions": {}, "compute": {}, "cohort": counts, "seconds": 1.0}

    def fit(*_: Any, out: Path, **__: Any) -> Any:
        out.mkdir()
        return SimpleNamespace(card=card)

    write_images(tmp_path / "normal", 4)
    cohort = Cohort.from_folders(normal=tmp_path / "normal")
    names = [str(path) for path in cohort.paths(Role.NORMAL)[:3]]
    evaluation = Evaluation({}, {}, names, [0, 0, 1], {"image": [0.1, 0.2, 0.3]}, groups)
    monkeypatch.setattr(run, "fit", fit)
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: evaluation)
    record = run_once(cohort, Recipe(), tmp_path / "model", "cpu", 1, SilentProgress())
    assert record.get("groups") == groups


def test_scores_are_stored_as_far_as_float32_tells_them_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"normal": 4, "held_out_normal": 0, "unlabeled": 0, "skipped": [], "blank": [], "warnings": []}
    card = {"ddad": "0", "versions": {}, "compute": {}, "cohort": counts, "seconds": 1.0}
    write_images(tmp_path / "normal", 4)
    cohort = Cohort.from_folders(normal=tmp_path / "normal")
    one = np.float32(0.16266501)
    close = [float(one), float(np.nextafter(one, np.float32(1))), 3e-9]
    names = [str(path) for path in cohort.paths(Role.NORMAL)[:3]]
    monkeypatch.setattr(run, "fit", lambda *_, **__: SimpleNamespace(card=card))
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: Evaluation({}, {}, names, [0, 0, 1], {"image": close}))
    record = run_once(cohort, Recipe(), tmp_path / "model", "cpu", 1, SilentProgress())
    assert np.float32(record["scores"]["image"]).tolist() == np.float32(close).tolist()
