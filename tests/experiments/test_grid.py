from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ddad.errors import CohortError, DdadError, OutputError
from ddad.experiments import grid as grid_module
from ddad.experiments import run as run_module
from ddad.experiments.comparisons import pooled_scores
from ddad.experiments.grid import Run, UnfinishedGridError, run_grid
from ddad.experiments.run import cells_of
from ddad.experiments.setting import Setting
from ddad.workspace import locked
from support import RecordedProgress, tiny_recipe, wait_for, write_images

QUICK = {"detector": "ae", "reconstruction__ndm_epochs": 1, "holdout": 0}


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    folder = tmp_path / "benchmark é"
    names = [path.name for path in write_images(folder / "images", 24)]
    split = {
        "train": {"0": names[:12], "unlabeled": {"0": names[12:14], "1": names[14:16]}},
        "test": {"0": names[16:20], "1": names[20:]},
    }
    (folder / "data.json").write_text(json.dumps(split))
    return Setting("custom", str(folder))


def stored(out: Path) -> list[Path]:
    return sorted((out / "runs").iterdir())


def test_runs_side_by_side_end_as_one_after_another(setting: Setting, tmp_path: Path) -> None:
    runs = [Run(setting, tiny_recipe(seed=seed, **QUICK)) for seed in (0, 1)]
    beside = run_grid(runs, tmp_path / "beside", jobs=2, device="cpu")
    so_far: list[list[Any]] = []
    after = run_grid(runs, tmp_path / "after", workers=0, device="cpu", on_finished=so_far.append)
    assert so_far == [[after[0], None]]
    assert [record["scores"] for record in beside] == [record["scores"] for record in after]
    assert [record["compute"]["jobs"] for record in (*beside, *after)] == [2, 2, 1, 1]
    assert [path.name for path in stored(tmp_path / "beside")] == [path.name for path in stored(tmp_path / "after")]
    assert {path.suffix for path in stored(tmp_path / "beside")} == {".json"}
    assert all(record["peak_memory_mb"] > 50 for record in beside)


def test_a_grid_that_was_interrupted_goes_on(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [Run(setting, tiny_recipe(seed=seed, **QUICK)) for seed in (0, 1)]
    once = grid_module.run_once
    done: list[int] = []

    def failing(cohort: Any, recipe: Any, *rest: Any) -> dict[str, Any]:
        if recipe.seed == 1 and len(done) == 1:
            done.append(-1)
            raise DdadError("the machine is gone")
        done.append(recipe.seed)
        return once(cohort, recipe, *rest)

    monkeypatch.setattr(grid_module, "run_once", failing)
    with pytest.raises(UnfinishedGridError, match="machine is gone") as failure:
        run_grid(runs, tmp_path / "b", workers=0)
    first, second = failure.value.records
    assert first is not None
    assert first["cells"][0]["seed"] == 0
    assert second is None
    assert len([path for path in stored(tmp_path / "b") if path.suffix == ".json"]) == 1
    records = run_grid(runs, tmp_path / "b", workers=0)
    assert done == [0, -1, 1]
    assert [record["cells"][0]["seed"] for record in records] == [0, 1]
    assert len(stored(tmp_path / "b")) == 2  # no lock is left


@pytest.mark.parametrize("killed_in", ["evaluate", "write_atomically"])
def test_a_run_that_was_killed_between_fit_and_record_is_not_fitted_again(
    killed_in: str, setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    runs = [Run(setting, tiny_recipe(**QUICK))]
    with monkeypatch.context() as patch:
        patch.setattr(run_module if killed_in == "evaluate" else grid_module, killed_in, killed)
        with pytest.raises(KeyboardInterrupt):
            run_grid(runs, tmp_path / "b", workers=0)
    progress = RecordedProgress()
    (record,) = run_grid(runs, tmp_path / "b", workers=0, progress=progress)
    assert {task.title for task in progress.tasks} == {"scoring"}
    assert record["peak_memory_mb"] is None  # of the fit: it was another process
    (whole,) = run_grid(runs, tmp_path / "whole", workers=0)
    assert record["scores"] == whole["scores"]
    assert [path.suffix for path in stored(tmp_path / "b")] == [".json"]
    table = pd.DataFrame(cells_of([record, whole]))
    assert table["memory_mb"].count() == 1


def test_a_setting_that_the_detector_does_not_read_makes_no_other_run(setting: Setting, tmp_path: Path) -> None:
    (record,) = run_grid([Run(setting, tiny_recipe(**QUICK))], tmp_path / "b", workers=0)
    (again,) = run_grid([Run(setting, tiny_recipe(**QUICK, igd__epochs=3))], tmp_path / "b", workers=0)
    assert again == record
    (file,) = stored(tmp_path / "b")
    # As it was before a rival got another default.
    file.write_text(json.dumps(record | {"recipe": record["recipe"] | {"igd": {"epochs": 3}}}))
    run_grid([Run(setting, tiny_recipe(**QUICK))], tmp_path / "b", workers=0)
    assert stored(tmp_path / "b") == [file]


def test_progress_and_files_tell_ddad_from_the_rival_of_its_backbones_name(setting: Setting, tmp_path: Path) -> None:
    progress = RecordedProgress()
    runs = [Run(setting, tiny_recipe(**{**QUICK, "detector": detector})) for detector in ("ddad", "ae-u")]
    run_grid(runs, tmp_path / "b", workers=0, progress=progress)
    begun = [message.partition(", precision")[0] for message in progress.messages if message.startswith("run ")]
    assert begun == [
        "run 1 of 2: DDAD (AE-U), seed 0", "run 2 of 2: AE-U, seed 0"
    ]  # fmt: skip
    names = [file.name.rpartition("-")[0] for file in stored(tmp_path / "b")]
    assert names == ["benchmark é-data-fast-ae-u-seed0", "benchmark é-data-fast-ddad-ae-u-seed0"]


def test_progress_names_the_settings_in_which_runs_differ(setting: Setting, tmp_path: Path) -> None:
    progress = RecordedProgress()
    runs = [Run(setting, tiny_recipe(**{**QUICK, "reconstruction__latent_size": size})) for size in (3, 4)]
    run_grid(runs, tmp_path / "b", workers=0, progress=progress)
    assert [message for message in progress.messages if message.startswith("run ")] == [
        f"run {number} of 2: AE, seed 0, reconstruction.latent_size {size}" for number, size in ((1, 3), (2, 4))
    ]


def test_a_run_on_the_same_images_in_another_order_is_another(setting: Setting, tmp_path: Path) -> None:
    run = Run(setting, tiny_recipe(**QUICK))
    (record,) = run_grid([run], tmp_path / "b", workers=0)
    file = Path(setting.data) / "data.json"
    split = json.loads(file.read_text())
    file.write_text(json.dumps(split | {"test": {label: names[::-1] for label, names in split["test"].items()}}))
    (turned,) = run_grid([run], tmp_path / "b", workers=0)
    assert turned["cohort"] == record["cohort"]
    assert turned["labels"] == record["labels"]
    assert turned["tested"] != record["tested"]
    assert len(stored(tmp_path / "b")) == 2
    assert pooled_scores([record, turned]).left_out == ["AE, seed 0"]
    (stored(tmp_path / "b")[0]).unlink()
    (stored(tmp_path / "b")[0]).write_text(json.dumps({key: turned[key] for key in turned if key != "order"}))
    run_grid([run], tmp_path / "b", workers=0)  # one of an earlier version counts
    assert len(stored(tmp_path / "b")) == 1


def test_it_is_said_that_stored_runs_are_of_another_device(setting: Setting, tmp_path: Path) -> None:
    run = Run(setting, tiny_recipe(**QUICK))
    run_grid([run], tmp_path / "b", workers=0)
    for device, said in (("auto", False), ("cpu", False), ("cuda", True)):
        progress = RecordedProgress()
        run_grid([run], tmp_path / "b", device=device, workers=0, progress=progress)
        assert any("by another device than cuda" in message for message in progress.messages) is said


def test_the_memory_of_a_fit_that_went_on_is_not_known(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Run(setting, tiny_recipe(**QUICK))]

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ddad.fitting.train", killed)
        with pytest.raises(KeyboardInterrupt):
            run_grid(runs, tmp_path / "b", workers=0)
    (record,) = run_grid(runs, tmp_path / "b", workers=0)
    assert record["peak_memory_mb"] is None


def test_a_run_is_found_by_what_it_holds_and_not_by_its_name(setting: Setting, tmp_path: Path) -> None:
    run = Run(setting, tiny_recipe(**QUICK))
    (record,) = run_grid([run], tmp_path / "b", workers=0)
    (file,) = stored(tmp_path / "b")
    file = file.rename(file.with_name("an-earlier-name-seed0-0.json"))
    assert run_grid([run], tmp_path / "b", workers=0) == [record]
    assert stored(tmp_path / "b") == [file]


@pytest.mark.parametrize("content", ["{", "[1]", "{}"])
def test_a_damaged_run_is_named_before_anything_is_done(setting: Setting, tmp_path: Path, content: str) -> None:
    run_grid([Run(setting, tiny_recipe(**QUICK))], tmp_path / "b", workers=0)
    (file,) = stored(tmp_path / "b")
    file.write_text(content)
    with pytest.raises(OutputError, match=rf"{file.name}: .*the run is done again"):
        run_grid([Run(setting, tiny_recipe(**QUICK, seed=seed)) for seed in (1, 0)], tmp_path / "b", workers=0)
    assert stored(tmp_path / "b") == [file]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["scores"].update(image=[None] * 8), "scores.image are not all numbers"),
        (lambda record: record["scores"]["image"].pop(), "7 scores.image of 8 images"),
        (lambda record: record.update(labels=[2] * 8), "labels are not 0 and 1"),
    ],
    ids=["null", "short", "labels"],
)
def test_a_run_whose_parts_do_not_belong_together_is_damaged(
    setting: Setting, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    run_grid([Run(setting, tiny_recipe(**QUICK))], tmp_path / "b", workers=0)
    (file,) = stored(tmp_path / "b")
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
    with pytest.raises(OutputError, match=rf"{file.name}: damaged \({message}\)\. Remove it"):
        run_grid([Run(setting, tiny_recipe(**QUICK))], tmp_path / "b", workers=0)


def test_a_run_of_another_version_is_replaced_under_its_name(setting: Setting, tmp_path: Path) -> None:
    run = Run(setting, tiny_recipe(**QUICK))
    (record,) = run_grid([run], tmp_path / "b", workers=0)
    (file,) = stored(tmp_path / "b")
    file.write_text(json.dumps(record | {"ddad": "0.0.9"}))
    (again,) = run_grid([run], tmp_path / "b", workers=0)
    assert again["ddad"] == record["ddad"]
    assert again["scores"] == record["scores"]
    assert stored(tmp_path / "b") == [file]


def test_every_run_is_checked_before_the_first_is_done(setting: Setting, tmp_path: Path) -> None:
    runs = [Run(setting, tiny_recipe(**QUICK)), Run(replace(setting, normals=5), tiny_recipe(**QUICK))]
    with pytest.raises(CohortError, match="normal: 5 images"):
        run_grid(runs, tmp_path / "b", workers=0)
    file = Path(setting.data) / "data.json"
    split = json.loads(file.read_text())
    split["train"]["unlabeled"] = {"0": [], "1": []}
    file.write_text(json.dumps(split))
    runs = [Run(setting, tiny_recipe(**QUICK)), Run(setting, tiny_recipe(detector="normal-vs-unlabeled", holdout=0))]
    with pytest.raises(CohortError, match="detector normal-vs-unlabeled needs them"):
        run_grid(runs, tmp_path / "b", workers=0)
    assert not (tmp_path / "b").exists()


def test_what_another_process_does_is_left_to_it_and_waited_for(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Run(setting, tiny_recipe(seed=seed, **QUICK)) for seed in (0, 1)]
    run_grid(runs[:1], tmp_path / "elsewhere", workers=0)
    (file,) = stored(tmp_path / "elsewhere")
    folder = tmp_path / "b" / "runs"
    folder.mkdir(parents=True)
    monkeypatch.setattr(grid_module, "_SECONDS_BETWEEN_LOOKS", 0.05)
    progress = RecordedProgress()
    order: list[str] = []

    def work() -> None:
        order.extend(
            record["cells"][0]["score"] for record in run_grid(runs, tmp_path / "b", workers=0, progress=progress)
        )

    lock = folder / f".{file.stem}.lock"
    thread = threading.Thread(target=work)
    with locked(lock) as mine:
        assert mine
        thread.start()
        assert wait_for(lambda: len(list(folder.glob("*-seed1-*.json"))) == 1)
        time.sleep(0.2)
        assert thread.is_alive()
        shutil.copy(file, folder / file.name)
        stamp = (folder / file.name).stat().st_mtime_ns
    thread.join(30)
    assert order == ["image", "image"]
    assert (folder / file.name).stat().st_mtime_ns == stamp
    assert "another process is at it: left for later" in progress.messages
