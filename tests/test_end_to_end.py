"""The whole way on real images: fit, score and evaluate chest X-rays by the command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddad.training.checkpoint import load_tensors
from support import same_tensors, tiny_options

SCORES = ["rec", "rec_ensemble", "a_intra", "a_inter", "r_intra", "r_dual"]
COUNT, TESTS = 60, 12


@pytest.fixture(scope="module")
def manifest(datasets_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 normals, 60 unlabeled (half of them abnormal), 12 test images of each kind; images stay where they are."""
    data = datasets_folder / "chest_xray"
    split = json.loads((data / "data.json").read_text())
    train, test = split["train"], split["test"]
    rows = [
        *((name, "normal", "") for name in train["0"][:COUNT]),
        *((name, "unlabeled", "") for name in train["unlabeled"]["0"][: COUNT // 2]),
        *((name, "unlabeled", "") for name in train["unlabeled"]["1"][: COUNT // 2]),
        *((name, "test", "0") for name in test["0"][:TESTS]),
        *((name, "test", "1") for name in test["1"][:TESTS]),
    ]
    file = tmp_path_factory.mktemp("chest") / "röntgen.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(("path", "role", "label"))
        writer.writerows((data / "images" / name, role, label) for name, role, label in rows)
    return file


def ddad_json(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "ddad", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def fit(manifest: Path, out: Path) -> dict[str, Any]:
    settings = tiny_options(
        images__image_size=32,
        reconstruction__ndm_epochs=4,
        reconstruction__udm_epochs=3,
        reconstruction__batch_size=16,
        refinement__epochs=2,
        refinement__width=16,
        holdout=0.1,
    )
    return ddad_json("fit", "--manifest", manifest, "--out", out, "--workers", 1, "--seed", 3, *settings)


@pytest.mark.slow
def test_real_images_all_the_way(manifest: Path, tmp_path: Path) -> None:
    card = fit(manifest, tmp_path / "model")
    held = card["cohort"]["held_out_normal"]
    assert held == pytest.approx(0.1 * COUNT, abs=1)
    assert card["cohort"]["normal"] == COUNT - held
    # One that looks like a held-out normal is left out of training.
    assert card["cohort"]["unlabeled"] + card["cohort"]["left_out"]["unlabeled"] == COUNT
    assert card["cohort"]["skipped"] == []

    with manifest.open(newline="", encoding="utf-8") as file:
        test = [row for row in csv.DictReader(file) if row["role"] == "test"]
    paths = [row["path"] for row in test]
    scored = ddad_json("score", tmp_path / "model", *paths, "--out", tmp_path / "scores", "--heatmaps")
    assert scored["scored"] == 2 * TESTS
    with (tmp_path / "scores" / "findings.csv").open(newline="", encoding="utf-8") as file:
        findings = list(csv.DictReader(file))
    assert list(findings[0])[:4] == ["path", "score", "p_value", "flagged"]
    assert [row["path"] for row in findings] == paths
    assert len(list((tmp_path / "scores" / "heatmaps").glob("*.png"))) == 2 * TESTS
    assert len(list((tmp_path / "scores" / "overlays").glob("*.png"))) == 2 * TESTS

    result = ddad_json("evaluate", tmp_path / "model", "--manifest", manifest, "--out", tmp_path / "evaluation")
    assert (result["test_normal"], result["test_abnormal"], result["skipped"]) == (TESTS, TESTS, [])
    assert set(result["images"]) == set(SCORES)
    assert result["pixels"] == {}
    for metrics in result["images"].values():
        auc = metrics["auc"]
        assert 0 <= auc["low"] <= auc["estimate"] <= auc["high"] <= 1
    with (tmp_path / "evaluation" / "scores.csv").open(newline="", encoding="utf-8") as file:
        evaluated = {row["path"]: row for row in csv.DictReader(file)}
    for row in findings:
        assert evaluated[row["path"]]["label"] == next(r["label"] for r in test if r["path"] == row["path"])
        for score in SCORES:
            assert float(evaluated[row["path"]][score]) == pytest.approx(float(row[score]), rel=1e-5, abs=1e-6)
    normal, abnormal = (
        [float(row["a_inter"]) for row in evaluated.values() if row["label"] == label] for label in "01"
    )
    wins = sum((b > a) + 0.5 * (b == a) for a in normal for b in abnormal)
    assert result["images"]["a_inter"]["auc"]["estimate"] == pytest.approx(wins / TESTS**2)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "scores", "evaluation"}


@pytest.mark.slow
def test_two_fits_with_the_same_seed_have_the_same_weights(manifest: Path, tmp_path: Path) -> None:
    first, second = fit(manifest, tmp_path / "a"), fit(manifest, tmp_path / "b")
    weights = [load_tensors(tmp_path / name / "weights.safetensors")[0] for name in "ab"]
    assert same_tensors(*weights)
    assert (tmp_path / "a" / "recipe.json").read_bytes() == (tmp_path / "b" / "recipe.json").read_bytes()
    for key in ("cohort", "held_out_normals", "versions", "seed"):
        assert first[key] == second[key]
