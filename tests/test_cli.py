from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

import ddad
from ddad import Cohort, Model, Recipe, recalibration
from ddad.cohorts.phantom_cohort import write_phantom
from ddad.detectors import DETECTORS
from ddad.detectors import ddad_training as detector_module
from ddad.errors import CohortError
from ddad.experiments import grid as grid_module
from ddad.experiments.published import BENCHMARKS
from ddad.files import MARKER
from ddad.report import findings as findings_module
from ddad.training.device import Compute
from support import TINY as TINY_SETTINGS
from support import (
    TINY_RIVALS,
    Outcome,
    contents,
    run_cli,
    small_disk,
    tiny_options,
    tiny_recipe,
    wait_for,
    write_images,
)

Run = Callable[..., Outcome]
SCORES = ["rec", "rec_ensemble", "a_intra", "a_inter", "r_intra", "r_dual"]
TINY = tiny_options(reconstruction__members=2)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("données de tête") / "fantômes 1"
    write_phantom(
        folder, normals=12, unlabeled_normals=4, unlabeled_abnormals=4, test_normals=4, test_abnormals=4, size=64
    )
    return folder


@pytest.fixture(scope="module")
def model(phantom: Path) -> Path:
    folder = phantom.parent / "Modèle ü 1"
    cohort = Cohort.from_folders(normal=phantom / "normal", unlabeled=phantom / "unlabeled")
    ddad.fit(cohort, tiny_recipe(reconstruction__members=2), out=folder, workers=0)
    return folder


@pytest.fixture(scope="module")
def benchmark(phantom: Path) -> Path:
    """The phantoms in the form of the paper's benchmarks."""
    folder = phantom.parent / "benchmark é"
    (folder / "images").mkdir(parents=True)
    names: dict[str, list[str]] = {}
    for role in ("normal", "unlabeled", "test_normal", "test_abnormal"):
        for path in sorted((phantom / role).iterdir()):
            names.setdefault(role, []).append(f"{role}-{path.name}")
            shutil.copy(path, folder / "images" / names[role][-1])
    split: dict[str, Any] = {
        "train": {"0": names["normal"], "unlabeled": {"0": names["unlabeled"][:4], "1": names["unlabeled"][4:]}},
        "test": {"0": names["test_normal"], "1": names["test_abnormal"]},
    }
    (folder / "data.json").write_text(json.dumps(split))
    split["test"]["1"] = []
    (folder / "no test.json").write_text(json.dumps(split))
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `ddad` in this process; a message of an error must be for a user."""

    def go(*arguments: str | Path) -> Outcome:
        outcome = run_cli(monkeypatch, capsys, *arguments)
        assert "Traceback" not in outcome.err
        return outcome

    return go


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train here instead of in processes, which take seconds to start."""
    run_jobs = detector_module.run_jobs
    monkeypatch.setattr(
        detector_module,
        "run_jobs",
        lambda jobs, *, workers, **rest: run_jobs(jobs, workers=0, **rest),  # noqa: ARG005
    )


def flat(text: str) -> str:
    """Messages may be broken into lines."""
    return "".join(text.split())


def findings(folder: Path) -> list[dict[str, str]]:
    with (folder / "findings.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refused(outcome: Outcome, *parts: object) -> None:
    """An error of the user's: exit code 1, nothing on standard output, and every part in the message."""
    assert outcome.code == 1, outcome.err
    assert outcome.out == ""
    assert any(line.startswith("error: ") for line in outcome.err.splitlines())
    for part in parts:
        assert flat(str(part)) in flat(outcome.err)


# What each verb does.


def test_version_and_help(run: Run) -> None:
    assert run("--version").out.strip() == f"ddad {ddad.__version__}"
    text = run("--help").out
    for verb in ("demo", "fit", "score", "evaluate", "benchmark", "fields"):
        assert verb in text
    assert run().code in (0, 2)


def test_help_shows_no_value_beside_a_switch_and_says_what_is_repeatable(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    texts = {verb: run(verb, "--help").out for verb in ("fit", "score", "benchmark")}
    for text in (run("--help").out, *texts.values()):
        assert "--help" in text
        assert "bool" not in text.lower()
    for option in ("--normal", "--unlabeled", "--abnormal", "--test-normal", "--test-abnormal"):
        (line,) = (line for line in texts["fit"].splitlines() if line.startswith(f"│ {option} "))
        assert "Repeatable." in line
    assert flat("the published rate (0.6) for the named data sets") in flat(texts["benchmark"].replace("│", " "))


def test_help_and_the_import_of_ddad_do_not_load_torch() -> None:
    code = (
        "import sys, ddad, ddad.cli.app; sys.argv = ['ddad', '--help']\n"
        "try: ddad.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = [m for m in ('torch', 'pandas', 'matplotlib', 'sklearn', 'scipy') if m in sys.modules]\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_fit_in_processes_then_score_as_installed(phantom: Path, tmp_path: Path) -> None:
    """The commands of the issue, each in a process of its own."""
    out, scores = tmp_path / "mon modèle", tmp_path / "wyniki ó"
    fit_it = [
        "fit",
        "--normal",
        phantom / "normal",
        "--unlabeled",
        phantom / "unlabeled",
        "--out",
        out,
        *TINY,
        "--json",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def ddad_command(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ddad", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    fitted = ddad_command(*fit_it, "--workers", "2")
    assert fitted.returncode == 0, fitted.stderr
    assert json.loads(fitted.stdout)["model"] == str(out)
    assert "reconstruction networks" in fitted.stderr
    scored = ddad_command("score", out, phantom / "test_normal", "--out", scores, "--json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["scored"] == 4
    assert names(tmp_path) == {out.name, scores.name}


@pytest.mark.usefixtures("in_this_process")
def test_fit_says_what_it_saw(run: Run, phantom: Path, tmp_path: Path) -> None:
    done = run(
        "fit", "--normal", phantom / "normal", "--unlabeled", phantom / "unlabeled", "--out", tmp_path / "m", *TINY,
        "--backbone", "memae", "--image-size", 32, "--members", 2, "--seed", 7, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    card = done.json
    assert (card["seed"], card["primary_score"]) == (7, "r_dual")
    assert card["cohort"]["normal"] + card["cohort"]["held_out_normal"] == 12
    assert card["cohort"]["unlabeled"] == 8
    recipe = Model.load(tmp_path / "m").recipe
    expected = {"backbone": "memae", "members": 2}
    assert {name: getattr(recipe.reconstruction, name) for name in expected} == expected
    assert (recipe.images.image_size, recipe.seed, recipe.precision) == (32, 7, "fp32")
    assert names(tmp_path) == {"m"}


@pytest.mark.usefixtures("in_this_process")
def test_fit_on_a_manifest_and_on_a_benchmark_folder(run: Run, phantom: Path, benchmark: Path, tmp_path: Path) -> None:
    by_manifest = run("fit", "--manifest", phantom / "manifest.csv", "--out", tmp_path / "a", *TINY, "--json")
    assert by_manifest.json["cohort"]["unlabeled"] == 8
    assert "digests" not in by_manifest.json["cohort"]  # thousands of lines that nobody reads
    by_data = run("fit", "--data", benchmark, "--anomaly-rate", 0.2, "--out", tmp_path / "b", *TINY, "--json")
    assert by_data.json["cohort"]["unlabeled"] == 5


@pytest.mark.usefixtures("in_this_process")
def test_fit_takes_a_recipe_file(run: Run, phantom: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(reconstruction__members=2, seed=5)
    (tmp_path / "mein Rezept.json").write_text(recipe.to_json())
    normal = phantom / "normal"
    done = run("fit", "--normal", normal, "--out", tmp_path / "m", "--recipe", tmp_path / "mein Rezept.json")
    assert done.code == 0, done.err
    assert Model.load(tmp_path / "m").recipe == recipe


@pytest.mark.usefixtures("in_this_process")
def test_the_name_of_the_model_is_shown_as_it_is(run: Run, phantom: Path, tmp_path: Path) -> None:
    """Square brackets are letters of a name, not of a markup."""
    out = tmp_path / "model [v2] [bold]"
    done = run("fit", "--normal", phantom / "normal", "--out", out, *TINY)
    assert done.code == 0, done.err
    assert flat(str(out)) in flat(done.err)


def test_score_writes_a_row_for_each_image(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "résultats 1"
    done = run("score", model, phantom / "test_normal", phantom / "test_abnormal" / "00001.png", "--out", out, "--json")
    assert done.code == 0, done.err
    calibration = Model.load(model).calibration
    assert calibration is not None
    assert done.json == {
        "findings": str(out / "findings.csv"),
        "score": "r_dual",
        "scored": 5,
        "calibration": json.loads(json.dumps(calibration.summary())),
        "flagged": None,  # too few normals are held out: 0 would read as all normal
        "discovered": None,
        "skipped": [],
        "passed_over": [],
    }
    assert names(out) == {"findings.csv", "findings.parquet", "run.json", ".ddad"}
    rows = findings(out)
    assert list(rows[0])[:4] == ["path", "score", "p_value", "flagged"]
    assert set(SCORES) <= set(rows[0])
    paths = [*sorted((phantom / "test_normal").iterdir()), phantom / "test_abnormal" / "00001.png"]
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    for row, finding in zip(rows, Model.load(model).score(paths), strict=True):
        assert float(row["score"]) == pytest.approx(finding.score, rel=1e-6)
        assert row["score"] == row["r_dual"]
        assert float(row["p_value"]) == pytest.approx(calibration.p_value(finding.score))
        assert row["flagged"] == ""
        assert (row["rows"], row["columns"]) == ("64", "64")
    table = pd.read_parquet(out / "findings.parquet")
    assert list(table.columns) == list(rows[0])
    assert table["path"].tolist() == [row["path"] for row in rows]
    assert table["score"].tolist() == pytest.approx([float(row["score"]) for row in rows])


def test_a_model_is_calibrated_with_other_normals_and_flags_by_them(
    run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.ddad"
    shutil.copytree(model, own)
    weights = (own / "weights.safetensors").read_bytes()
    done = run("calibrate", own, "--normal", phantom / "test_normal", "--false-alarm-rate", "0.4", "--json")
    assert done.code == 0, done.err
    count = len(list((phantom / "test_normal").iterdir()))
    assert (done.json["images"], done.json["false_alarm_rate"]) == (count, 0.4)
    assert (own / "weights.safetensors").read_bytes() == weights

    rate = str(done.json["lowest_p_value"])
    done = run("score", own, phantom / "test_abnormal", "--out", tmp_path / "s", "--false-alarm-rate", rate,
               "--false-discovery-rate", "0.9", "--json")  # fmt: skip
    assert done.code == 0, done.err
    line = done.json["calibration"]["flagged_above"]
    rows = findings(tmp_path / "s")
    assert done.json["flagged"] == sum(row["flagged"] == "True" for row in rows)
    assert [row["flagged"] for row in rows] == [str(float(row["score"]) > line) for row in rows]
    batch = pd.read_csv(tmp_path / "s" / "discoveries.csv")
    assert batch["path"].tolist() == [row["path"] for row in rows]
    assert batch["discovered"].sum() == done.json["discovered"] == (batch["q_value"] <= 0.9).sum()
    done = run("score", own, phantom / "test_abnormal" / "00001.png", "--out", tmp_path / "t",
               "--false-discovery-rate", "0.001")  # fmt: skip
    assert flat("no image can be taken at a false discovery rate of 0.1 %") in flat(done.err)
    assert pd.read_csv(tmp_path / "t" / "discoveries.csv")["discovered"].isna().all()
    assert run("calibrate", own, "--false-alarm-rate", "0.3").code == 0
    assert Model.load(own).calibration.false_alarm_rate == 0.3  # type: ignore[union-attr]
    done = run("calibrate", own, "--normal", phantom / "test_normal", "--json")
    assert done.json["false_alarm_rate"] == 0.3


def test_a_threshold_set_by_hand_gives_way_to_other_normals_with_a_warning(
    run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.ddad"
    shutil.copytree(model, own)
    file = own / "calibration.json"
    file.write_text(file.read_text().replace('"threshold": null', '"threshold": 1.5'))
    done = run("calibrate", own, "--normal", phantom / "test_normal")
    assert flat("the threshold 1.5, set by hand, gave way to the rate") in flat(done.err)
    assert Model.load(own).calibration.threshold is None  # type: ignore[union-attr]
    file.write_text("{")
    done = run("calibrate", own, "--normal", phantom / "test_normal", "--json")
    assert done.json["false_alarm_rate"] == 0.05
    assert flat("a calibration that cannot be read is replaced") in flat(done.err)


def test_the_precision_of_a_scoring_run_is_recorded(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    """That of the fit stays beside it, so that a calibration in another precision can be told."""
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        command = ["score", model, phantom / "test_normal", "--out", out, "--device", "cpu", "--precision", precision]
        assert run(*command).code == 0
        content = json.loads((out / "run.json").read_text())
        assert content["scoring"] == {"device": "cpu", "precision": precision}
        assert content["model"]["compute"]["precision"] == "fp32"


def test_the_precision_of_an_evaluation_is_recorded(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    tested = ("--test-normal", phantom / "test_normal", "--test-abnormal", phantom / "test_abnormal", "--out", out)
    done = run("evaluate", model, *tested, "--device", "cpu", "--precision", "bf16")
    assert done.code == 0
    assert flat(f"Written to {out}. Next: ddad report {out}") in flat(done.err)
    assert json.loads((out / "run.json").read_text())["scoring"] == {"device": "cpu", "precision": "bf16"}


def test_nothing_that_is_read_is_overwritten(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    """Folders that `ddad` wrote may be replaced, but not by a command that reads from them."""
    data = shutil.copytree(phantom, tmp_path / "data")
    own = shutil.copytree(model, data / "model")
    (data / MARKER).touch()
    tested = ("--test-normal", data / "test_normal", "--test-abnormal", data / "test_abnormal")
    commands = [
        ("score", own, phantom / "test_normal", "--out", own),
        ("score", own, phantom / "test_normal", "--out", own / "scores"),
        ("score", own, phantom / "test_normal", "--out", tmp_path / "scores", "--dicom-results", data),
        ("evaluate", own, *tested, "--out", own),
        ("evaluate", model, *tested, "--out", data / "test_normal" / "evaluation"),
        ("evaluate", model, *tested, "--out", data),
        ("fit", "--normal", data / "normal", "--out", data),
        ("fit", "--normal", data / "normal", "--out", data / "normal" / "model"),
    ]
    before = contents(data)
    for command in commands:
        done = run(*command, "--overwrite")
        assert done.code == 1, command
        assert flat("which is read") in flat(done.err)
    assert contents(data) == before


@pytest.mark.parametrize("rate", ["0", "2"])
def test_a_rate_that_is_no_share_stops_a_calibration_before_any_image_is_read(
    rate: str, run: Run, model: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recalibration, "decode", None)
    done = run("calibrate", model, "--normal", phantom / "test_normal", "--false-alarm-rate", rate)
    refused(done, f"--false-alarm-rate {rate}")


def test_a_model_is_used_in_the_precision_of_its_recipe_unless_told_otherwise(
    run: Run, model: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    choose = Compute.choose
    monkeypatch.setattr(Compute, "choose", lambda device, precision: asked.append(precision) or choose(device, "fp32"))
    own = shutil.copytree(model, tmp_path / "own.ddad")
    test = ["--test-normal", phantom / "test_normal", "--test-abnormal", phantom / "test_abnormal"]
    for options in (
        ["score", own, phantom / "test_normal", "--out", tmp_path / "s", "--overwrite"],
        ["evaluate", own, *test],
        ["calibrate", own, "--normal", phantom / "test_normal"],
    ):
        for given, wanted in (([], "fp32"), (["--precision", "auto"], "auto")):
            asked.clear()
            done = run(*options, *given)
            assert done.code == 0, done.err
            assert set(asked) == {wanted}


def test_what_cannot_calibrate_is_refused(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.ddad"
    shutil.copytree(model, own)
    (own / "calibration.json").write_text("{")
    refused(run("score", own, phantom / "test_normal", "--out", tmp_path / "s"), "calibration.json: damaged")
    refused(run("calibrate", own, "--false-alarm-rate", "0.1"), "calibration.json: damaged")
    refused(run("calibrate", own, "--normal", phantom / "normal"), "no normal image is left to calibrate by")
    (own / "calibration.json").unlink()
    refused(run("calibrate", own), "nothing to calibrate by")
    for option in ("--false-alarm-rate", "--false-discovery-rate"):
        refused(run("score", own, phantom / "test_normal", "--out", tmp_path / "s", option, "0.1"), "not calibrated")
    done = run("score", own, phantom / "test_normal", "--out", tmp_path / "s")
    assert flat("p_value and flagged are empty") in flat(done.err)
    assert {(row["p_value"], row["flagged"]) for row in findings(tmp_path / "s")} == {("", "")}


def test_scores_and_heat_maps_do_not_change_with_the_other_images(
    run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    """Heat maps share one scale: an image's picture is the same, whatever stands beside it."""
    alone, noise = phantom / "test_normal" / "00002.png", tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(noise)
    run("score", model, alone, "--out", tmp_path / "a", "--heatmaps")
    run("score", model, noise, alone, phantom / "test_abnormal", "--out", tmp_path / "b", "--heatmaps")
    (first,) = findings(tmp_path / "a")
    strange, second, *_ = findings(tmp_path / "b")
    differ = {name for name in first if first[name] != second[name]}
    assert differ == {"heatmap", "overlay"}
    for picture in ("heatmap", "overlay"):
        same = (tmp_path / "a" / first[picture]).read_bytes()
        assert (tmp_path / "b" / second[picture]).read_bytes() == same
        assert (tmp_path / "b" / strange[picture]).read_bytes() != same


def test_heat_maps_and_overlays_are_pictures_of_the_images_size(
    run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    wide = tmp_path / "large é [1].png"
    Image.fromarray(np.arange(300 * 400, dtype=np.uint32).astype(np.uint8).reshape(300, 400)).save(wide)
    done = run("score", model, wide, phantom / "test_abnormal", "--out", tmp_path / "o", "--heatmaps")
    assert done.code == 0, done.err
    rows = findings(tmp_path / "o")
    listed = {row[picture] for row in rows for picture in ("heatmap", "overlay")}
    assert listed == {f"{kind}/{name}" for kind in ("heatmaps", "overlays") for name in names(tmp_path / "o" / kind)}
    assert len(listed) == 10
    with Image.open(tmp_path / "o" / rows[0]["overlay"]) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (400, 300))
    with Image.open(tmp_path / "o" / rows[1]["heatmap"]) as picture:
        assert picture.width == picture.height >= 64
    assert "large" in rows[0]["heatmap"]


@pytest.fixture(scope="module")
def evaluated(model: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    from ddad.experiments.evaluation import evaluate, write_evaluation

    out = tmp_path_factory.mktemp("reference") / "evaluation"
    cohort = Cohort.from_folders(
        test_normal=phantom / "test_normal", test_abnormal=phantom / "test_abnormal", test_masks=phantom / "masks"
    )
    evaluation = evaluate(Model.load(model), cohort)
    write_evaluation(evaluation, out)
    return out, evaluation.to_json()


def test_evaluate_measures_every_score_and_map(
    run: Run, model: Path, phantom: Path, tmp_path: Path, evaluated: tuple[Path, dict[str, Any]]
) -> None:
    out = tmp_path / "évaluation"
    done = run(
        "evaluate", model, "--test-normal", phantom / "test_normal", "--test-abnormal", phantom / "test_abnormal",
        "--test-masks", phantom / "masks", "--out", out, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = done.json
    assert result == evaluated[1]
    assert (result["test_normal"], result["test_abnormal"], result["skipped"]) == (4, 4, [])
    assert list(result["images"]) == list(result["pixels"])
    assert set(result["images"]) == set(SCORES)
    for metrics in result["images"].values():
        for metric in ("auc", "ap"):
            assert 0 <= metrics[metric]["low"] <= metrics[metric]["estimate"] <= metrics[metric]["high"] <= 1
    for metrics in result["pixels"].values():
        assert {"ap", "auroc", "aupro", "best_dice"} <= set(metrics)
    assert names(out) == {"evaluation.json", "scores.csv", "run.json", ".ddad"}
    assert json.loads((out / "evaluation.json").read_text()) == result
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", *result["images"]]
    assert [row["label"] for row in rows] == ["0"] * 4 + ["1"] * 4
    wins = [float(b["a_inter"]) > float(a["a_inter"]) for a in rows[:4] for b in rows[4:]]
    assert result["images"]["a_inter"]["auc"]["estimate"] == pytest.approx(np.mean(wins))


def test_patients_of_a_manifest_stand_behind_the_intervals(
    run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    done = run("evaluate", model, "--manifest", phantom / "manifest.csv", "--out", tmp_path / "e", "--json")
    assert done.code == 0, done.err
    assert (done.json["test_normal"], done.json["test_abnormal"], done.json["test_groups"]) == (4, 4, 4)
    assert pd.read_csv(tmp_path / "e" / "scores.csv")["group"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert flat("the 4 normal test images are of 2 groups") in flat(done.err)


def test_evaluate_without_masks_has_no_pixel_metrics(run: Run, model: Path, benchmark: Path) -> None:
    done = run("evaluate", model, "--data", benchmark)
    assert done.code == 0, done.err
    assert "pixel" not in done.out
    for score in SCORES:
        assert f"| {score} |" in done.out


@pytest.mark.usefixtures("in_this_process")
def test_benchmark_custom_gives_a_cell_for_each_seed_and_score(run: Run, benchmark: Path, tmp_path: Path) -> None:
    out = tmp_path / "Tabellen é"
    options = ["benchmark", "custom", "--data", benchmark, "--seeds", 2, "--out", out, *TINY]
    done = run(*options, "--backbones", "ae", "--backbone", "ae-u", "--json")
    assert done.code == 0, done.err
    assert set(done.json) == {"cells"}
    cells = done.json["cells"]
    assert [(cell["backbone"], cell["seed"], cell["score"]) for cell in cells] == [
        (backbone, seed, score) for backbone in ("ae", "ae-u") for seed in (0, 1) for score in SCORES
    ]
    keys = {"dataset", "split", "method", "backbone", "score", "seed", "auc", "ap", "auc_paper", "ap_paper", "seconds"}
    for cell in cells:
        assert keys <= set(cell)
        assert (cell["split"], cell["method"]) == ("data.json", "ddad")
        assert 0 <= cell["auc"] <= 100
        assert 0 <= cell["ap"] <= 100
        assert cell["seconds"] > 0
        assert cell["auc_paper"] is None
    with (out / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(cells)
    assert "R_dual" in (out / "results.md").read_text()
    assert not list(out.rglob("*.model*"))

    times = {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    again = run(*options, "--backbone", "ae", "--json")
    assert again.json["cells"] == cells[:12]
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()} == times


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("verb", "table"),
    [(["benchmark", "custom", "--seeds", 2], "results.csv"), (["sweep", "latent-size", "--seeds", 2], "sweep.csv")],
)
def test_tables_of_the_finished_runs_are_written_when_a_run_fails(
    verb: list[str | Path], table: str, run: Run, benchmark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = grid_module.run_once
    seen: list[str] = []
    text = tmp_path / "b" / Path(table).with_suffix(".md")

    def failing(cohort: Cohort, recipe: Recipe, *rest: Any) -> dict[str, Any]:
        if recipe.seed == 1:
            seen.append(text.read_text())  # what a kill would leave
            raise CohortError("normal: only 3 usable images")
        return once(cohort, recipe, *rest)

    monkeypatch.setattr(grid_module, "run_once", failing)
    settings = tiny_options(detector="ae", reconstruction__ndm_epochs=1)
    methods = ["--methods", "ae", *(["--value", "1"] if verb[0] == "sweep" else [])]
    done = run(*verb, *methods, "--data", benchmark, "--out", tmp_path / "b", "--json", *settings)
    refused(done, "only 3 usable images", "1 of 2 runs that are finished")
    assert len(pd.read_csv(tmp_path / "b" / table)) == 1
    assert "**1 of 2 runs are done.** Intervals over all runs, and tests, are computed when all are." in seen[0]
    assert "**1 of 2 runs are done.**\n" in text.read_text()
    assert "skipped" not in seen[0]


@pytest.mark.usefixtures("in_this_process")
def test_a_known_benchmark_stands_beside_the_papers_figures(
    run: Run, benchmark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["benchmark", "brain-tumor", "--data", benchmark, "--seeds", 1, "--out", tmp_path / "b", *TINY]
    assert (
        "because of the normal images: 10, in the paper 1000"
        in run(*options).out + (tmp_path / "b" / "results.md").read_text()
    )  # two are held out
    options += ["--set", "holdout=0"]
    cells = run(*options, "--json").json["cells"]
    assert {cell["auc_paper"] for cell in cells} == {None}  # other images than the paper's
    text = (tmp_path / "b" / "results.md").read_text()
    assert "because of the normal images: 12, in the paper 1000" in text
    assert text.splitlines()[0] == "# brain-tumor, data.json, recipe fast, 8 settings changed"
    (changed,) = [line for line in text.splitlines() if line.startswith("- unlike the recipe: ")]
    assert "reconstruction.members 2," in changed
    # Of 4 + 4 unlabeled images, 3 + 4 make the published rate of 60 %.
    counts = {"normal": 12, "unlabeled": 7, "test": (4, 4), "anomaly_rate": 4 / 7}
    monkeypatch.setitem(BENCHMARKS, "brain-tumor", replace(BENCHMARKS["brain-tumor"], **counts))
    shutil.rmtree(tmp_path / "b")
    done = run(*options)
    assert done.code == 0, done.err
    methods, scores = done.out.split("(Table 3)")
    rows = {line.split("|")[1].strip(): line for line in scores.splitlines() if line.startswith("| ")}
    assert list(rows) == ["Score", "Rec.", "Rec. (ensemble)", "A_intra", "A_inter", "R_intra", "R_dual"]
    for title, auc in zip(list(rows)[1:], ("94.0", "93.3", "84.5", "97.1", "94.2", "97.2"), strict=True):
        assert rows[title].endswith(f"| {auc} |")
    (dual,) = [line for line in methods.splitlines() if "| yes | DDAD (AE-U) | R_dual |" in line]
    assert "| 97.2 |" in dual
    assert "| 95.2 |" in dual
    other = json.loads((benchmark / "data.json").read_text())
    (benchmark / "other.json").write_text(json.dumps(other))
    options = ["--data", benchmark, "--split", "other.json", "--seeds", 1, "--out", tmp_path / "b", *TINY, "--json"]
    cells = run("benchmark", "brain-tumor", *options).json["cells"]
    assert {cell["auc_paper"] for cell in cells} == {None}
    assert {cell["split"] for cell in cells} == {"other.json"}


@pytest.mark.usefixtures("in_this_process")
def test_backbones_that_no_method_is_given_are_told(run: Run, benchmark: Path, tmp_path: Path) -> None:
    options = ["benchmark", "custom", "--data", benchmark, "--methods", "ae", "--seeds", 1, *TINY]
    told = "--backbones memae has no effect: it is for the method ddad, which is not among --methods."
    assert flat(told) in flat(run(*options, "--backbones", "memae", "--out", tmp_path / "b").err)
    assert "has no effect" not in run(*options, "--out", tmp_path / "b").err


@pytest.mark.parametrize("verb", [("benchmark", "custom"), ("sweep", "members")])
def test_results_are_not_written_among_the_images(run: Run, benchmark: Path, verb: tuple[str, str]) -> None:
    there = set(benchmark.rglob("*"))
    for out in (benchmark, benchmark / "images" / "b"):
        refused = run(*verb, "--data", benchmark, "--out", out, *TINY)
        assert refused.code == 1
        assert "is the benchmark folder" in refused.err
    assert set(benchmark.rglob("*")) == there


@pytest.mark.usefixtures("in_this_process")
def test_rivals_stand_in_the_same_table(run: Run, benchmark: Path, tmp_path: Path) -> None:
    options = ["benchmark", "custom", "--data", benchmark, "--seeds", 1, "--out", tmp_path / "b", *TINY]
    options += [part for name, value in TINY_RIVALS.items() for part in ("--set", f"{name}={value}")]
    cells = run(*options, "--methods", "all", "--json").json["cells"]
    assert [(cell["method"], cell["backbone"], cell["score"]) for cell in cells] == [
        *(("ddad", "ae-u", score) for score in SCORES),
        *(
            (method, None, "image")
            for method in (
                "ae",
                "memae",
                "ganomaly",
                "cutpaste",
                "draem",
                "f-anogan",
                "igd",
                "ae-u",
                "vae",
                "fpi",
                "pii",
                "normal-vs-unlabeled",
                "ddad+",
            )
        ),
    ]
    out = run(*options, "--methods", "all").out
    assert "| yes | Normal vs unlabeled |" in out
    assert "| no | DDAD (AE-U) | R_intra |" in out
    with (tmp_path / "b" / "comparisons.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    contenders = len(DETECTORS) + 1  # of DDAD two scores
    assert [row["family"] for row in pairs].count("methods") == contenders * (contenders - 1) / 2
    assert [row["family"] for row in pairs].count("scores of AE-U") == 15
    assert "significantly better than" in (tmp_path / "b" / "results.md").read_text()
    single = next(cell for cell in cells if cell["score"] == "rec")
    assert next(cell for cell in cells if cell["method"] == "ae-u")["auc"] == single["auc"]
    some = run(*options, "--methods", "ae, vae", "--methods", "fpi", "--json").json["cells"]
    assert [cell["method"] for cell in some] == ["ae", "vae", "fpi"]
    refused = run(*options, "--methods", "svm")
    assert refused.code == 1
    assert "--methods svm" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sweep anomaly-rate --data b --anomaly-rate 0.3", "--anomaly-rate 0.3: sweep anomaly-rate varies it"),
        ("benchmark custom --data b --methods ae,", "--methods ae,: a value is missing beside a comma."),
        ("sweep members --data b --value 1,,2", "--value 1,,2: a value is missing beside a comma."),
        ("sweep members --data b --backbones=", "--backbones: is empty."),
        ("fields --set member=3", "unknown field 'member'. Did you mean 'reconstruction.members' or"),
        ("fields --set trimming=3", "'trimming'. That is a section, with trimming.trusted,"),
        ("fields --set zzz.zz=3", "unknown field 'zzz.zz'. ddad fields lists all."),
        ("sweep members --data b --members 4", "--members 4: sweep members varies it"),
        ("evaluate m --test-normal n --test-abnormal a --split other.json", "--split: goes with --data"),
        ("calibrate m --false-alarm-rate 0.1 --slices middle", "--slices, --volume: go with --normal"),
        ("figures results --data b --test-masks k", "--test-masks, --data: goes with --model"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(run: Run, arguments: str, message: str) -> None:
    refused(run(*arguments.split()), message)


def test_values_of_a_sweep_are_numbers(run: Run, benchmark: Path, tmp_path: Path) -> None:
    options = ["sweep", "members", "--data", benchmark, "--out", tmp_path / "s"]
    refused(run(*options, "--value", "1,two"), "--value two: give a number")
    refused(run(*options, "--value", "1,2.5"), "--value 2.5: members takes whole numbers")


@pytest.mark.usefixtures("in_this_process")
def test_a_run_is_found_again_after_a_recipe_field_was_added(run: Run, benchmark: Path, tmp_path: Path) -> None:
    options = ["benchmark", "custom", "--data", benchmark, "--seeds", 1, "--out", tmp_path / "b", *TINY, "--json"]
    cells = run(*options).json["cells"]
    (file,) = (tmp_path / "b" / "runs").glob("*.json")
    record = json.loads(file.read_text())
    del record["recipe"]["detector"]
    file.write_text(json.dumps(record))
    assert run(*options).json["cells"] == cells
    assert len(list((tmp_path / "b" / "runs").glob("*.json"))) == 1


@pytest.mark.usefixtures("in_this_process")
def test_a_benchmark_fits_on_all_normals_unless_told_otherwise(run: Run, benchmark: Path, tmp_path: Path) -> None:
    options = ["benchmark", "custom", "--data", benchmark, "--seeds", 1, "--out", tmp_path / "b"]
    settings = {name: value for name, value in TINY_SETTINGS.items() if name != "holdout"}
    for changes, held in ((settings, 0), (settings | {"holdout": 0.2}, 2)):
        done = run(*options, *(part for name, value in changes.items() for part in ("--set", f"{name}={value}")))
        assert done.code == 0, done.err
        newest = max((tmp_path / "b" / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        assert json.loads(newest.read_text())["counts"]["held_out_normal"] == held
    for name, written, held in (("silent", settings, 0), ("says", settings | {"holdout": 0.2}, 2)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"preset_name": "fast", **written}))
        done = run(*options[:-1], tmp_path / name, "--recipe", tmp_path / f"{name}.json")
        assert done.code == 0, done.err
        (stored,) = (tmp_path / name / "runs").glob("*.json")
        assert json.loads(stored.read_text())["counts"]["held_out_normal"] == held


def test_fields_lists_every_field_that_can_be_set(run: Run) -> None:
    assert Recipe.model_validate(run("fields", "--json").json) == Recipe()
    assert Recipe.model_validate(run("fields", "--recipe", "paper", "--json").json) == Recipe.preset("paper")
    changed = run("fields", "--set", "synthesis.half_width=[0.1, 0.3]", "--json").json
    assert Recipe.model_validate(changed) == Recipe().changed({"synthesis.half_width": [0.1, 0.3]})
    text = flat(run("fields").out)
    for name in Recipe().field_names():
        assert name in text


@pytest.mark.usefixtures("in_this_process")
def test_the_demo_leaves_a_whole_example(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = dict.fromkeys(("normals", "unlabeled_normals", "unlabeled_abnormals", "test_normals", "test_abnormals"), 3)
    monkeypatch.setattr("ddad.demo._COUNTS", counts | {"normals": 12})
    shorter = {"reconstruction.ndm_epochs": 1, "reconstruction.udm_epochs": 1, "refinement.epochs": 1}
    monkeypatch.setattr("ddad.demo._SHORTER", shorter | {"images.image_size": 16, "refinement.width": 8})
    out = tmp_path / "démo"
    done = run("demo", "--out", out, "--json")
    assert done.code == 0, done.err
    assert set(done.json["pixels"]) == set(SCORES)
    rows = findings(out / "scores")
    assert len(rows) == 6
    assert all(Path(row["path"]).is_file() for row in rows)
    assert all((out / "scores" / row["overlay"]).is_file() for row in rows)
    Model.load(out / "model")
    assert "r_dual" in (out / "results.md").read_text()
    before = contents(out)
    refused(run("demo", "--out", out), out, "--overwrite")
    assert contents(out) == before
    assert names(tmp_path) == {"démo"}


# What bad input gets.


@pytest.fixture
def bad_images(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "schlechte Bilder"
    (good,) = write_images(folder, 1)
    bad = {name: folder / f"{name}.png" for name in ("truncated", "garbage", "empty", "constant")}
    bad["truncated"].write_bytes(good.read_bytes()[:-30])
    bad["garbage"].write_bytes(b"hello")
    bad["empty"].touch()
    Image.new("L", (20, 20), 9).save(bad["constant"])
    bad["nan"] = folder / "nan.tiff"
    pixels = np.random.default_rng(0).random((20, 20), np.float32)
    pixels[3, 4] = np.nan
    tifffile.imwrite(bad["nan"], pixels)
    good.rename(tmp_path / "good.png")
    return bad


def test_files_that_cannot_be_scored_are_named_and_the_rest_is_scored(
    run: Run, model: Path, phantom: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    folder = bad_images["nan"].parent
    done = run("score", model, folder, phantom / "test_normal", "--out", tmp_path / "o", "--json")
    assert done.code == 3
    assert done.json["scored"] == 4
    skipped = {Path(image["path"]).stem: image["reason"] for image in done.json["skipped"]}
    assert set(skipped) == set(bad_images)
    assert "constant" in skipped["constant"]
    assert "NaN" in skipped["nan"]
    for path in bad_images.values():
        assert flat(str(path)) in flat(done.err)
    with (tmp_path / "o" / "skipped.csv").open(newline="", encoding="utf-8") as file:
        assert {row["path"]: row["reason"] for row in csv.DictReader(file)} == {
            image["path"]: image["reason"] for image in done.json["skipped"]
        }


@pytest.mark.usefixtures("in_this_process")
def test_files_that_cannot_be_fitted_are_named_and_the_rest_is_fitted(
    run: Run, phantom: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    folder = bad_images["nan"].parent
    done = run("fit", "--normal", phantom / "normal", "--unlabeled", folder, "--out", tmp_path / "m", *TINY)
    refused(done, "unlabeled", bad_images["constant"])
    done = run("fit", "--normal", phantom / "normal", "--normal", folder, "--out", tmp_path / "n", *TINY, "--json")
    assert done.code == 3
    assert len(done.json["cohort"]["skipped"]) >= 4
    assert "skipped" in done.err


@pytest.mark.usefixtures("in_this_process")
def test_a_name_that_is_not_utf8_is_skipped_by_every_verb(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(phantom / "test_normal", folder)
    shutil.copy(min(folder.iterdir()), folder / os.fsdecode(b"caf\xe9.png"))
    own = shutil.copytree(model, tmp_path / "own.ddad")
    reason = flat("caf\\udce9.png: its name is not UTF-8")
    scored = ["score", model, folder, "--out", tmp_path / "s"]
    test = ["evaluate", model, "--test-normal", folder, "--test-abnormal", phantom / "test_abnormal"]
    audited = ["audit", "--normal", folder, "--out", tmp_path / "audit.html"]
    for options in (scored, test, audited, ["calibrate", own, "--normal", folder], ["inspect", folder]):
        done = run(*options)
        assert done.code == 3, done.err
        assert reason in flat(done.err)
    fitted = run("fit", "--normal", phantom / "normal", "--unlabeled", folder, "--out", tmp_path / "m", *TINY)
    assert fitted.code == 3, fitted.err
    assert reason in flat(fitted.err)
    assert "unreadable" in (tmp_path / "s" / "skipped.csv").read_text()
    assert run("report", tmp_path / "s").code == 0


def test_a_link_that_leads_nowhere_is_a_skipped_file(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(phantom / "test_normal", folder)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "notes.txt").write_text("nothing")
    test = ["evaluate", model, "--test-normal", folder, "--test-abnormal", phantom / "test_abnormal"]
    for command in (["score", model, folder, "--out", tmp_path / "s"], ["inspect", folder], test):
        done = run(*command)
        assert done.code == 3, done.err
        assert flat("gone.png: a link that leads nowhere") in flat(done.err)
        if command[0] != "evaluate":
            assert flat("1 file is no image and was passed over") in flat(done.err)


@pytest.mark.usefixtures("in_this_process")
def test_blank_slices_are_no_skipped_files(run: Run, phantom: Path, tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 255, (3, 32, 32)).astype(np.uint8)
    pages[1] = 7
    for part in ("normal", "unlabeled", "test_normal"):
        shutil.copytree(phantom / part, tmp_path / part)
        tifffile.imwrite(tmp_path / part / "volume.tif", pages + np.uint8(len(part)), photometric="minisblack")
    learned = ["--normal", tmp_path / "normal", "--unlabeled", tmp_path / "unlabeled"]
    done = run("fit", *learned, "--out", tmp_path / "m", *TINY)
    assert done.code == 0, done.err
    assert flat("2 blank slices or frames were passed over") in flat(done.err)
    assert flat("is not estimated: that takes at least 40 normal and 40 unlabeled images") in flat(done.err)
    card = Model.load(tmp_path / "m").card["cohort"]
    assert card["skipped"] == []
    assert [path.rpartition("/")[2] for path, _ in card["blank"]] == ["volume.tif#2"] * 2
    assert Model.load(tmp_path / "m").summary()["cohort"]["blank_count"] == 2
    test = ["--test-normal", tmp_path / "test_normal", "--test-abnormal", phantom / "test_abnormal"]
    done = run("evaluate", tmp_path / "m", *test, "--json")
    assert done.code == 0, done.err
    assert (done.json["skipped"], len(done.json["blank"])) == ([], 1)
    done = run("inspect", tmp_path / "test_normal" / "volume.tif")
    assert done.code == 0
    assert flat("2 images can be read; 0 files are no images and were passed over.") in flat(done.err)
    assert flat("1 blank slice or frame was passed over") in flat(done.err)


def test_a_path_that_may_not_be_looked_at_is_no_traceback(
    run: Run, model: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for command in (
        ("score", model, tmp_path / ("a" * 300), "--out", tmp_path / "s"),
        ("score", model, tmp_path / "loop", "--out", tmp_path / "s"),
        ("score", model, phantom / "test_normal", "--out", tmp_path / "loop"),
        ("score", model / ("a" * 300), phantom / "test_normal", "--out", tmp_path / "s"),
        ("fit", "--normal", tmp_path / ("a" * 300), "--out", tmp_path / "m"),
        ("fit", "--normal", phantom / "test_normal", "--out", tmp_path / "loop"),
    ):
        done = run(*command)
        assert done.code == 1, command
        assert "error: " in done.err
        assert "Traceback" not in done.err

    def refused_to_others(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("ddad.model.Path.is_dir", refused_to_others)
    done = run("score", model, phantom / "test_normal", "--out", tmp_path / "s")
    assert done.code == 1
    assert done.err == f"error: {model}: Permission denied. Check the path, and who may read it.\n"


def test_if_nothing_can_be_scored_nothing_is_written(
    run: Run, model: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    before = contents(tmp_path)
    refused(run("score", model, bad_images["garbage"], "--out", tmp_path / "o"), bad_images["garbage"])
    refused(run("score", model, tmp_path / "none é.png", "--out", tmp_path / "o"), tmp_path / "none é.png")
    assert contents(tmp_path) == before
    assert "o" not in names(tmp_path)


def test_a_bad_test_image_is_left_out_of_an_evaluation_and_named(
    run: Run, model: Path, phantom: Path, bad_images: dict[str, Path]
) -> None:
    done = run(
        "evaluate", model, "--test-normal", phantom / "test_normal", "--test-normal", bad_images["nan"].parent,
        "--test-abnormal", phantom / "test_abnormal", "--json",
    )  # fmt: skip
    assert done.code == 3
    assert done.json["test_normal"] == 4
    assert len(done.json["skipped"]) == 5


def test_images_smaller_than_the_network_are_scored_with_a_warning(run: Run, model: Path, tmp_path: Path) -> None:
    small = write_images(tmp_path, 1, size=12)[0]
    done = run("score", model, small, "--out", tmp_path / "o")
    assert done.code == 0
    assert "1 with a warning" in done.err
    (row,) = findings(tmp_path / "o")
    assert "smaller" in row["warnings"]


@pytest.mark.parametrize("verb", ["fit", "score", "evaluate"])
def test_an_existing_output_folder_is_kept_without_overwrite(
    verb: str, run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    out = tmp_path / "schon da"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    options = {
        "fit": ["fit", "--normal", phantom / "normal", *TINY],
        "score": ["score", model, phantom / "test_normal"],
        "evaluate": ["evaluate", model, "--manifest", phantom / "manifest.csv"],
    }[verb]
    refused(run(*options, "--out", out), out, "--overwrite")
    refused(run(*options, "--out", out, "--overwrite"), out)
    refused(run(*options, "--out", out / "precious.txt"), out / "precious.txt")
    assert contents(tmp_path) == {"schon da/precious.txt": b"mine"}
    assert names(tmp_path) == {"schon da"}


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_overwrite_replaces_what_was_written_before(
    verb: str, run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    assert run("score", model, phantom / "test_normal", "--out", out, "--heatmaps").code == 0
    options = {
        "score": ["score", model, phantom / "test_abnormal"],
        "evaluate": ["evaluate", model, "--manifest", phantom / "manifest.csv"],
    }[verb]
    refused(run(*options, "--out", out), out, "--overwrite")
    assert "heatmaps" in names(out)
    assert run(*options, "--out", out, "--overwrite").code == 0
    assert "heatmaps" not in names(out)
    assert names(tmp_path) == {"o"}


def test_a_failed_run_with_overwrite_keeps_what_was_there(
    run: Run, model: Path, phantom: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "o"
    run("score", model, phantom / "test_normal", "--out", out)
    before = contents(tmp_path)
    refused(run("score", model, bad_images["garbage"], "--out", out, "--overwrite"), bad_images["garbage"])
    assert contents(tmp_path) == before


def test_the_current_folder_as_output_is_a_message_or_works(
    run: Run, model: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for place in (".", "../work", "x/.."):
        done = run("score", model, phantom / "test_normal", "--out", place)
        assert done.code in (0, 1)
        if done.code == 1:
            refused(done, place)


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_a_foreign_model_is_named(verb: str, run: Run, phantom: Path, tmp_path: Path) -> None:
    options = [phantom / "normal"] if verb == "score" else ["--manifest", phantom / "manifest.csv"]
    for place in (tmp_path / "keines", phantom, phantom / "manifest.csv"):
        refused(run(verb, place, *options, "--out", tmp_path / "o"), place)
    assert names(tmp_path) == set()


def test_an_altered_model_is_named(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "m")
    (copy / "recipe.json").write_text((copy / "recipe.json").read_text().replace('"seed": 0', '"seed": 1'))
    refused(run("score", copy, phantom / "normal", "--out", tmp_path / "o"), copy / "recipe.json", "altered")


def a_cohort(folder: Path) -> dict[str, Path]:
    for seed, name in enumerate(("normal", "unlabeled", "few", "empty", "text")):
        count = {"few": 3, "empty": 0, "text": 0}.get(name, 10)
        write_images(folder / name, count, seed=seed)
    (folder / "text" / "a.txt").write_text("a")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([], ["--normal", "--manifest", "--data"]),
        (["--normal", "none at all"], ["none at all"]),
        (["--normal", "empty"], ["normal", "empty"]),
        (["--normal", "text"], ["normal", "text"]),
        (["--normal", "few"], ["normal: 3 images", "at least 8"]),
        (["--unlabeled", "unlabeled"], ["normal: none, and of 10 unlabeled images"]),
        (["--normal", "normal", "--unlabeled", "normal"], ["normal and unlabeled", "image-0-000.png"]),
        (["--normal", "normal", "--normal", "normal"], ["twice", "image-0-000.png"]),
        (["--normal", "normal", "--manifest", "m.csv"], ["--manifest", "exactly one"]),
        (["--normal", "normal", "--anomaly-rate", "0.5"], ["--anomaly-rate"]),
        (["--manifest", "none.csv"], ["none.csv"]),
        (["--data", "normal"], ["normal/images"]),
    ],
)
def test_images_that_make_no_cohort_stop_a_fit_before_any_work(
    options: list[str], parts: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Bilder ä").mkdir()
    a_cohort(tmp_path / "Bilder ä")
    monkeypatch.chdir(tmp_path / "Bilder ä")
    before = names(tmp_path / "Bilder ä")
    refused(run("fit", *options, "--out", "model", *TINY), *parts)
    assert names(tmp_path / "Bilder ä") == before


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["normal-0.png,normal,2,"], ["m.csv, line 2", "label", "2"]),
        (["normal-0.png,test,abnormal,"], ["m.csv, line 2", "label", "abnormal"]),
        (["normal-0.png,tset,,"], ["m.csv, line 2", "tset", "test"]),
        (["normal-0.png,normal,,p1", "normal-1.png,test,0,p1"], ["p1", "both training and test"]),
        (["normal-0.png,normal,,", "normal-0.png,unlabeled,,"], ["normal-0.png", "both"]),
        (["gone.png,normal,,"], ["gone.png"]),
        (["normal-0.png,normal"], ["m.csv, line 2"]),
        ([], ["m.csv"]),
    ],
)
def test_a_manifest_with_a_mistake_is_named_with_its_line(
    rows: list[str], parts: list[str], run: Run, tmp_path: Path
) -> None:
    for number, path in enumerate(write_images(tmp_path, 2)):
        path.rename(tmp_path / f"normal-{number}.png")
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["path,role,label,group", *rows]) + "\n")
    before = names(tmp_path)
    refused(run("fit", "--manifest", manifest, "--out", tmp_path / "model", *TINY), *parts)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--image-size", "50"], ["images.image_size", "50", "48 or 64"]),
        (["--image-size", "1024"], ["images.image_size", "1024"]),
        (["--set", "refinement.epoch=3"], ["refinement.epoch", "refinement.epochs"]),
        (["--set", "refinement.epochs=none"], ["refinement.epochs", "none"]),
        (["--set", "refinement.epochs"], ["refinement.epochs", "FIELD=VALUE"]),
        (["--set", "seed=[1"], ["seed=[1"]),
        (["--backbone", "unet"], ["reconstruction.backbone", "unet"]),
        (["--members", "0"], ["reconstruction.members", "0"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--recipe", "slow"], ["slow", "fast", "paper"]),
        (["--recipe", "none.yaml"], ["none.yaml"]),
        (["--recipe", "r.yaml"], ["r.yaml", "refinement.colour"]),
        (["--recipe", "bad.json"], ["bad.json"]),
    ],
)
def test_a_setting_that_cannot_be_used_stops_before_any_work(
    options: list[str], parts: list[str], run: Run, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("refinement:\n  colour: red\n")
    Path("bad.json").write_text("{")
    before = names(tmp_path)
    refused(run("fit", "--normal", phantom / "normal", "--out", "model", *options), *parts)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    "options",
    [["--device", "tpu"], ["--precision", "fp64"], ["--workers", "0"], ["--colour", "red"], ["--seed", "first"]],
)
def test_wrong_usage_has_an_exit_code_of_its_own(options: list[str], run: Run, phantom: Path, tmp_path: Path) -> None:
    done = run("fit", "--normal", phantom / "normal", "--out", tmp_path / "m", *options)
    assert done.code == 2
    assert options[0] in done.err
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--test-normal", "test_normal"], ["label 1", "--test-abnormal"]),
        (["--test-abnormal", "test_abnormal"], ["label 0", "--test-normal"]),
        (["--test-normal", "test_normal", "--test-abnormal", "test_normal"], ["test_normal", "00000.png"]),
        (
            ["--test-normal", "test_normal", "--test-abnormal", "test_abnormal", "--test-masks", "none"],
            ["test_masks", "none"],
        ),
        ([], ["--manifest"]),
    ],
)
def test_test_images_that_cannot_be_evaluated(
    options: list[str],
    parts: list[str],
    run: Run,
    model: Path,
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(phantom)
    refused(run("evaluate", model, *options, "--out", tmp_path / "e"), *parts)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["custom", "--data", "none"], ["none"]),
        (["custom", "--data", ".", "--split", "none.json"], ["none.json", "data.json"]),
        (["brain", "--data", "."], ["brain", "brain-tumor"]),
        (["custom", "--data", ".", "--backbone", "unet"], ["reconstruction.backbone", "unet"]),
        (["custom", "--data", ".", "--seeds", "0"], ["--seeds"]),
        (["custom", "--data", ".", "--jobs", "0"], ["--jobs"]),
        (["custom", "--data", ".", "--anomaly-rate", "2"], ["anomaly_rate", "2"]),
        (["custom", "--data", ".", "--image-size", "20"], ["images.image_size"]),
        (["custom", "--data", ".", "--split", "no test.json"], ["test"]),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_a_benchmark_that_cannot_be_run_stops_before_any_work(
    options: list[str],
    parts: list[str],
    run: Run,
    benchmark: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(benchmark)
    done = run("benchmark", *options, "--out", tmp_path / "b", *TINY)
    refused(done, *parts)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("free", [0, 4096, 12_288, 40_960])
@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_a_full_disk_is_named_and_nothing_looks_finished(
    verb: str, free: int, run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "voll é", 128) as disk:
        (disk / "filler").write_bytes(b"x" * (131_072 - free))
        options = {
            "score": ["score", model, phantom / "test_normal", "--heatmaps"],
            "evaluate": ["evaluate", model, "--manifest", phantom / "manifest.csv"],
        }[verb]
        done = run(*options, "--out", disk / "o")
        if verb == "evaluate" and free > 12_288:
            assert done.code == 0  # so much is enough for it
            return
        refused(done, disk / "o", "disk is full")
        assert names(disk) <= {"filler", "o.unfinished"}


def test_scoring_goes_on_when_the_disk_has_space_again(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "voll", 2048) as disk:
        (disk / "filler").write_bytes(b"x" * (2_097_152 - 102_400))
        score = ["score", model, phantom / "test_normal", "--heatmaps", "--out", disk / "o"]
        refused(run(*score), disk / "o", "disk is full")
        (disk / "filler").unlink()
        assert run(*score).code == 0
        assert names(disk) == {"o"}
        assert len(findings(disk / "o")) == 4


def test_an_interrupted_scoring_run_goes_on(
    run: Run, model: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = ["score", model, phantom / "test_normal", phantom / "test_abnormal", "--heatmaps"]
    assert run(*score, "--out", tmp_path / "whole").code == 0
    write_pictures = findings_module.write_pictures
    drawn: list[str] = []

    def killed(finding: Any, *rest: Any) -> None:
        if len(drawn) == 3:
            raise KeyError("killed")
        drawn.append(finding.path)
        write_pictures(finding, *rest)

    monkeypatch.setattr(findings_module, "write_pictures", killed)
    with pytest.raises(KeyError, match="killed"):
        run(*score, "--out", tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    refused(run("score", model, phantom / "normal", "--out", tmp_path / "cut"), "cut.unfinished", "--overwrite")
    monkeypatch.setattr(findings_module, "write_pictures", write_pictures)
    # The row that a kill cut off is done again.
    with (tmp_path / "cut.unfinished" / "findings.csv").open("a", encoding="utf-8") as table:
        table.write(f"{phantom}/test_normal/00003.png,0.1")
    scored = []
    write_again = findings_module.Model.score_listed

    def spy(self: Model, paths: Any, **options: Any) -> Any:
        scored.extend(paths)
        return write_again(self, paths, **options)

    monkeypatch.setattr(findings_module.Model, "score_listed", spy)
    done = run(*score, "--out", tmp_path / "cut", "--json")
    assert done.json["scored"] == 8
    assert len(scored) == 5
    whole, cut = contents(tmp_path / "whole"), contents(tmp_path / "cut")
    assert whole == cut
    assert names(tmp_path) == {"whole", "cut"}


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("figures", "--test-normal, --test-abnormal), or --manifest, or --data; exactly"),
        ("calibrate", "--normal), or --manifest; exactly"),
    ],
)
def test_options_that_a_verb_lacks_are_not_recommended(
    verb: str, options: str, run: Run, model: Path, phantom: Path, tmp_path: Path
) -> None:
    both = ["--normal", phantom / "normal", "--manifest", "none.csv"]
    given = ["--model", model, "--out", tmp_path / "f"] if verb == "figures" else [model, *both]
    refused(run(verb, *given), f"images: give folders ({options} one of these.")


def test_an_output_within_the_input_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    """Its pictures would be images to score at the next run."""
    write_images(tmp_path / "in", 2)
    before = contents(tmp_path)
    refused(run("score", model, tmp_path / "in", "--out", tmp_path / "in" / "o"), tmp_path / "in")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("verb", "option", "name"),
    [
        ("audit", "--write-split", "new/split.json"),
        ("audit", "--write-split", "folder"),
        ("audit", "--out", "new/audit.html"),
        ("inspect", "--contact-sheet", "new/sheet.png"),
        ("inspect", "--contact-sheet", "folder"),
        ("figures", "--out", "file"),
        *([("audit", "--out", "/proc/a.html")] if Path("/proc").exists() else []),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    verb: str, option: str, name: str, run: Run, phantom: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    given = {"audit": ["--normal", phantom / "normal", "--overwrite"], "inspect": [phantom / "normal"]}
    done = run(verb, *given.get(verb, [phantom]), option, tmp_path / name)
    refused(done, tmp_path / name)
    assert "looking at images" not in done.err
    assert names(tmp_path) == {"folder", "file"}


@pytest.mark.usefixtures("in_this_process")
def test_a_fit_on_a_full_disk_is_named_and_goes_on_when_there_is_space(run: Run, phantom: Path, tmp_path: Path) -> None:
    fit_it = ["fit", "--normal", phantom / "normal", *TINY, "--out"]
    with small_disk(tmp_path / "voll", 12_000) as disk:
        (disk / "filler").write_bytes(b"x" * 10_000_000)
        refused(run(*fit_it, disk / "m"), disk, "disk is full")
        assert "m" not in names(disk)
        (disk / "filler").unlink()
        assert run(*fit_it, disk / "m").code == 0
        Model.load(disk / "m")
        assert names(disk) == {"m"}


def test_a_full_disk_in_a_worker_process_is_named(run: Run, phantom: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "voll", 1000) as disk:
        done = run("fit", "--normal", phantom / "normal", "--workers", 1, *TINY, "--out", disk / "m")
        refused(done, disk, "disk is full")
        assert "m" not in names(disk)


def test_an_interrupt_from_the_keyboard_says_how_to_go_on(phantom: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "ddad", "fit", "--normal", phantom / "normal", "--out", tmp_path / "m", *TINY,
        "--set", "reconstruction.ndm_epochs=100000",
    ]  # fmt: skip
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    assert wait_for((tmp_path / "m.unfinished" / "normal.npy").exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    assert "run again" in err
    assert not (tmp_path / "m").exists()


def test_an_interrupted_audit_does_not_promise_to_go_on(
    run: Run, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("ddad.audit.audit_cohort", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    try:
        done = run("audit", "--normal", phantom / "normal")
    finally:
        signal.signal(signal.SIGINT, before)

    assert done.code == 130
    assert done.err.endswith("interrupted. ddad audit starts from the beginning when run again.\n")


def test_standard_output_that_is_full_is_no_traceback(phantom: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ddad", "inspect", phantom / "test_normal"], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1, "error: standard output: No space left on device. Send it elsewhere, or make room.\n"
    )  # fmt: skip


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_a_command_works_without_standard_output_and_error(
    closed: str, model: Path, phantom: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "ddad", "score", model, phantom / "test_normal", "--out", tmp_path / "s"]
    line = f'"$@" {closed}'
    done = subprocess.run(["bash", "-c", line, "bash", *command], stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
    assert len(pd.read_csv(tmp_path / "s" / "findings.csv")) == 4


def test_a_named_file_that_may_not_be_read_is_skipped(
    run: Run, model: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = shutil.copy(phantom / "test_normal" / "00000.png", tmp_path / "secret.png")
    usual = Path.open

    def forbidding(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == secret:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", forbidding)  # whoever tests as root may read all
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path) != secret)
    done = run("score", model, secret, phantom / "test_abnormal", "--out", tmp_path / "s")
    assert done.code == 3
    assert "secret.png: cannot be opened (Permission denied)" in done.err


def test_json_stays_clean_whatever_happens(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    done = run("score", model, phantom / "none", "--out", tmp_path / "o", "--json")
    assert (done.code, done.out) == (1, "")


def test_dicom_results_of_a_mixed_folder(run: Run, model: Path, phantom: Path, tmp_path: Path) -> None:
    import nibabel
    import pydicom
    from pydicom.data import get_testdata_file

    sources = tmp_path / "sources"
    sources.mkdir()
    shutil.copy(str(get_testdata_file("CT_small.dcm")), sources / "a.dcm")
    shutil.copy(min((phantom / "normal").iterdir()), sources / "b.png")
    volume = np.zeros((20, 24, 3), np.float32)
    volume[..., 1] = np.random.default_rng(0).random((20, 24))
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), sources / "c.nii")

    outcome = run(
        "score", model, sources, "--out", tmp_path / "out", "--heatmaps",
        "--dicom-results", tmp_path / "results", "--nifti-maps", tmp_path / "volumes",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    assert "2 blank slices or frames were passed over" in outcome.err
    names = sorted(path.name for path in (tmp_path / "results").glob("*.dcm"))
    assert names == ["000000_a_map.dcm", "000000_a_overlay.dcm", "000000_a_report.dcm"]
    secret = str(pydicom.dcmread(sources / "a.dcm").PatientID).encode()
    assert not any(secret in content for content in contents(tmp_path / "out").values())
    maps = np.asarray(nibabel.load(tmp_path / "volumes" / "000002_c_map.nii.gz").dataobj)
    assert np.isfinite(maps).all(axis=(0, 1)).tolist() == [False, True, False]
    again = run("score", model, sources, "--out", tmp_path / "second", "--dicom-results", tmp_path / "results")
    assert again.code == 1


def test_identifiers_are_kept_only_if_asked_for(run: Run, model: Path, tmp_path: Path) -> None:
    import pydicom
    from pydicom.data import get_testdata_file

    data = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    data.PatientID, data.PatientName, data.AccessionNumber = "004711", "Secret^Person", "AN-12"
    data.PatientBirthDate, data.ReferringPhysicianName = "19010203", "Doctor^Who"
    (tmp_path / "in").mkdir()
    data.save_as(tmp_path / "in" / "a.dcm")
    secrets = [b"004711", b"Secret", b"AN-12", b"19010203", b"Doctor", data.SOPInstanceUID.encode()]

    without = run("score", model, tmp_path / "in", "--out", tmp_path / "plain", "--heatmaps")
    page = run("report", tmp_path / "plain", "--out", tmp_path / "page.html")
    inspected = run("inspect", tmp_path / "in", "--json", "--contact-sheet", tmp_path / "sheet.png")
    written = [*contents(tmp_path / "plain").values(), (tmp_path / "page.html").read_bytes()]
    written += [(tmp_path / "sheet.png").read_bytes()]
    written += [(text.out + text.err).encode() for text in (without, page, inspected)]
    assert not [secret for secret in secrets for content in written if secret in content]

    kept = run("score", model, tmp_path / "in", "--out", tmp_path / "kept", "--heatmaps", "--keep-identifiers")
    assert kept.code == 0, kept.err
    row = next(csv.DictReader((tmp_path / "kept" / "findings.csv").read_text().splitlines()))
    assert (row["patient_id"], row["patient_name"], row["accession_number"]) == ("004711", "Secret^Person", "AN-12")
    assert row["instance_uid"] == data.SOPInstanceUID
    assert pd.read_parquet(tmp_path / "kept" / "findings.parquet")["patient_id"].tolist() == ["004711"]
    assert run("report", tmp_path / "kept", "--out", tmp_path / "kept.html").code == 0
    assert not [secret for secret in secrets if secret in (tmp_path / "kept.html").read_bytes()]
