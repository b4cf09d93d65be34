from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

import ddad
from ddad import Cohort, Recipe
from ddad.cohorts.phantom_cohort import write_phantom
from ddad.errors import OutputError
from ddad.experiments import score_maps
from ddad.experiments.histograms import Histogram, distinct_names, draw_histograms, histogram, write_histograms
from ddad.experiments.score_maps import Shown, images_to_draw, write_score_maps
from ddad.experiments.score_maps import draw_score_maps as draw
from support import random_images, run_cli, tiny_recipe


def test_chi_square_by_hand() -> None:
    # (0.5 - 0.25)² / 0.75 + (0.5 - 0.75)² / 1.25, halved; a bin that is empty in both does not count.
    found = Histogram(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.75, 0.0])).chi_square
    assert found == pytest.approx(0.5 * (0.0625 / 0.75 + 0.0625 / 1.25))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_distance_is_between_none_and_all(scores: list[float]) -> None:
    labels = [index % 2 for index in range(len(scores))]
    found = histogram(labels, scores)
    assert found.normal.sum() == pytest.approx(1)
    assert found.abnormal.sum() == pytest.approx(1)
    assert 0 <= found.chi_square <= 1 + 1e-9


def test_separate_scores_have_distance_one_whatever_one_extreme_does() -> None:
    labels, scores = [0] * 500 + [1] * 500, [*np.linspace(0, 1, 500), *np.linspace(3, 4, 500)]
    assert histogram(labels, scores).chi_square == pytest.approx(1)
    scores[-1] = 1e6
    assert histogram(labels, scores).chi_square == pytest.approx(1)


def test_panels_share_their_scales() -> None:
    panels = {
        f"score {number}": histogram([0, 1] * 30, np.random.default_rng(number).normal(size=60)) for number in range(4)
    }
    figure = draw_histograms(panels)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    titles = [f"{name}\nχ² = {panel.chi_square:.2f}" for name, panel in panels.items()]
    assert [axes.get_title() for axes in shown] == titles
    assert len({axes.get_ylim() for axes in shown}) == 1


def write_run(folder: Path, method: str, backbone: str | None, scores: list[str], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=20).tolist()
    record = {
        "recipe": {"preset_name": "fast"},
        "cohort": "c",
        "labels": [0, 1] * 10,
        "scores": dict.fromkeys(scores, values),
        "cells": [{"method": method, "backbone": backbone, "split": "data.json", "seed": seed}],
    }
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    (folder / "runs" / f"{method}-{backbone}-{seed}.json").write_text(json.dumps(record))


def test_stored_runs_become_a_figure_a_backbone_and_one_for_the_rivals(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "official", "ddad", "ae", ["rec", "rec_ensemble", "r_dual"], seed)
        write_run(tmp_path / "official", "fpi", None, ["image"], seed)
    out = tmp_path / "figures"
    out.mkdir()
    written = write_histograms(tmp_path / "official", out)
    assert {path.name for path in written} == {
        f"histograms-official-{group}.{suffix}" for group in ("ae", "rivals") for suffix in ("pdf", "svg", "png")
    }
    text = (out / "histograms-official-ae.svg").read_text()
    assert "R_dual" in text
    assert "ensemble" not in text
    before = {path: path.read_bytes() for path in written}
    write_histograms(tmp_path / "official", out)
    assert {path: path.read_bytes() for path in written} == before
    with pytest.raises(OutputError, match="no stored run"):
        write_histograms(tmp_path, out)
    for content in ("[1]", '{"cells": [{}]}'):
        (tmp_path / "official" / "runs" / "other.json").write_text(content)
        with pytest.raises(OutputError, match=r"other\.json: is no stored run"):
            write_histograms(tmp_path / "official", out)


def test_runs_of_several_settings_become_figures_that_say_which(tmp_path: Path) -> None:
    """A sweep's runs share their images; one of them, drawn alone, would pass for all."""

    def rewrite(folder: Path, name: str, split: str = "data.json", **changes: object) -> None:
        write_run(folder, "ddad", "ae", ["r_dual"], 0)
        file = folder / "runs" / "ddad-ae-0.json"
        content = json.loads(file.read_text())
        content["cells"][0]["split"] = split
        file.rename(file.with_name(name)).write_text(json.dumps(content | changes))

    for members in (1, 3):
        recipe = Recipe().changed({"reconstruction.members": members}).model_dump(mode="json")
        rewrite(tmp_path / "swept", f"{members}.json", recipe=recipe)
    for rate in (0.0, 0.015, 0.02):
        rewrite(tmp_path / "rated", f"{rate}.json", anomaly_rate=rate, cohort=str(rate))
    for split in ("data.json", "other.json"):
        for rate in (0.0, 0.2):
            rewrite(tmp_path / "both", f"{split}-{rate}.json", split, anomaly_rate=rate, cohort=f"{split}{rate}")
    write_histograms(tmp_path / "both", tmp_path)
    write_histograms(tmp_path / "swept", tmp_path)
    write_histograms(tmp_path / "rated", tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        *(f"histograms-both-anomaly-rate-{rate}-{number}-ae.png" for rate in (0, 20) for number in (1, 2)),
        "histograms-rated-anomaly-rate-0-ae.png",
        "histograms-rated-anomaly-rate-1.5-ae.png",
        "histograms-rated-anomaly-rate-2-ae.png",
        "histograms-swept-ae.png",
        "histograms-swept-reconstruction.members-1-ae.png",
    ]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "phantom"
    write_phantom(
        folder, normals=10, unlabeled_normals=2, unlabeled_abnormals=2, test_normals=2, test_abnormals=4, size=48
    )
    return folder


@pytest.fixture(scope="module")
def model(phantom: Path) -> Path:
    cohort = Cohort.from_manifest(phantom / "manifest.csv")
    ddad.fit(cohort, tiny_recipe(), workers=0, out=phantom.parent / "model", device="cpu")
    return phantom.parent / "model"


def test_score_maps_of_a_model(model: Path, phantom: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    done = run_cli(
        monkeypatch, capsys, "figures", "--model", model, "--manifest", phantom / "manifest.csv", "--out", tmp_path,
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["skipped"] == []
    assert [Path(path).name for path in done.json["figures"]] == [
        "score-maps.pdf", "score-maps.svg", "score-maps.png"
    ]  # fmt: skip
    text = (tmp_path / "score-maps.svg").read_text()
    assert all(title in text for title in ("Rec.", "A_intra", "A_inter", "R_dual"))
    assert (text.count(">abnormal<"), text.count(">normal<")) == (3, 1)
    with Image.open(tmp_path / "score-maps.png") as picture:
        assert picture.size[0] > 1500
    assert run_cli(monkeypatch, capsys, "figures").code == 1


def test_in_place_of_an_image_that_cannot_be_drawn_another_one_is(
    model: Path, phantom: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    shutil.copytree(phantom, tmp_path / "phantom")
    table = pd.read_csv(tmp_path / "phantom" / "manifest.csv")
    damaged, *_ = table.loc[(table["role"] == "test") & (table["label"] == 1), "path"]
    (tmp_path / "phantom" / damaged).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    drawn: list[str] = []
    monkeypatch.setattr(
        score_maps, "draw_score_maps", lambda shown, _: drawn.extend(one.finding.path for one in shown) or Figure()
    )
    figures = ["figures", "--model", model, "--manifest", tmp_path / "phantom" / "manifest.csv", "--json"]
    seeds_that_drew_it = 0
    for seed in range(4):
        done = run_cli(monkeypatch, capsys, *figures, "--seed", seed, "--out", tmp_path / "f")
        assert done.code in (0, 3), done.err
        assert len(drawn) == len(set(drawn)) == 4
        drawn.clear()
        assert [Path(path).name for path, _ in done.json["skipped"]] == [Path(damaged).name] * (done.code == 3)
        seeds_that_drew_it += done.code == 3
    assert seeds_that_drew_it

    mask, *_ = table.loc[(table["role"] == "test") & (table["label"] == 1), "mask"][1:]
    (tmp_path / "phantom" / mask).write_bytes(b"")
    done = run_cli(monkeypatch, capsys, *figures, "--images", 5, "--out", tmp_path / "f")
    assert done.code == 3
    assert "Files skipped: 2\n" in done.err
    assert f"its mask {tmp_path / 'phantom' / mask}" in done.err
    assert len(drawn) == 3  # what is left of four abnormal images and one normal


def test_too_many_images_are_told_and_leave_nothing(
    model: Path, phantom: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    cohort = Cohort.from_manifest(phantom / "manifest.csv")
    assert images_to_draw(cohort, 5) == {1: 4, 0: 1}
    assert images_to_draw(cohort, 2) == {1: 1, 0: 1}
    assert images_to_draw(cohort, 1) == {1: 1, 0: 0}
    (tmp_path / "there").mkdir()
    for out in ("there", "new/figures"):
        done = run_cli(
            monkeypatch, capsys, "figures", "--model", model, "--manifest", phantom / "manifest.csv",
            "--images", 39, "--out", tmp_path / out,
        )  # fmt: skip
        assert done.code == 1
        assert "--images 39: takes 30 abnormal and 9 normal test images, and there are 4 and 2" in done.err
        assert "Give 5 or fewer." in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_many_images_take_several_figures_that_each_fit_on_a_page(
    model: Path, phantom: Path, tmp_path: Path, monkeypatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(
        score_maps, "draw_score_maps", lambda shown, scales: drawn.append(draw(shown, scales)) or Figure()
    )
    cohort = Cohort.from_manifest(phantom / "manifest.csv")
    written = write_score_maps(ddad.Model.load(model), cohort, tmp_path, count=5, on_skipped=[].append)
    assert [path.name for path in written if path.suffix == ".png"] == ["score-maps-1.png", "score-maps-2.png"]
    assert [axes.get_ylabel() for figure in drawn for axes in figure.axes if "normal" in axes.get_ylabel()] == [
        *["abnormal"] * 4, "normal"
    ]  # fmt: skip
    assert all(figure.get_size_inches()[1] < 10.5 for figure in drawn)


def test_folders_of_one_name_are_told_apart_by_their_parents(tmp_path: Path, monkeypatch, capsys) -> None:
    for place in ("a/out", "b/out"):
        write_run(tmp_path / place, "fpi", None, ["image"], 0)
    assert distinct_names([tmp_path / "a" / "out", tmp_path / "b" / "out"]) == ["a-out", "b-out"]
    assert distinct_names([tmp_path / "a" / "out", tmp_path / "b"]) == ["out", "b"]

    done = run_cli(
        monkeypatch, capsys, "figures", tmp_path / "a/out", tmp_path / "b/out", "--out", tmp_path / "f", "--json"
    )

    assert len(done.json["figures"]) == len(set(done.json["figures"])) == 6


def test_a_model_without_unlabeled_images_shows_its_main_score_and_the_intensities_of_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, levels in enumerate((random_images(14, size=32)[:, 0].numpy() + 1) * 2047):  # 12 bits of 16
        folder = tmp_path / ("normal" if number < 10 else "test")
        folder.mkdir(exist_ok=True)
        Image.fromarray(levels.astype(np.uint16)).save(folder / f"{number}.png")
    cohort = Cohort.from_folders(normal=tmp_path / "normal", test_abnormal=tmp_path / "test")
    model = ddad.fit(cohort, tiny_recipe(images__intensity="percentile"), workers=0, device="cpu")
    drawn: list[Shown] = []
    monkeypatch.setattr(score_maps, "draw_score_maps", lambda shown, scales: drawn.extend(shown) or draw(shown, scales))

    (_, text, _) = write_score_maps(model, cohort, tmp_path, count=3, on_skipped=[].append)

    assert "R_intra" in text.read_text()
    assert all(shown.picture.max() == 1 for shown in drawn)
