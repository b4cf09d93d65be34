from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ddad.experiments.grid import run_grid
from ddad.experiments.setting import Setting
from ddad.experiments.sweep import sweep_runs
from ddad.experiments.sweep_results import draw_sweep, write_sweep
from support import tiny_recipe, write_images

LABELS = [0] * 40 + [1] * 40


def record(method: str, seed: int, strength: dict[str, float], cohort: str = "c") -> dict[str, Any]:
    """A run as it is stored, whose scores tell abnormal images from normal ones as well as `strength` says."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=len(LABELS))
    own = {"method": method, "backbone": "ae-u" if method == "ddad" else None, "seed": seed}
    shared = {"dataset": "custom", "split": "data.json", "ap": 50.0, "auc_paper": None, "ap_paper": None}
    return {
        "cohort": cohort,
        "labels": LABELS,
        "counts": {"unlabeled": 30},
        "recipe": {"preset_name": "fast"},
        "compute": {"device": "cpu", "precision": "bf16", "workers": 1, "jobs": 2},
        "versions": {"ddad": "0.1.0"},
        "scores": {name: (base + value * np.array(LABELS)).tolist() for name, value in strength.items()},
        "cells": [
            {**own, **shared, "score": name, "auc": 50 + 10 * value + seed, "seconds": 90.0}
            for name, value in strength.items()
        ],
    }


@pytest.fixture
def records() -> dict[float, list[dict[str, Any]]]:
    def runs(dual: float, classifier: float) -> list[dict[str, Any]]:
        own = {"rec": 0.1, "a_intra": 0.3, "r_intra": 0.3, "r_dual": dual}
        return [
            *(record("ddad", seed, own) for seed in (0, 1)),
            *(record("normal-vs-unlabeled", seed, {"image": classifier}) for seed in (0, 1)),
        ]

    return {0.0: runs(0.3, 0.0), 0.6: runs(1.0, 3.0)}


def written(records: dict[float, list[dict[str, Any]]], out: Path, kind: Any = "anomaly-rate") -> str:
    pairs = [(value, one) for value, runs in records.items() for one in runs]
    write_sweep(kind, [value for value, _ in pairs], [one for _, one in pairs], "ddad sweep", out)
    return (out / "sweep.md").read_text(encoding="utf-8")


def rows_of(text: str, heading: str) -> list[list[str]]:
    lines = text.partition(heading)[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    body = lines[start + 1 :]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in body[: next(n for n, line in enumerate([*body, ""]) if not line.startswith("|"))]
    ]


def test_each_value_has_means_with_spread_and_interval(
    records: dict[float, list[dict[str, Any]]], tmp_path: Path
) -> None:
    text = written(records, tmp_path)
    assert "| anomaly rate of the unlabeled images | R_dual | R_intra | A_intra | Rec. | Normal vs unlabeled |" in text
    rows = rows_of(text, "# AUC")
    assert [row[0] for row in rows] == ["0 %", "60 %"]
    assert rows[1][1].startswith("60.5 ± 0.7 [")
    assert rows[1][5].startswith("80.5 ± 0.7 [")


def test_each_value_says_what_is_highest_and_what_cannot_be_told_from_it(
    records: dict[float, list[dict[str, Any]]], tmp_path: Path
) -> None:
    rows = rows_of(written(records, tmp_path), "## Which differences")
    # At 0 % three scores are the same; the others shift the same images by less, which paired tests see.
    assert rows[0] == ["0 %", "R_dual", "R_intra, A_intra"]
    assert rows[1] == ["60 %", "Normal vs unlabeled", "–"]


def test_what_was_not_tested_is_not_called_the_highest(
    records: dict[float, list[dict[str, Any]]], tmp_path: Path
) -> None:
    for one in records[0.6][2:]:  # the highest: its cells say so, but every stored score is the same
        one["scores"]["image"] = [0.5] * len(LABELS)
    rows = rows_of(written(records, tmp_path), "## Which differences")
    assert rows[1][:2] == ["60 %", "R_dual"]


def test_it_says_which_method_has_fewer_seeds(records: dict[float, list[dict[str, Any]]], tmp_path: Path) -> None:
    del records[0.6][-1]
    assert "- seeds: 0: 2, 0.6: 2 (Normal vs unlabeled 1)\n" in written(records, tmp_path)


def test_the_table_says_where_it_comes_from(records: dict[float, list[dict[str, Any]]], tmp_path: Path) -> None:
    text = written(records, tmp_path)
    assert "- command: `ddad sweep`\n- recipe fast;" in text
    assert "- seeds: 0: 2, 0.6: 2\n" in text
    assert "- data fingerprints: 0: `c`, 0.6: `c`\n" in text
    assert text.endswith("- computed on cpu in bf16, 1 network side by side, 2 runs at once\n- versions: ddad 0.1.0\n")
    on_gpu = {"device": "cuda", "precision": "bf16", "gpu": "NVIDIA H100", "workers": 16, "jobs": 1}
    records[0.6][0]["compute"] = on_gpu
    lines = written(records, tmp_path).splitlines()
    others = sum(map(len, records.values())) - 1
    assert lines[-2].startswith(
        f"- {others} of the runs computed on cpu in bf16, 1 network side by side, 2 runs at once;"
    )
    assert lines[-1] == "- 1 of the runs computed on cuda in bf16 on NVIDIA H100; versions: ddad 0.1.0"


def test_warnings_of_the_runs_stand_in_the_table(records: dict[float, list[dict[str, Any]]], tmp_path: Path) -> None:
    assert "- warning" not in written(records, tmp_path)
    runs = [run for found in records.values() for run in found]
    for run in runs:
        run["warnings"] = ["3 test images are not new to the model."]
    runs[0]["warnings"] = [*runs[0]["warnings"], *(f"{number}" for number in range(6))]
    text = written(records, tmp_path)
    assert "\n- warning: 3 test images are not new to the model.\n" in text
    assert "\n- warning of 1 of the runs: 0\n" in text
    assert "\n- and 2 more warnings, in `runs/`\n" in text


def test_curves_are_named_from_the_first_run_on_as_in_the_finished_table(tmp_path: Path) -> None:
    first = [record("ddad", 0, {"r_dual": 1.0, "rec": 0.1})]
    for backbones, names in (
        (("ae", "ae-u"), ["DDAD (AE-U) R_dual", "DDAD (AE-U) Rec."]),
        (("ae-u",), ["R_dual", "Rec."]),
    ):
        table = write_sweep("members", [3], first, "ddad sweep", tmp_path, planned=4, backbones=backbones, brief=True)
        header = table.splitlines()[0].strip("| ").split(" | ")
        assert header[1:] == names


def test_runs_with_other_images_are_not_compared(tmp_path: Path) -> None:
    other = {10.0: [record("ddad", seed, {"r_dual": 1.0}, cohort=str(seed)) for seed in (0, 1)]}
    text = written(other, tmp_path, kind="normals")
    assert rows_of(text, "# AUC") == [["10", "60.5 ± 0.7"]]
    assert "significant" not in text


def test_a_rate_between_percents_is_not_rounded(records: dict[float, list[dict[str, Any]]], tmp_path: Path) -> None:
    assert rows_of(written({0.025: records[0.6]}, tmp_path), "# AUC")[0][0] == "2.5 %"


def test_a_sweep_ends_in_a_table_and_a_plot(tmp_path: Path) -> None:
    names = [path.name for path in write_images(tmp_path / "benchmark" / "images", 34)]
    split = {
        "train": {"0": names[:12], "unlabeled": {"0": names[12:16], "1": names[16:26]}},
        "test": {"0": names[26:30], "1": names[30:]},
    }
    (tmp_path / "benchmark" / "data.json").write_text(json.dumps(split))
    setting = Setting("custom", str(tmp_path / "benchmark"))
    recipe = tiny_recipe(reconstruction__ndm_epochs=1, reconstruction__udm_epochs=1, holdout=0)
    planned = sweep_runs("members", setting, recipe, values=(1, 2), seeds=1)
    records = run_grid([run for _, run in planned], tmp_path / "s", workers=0, device="cpu")
    table = write_sweep("members", [value for value, _ in planned], records, "ddad sweep", tmp_path / "s")
    lines = table.splitlines()
    assert (
        lines[0] == "| K, networks in each ensemble | R_dual | R_intra | A_inter | A_intra | Rec. (ensemble) | Rec. |"
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[0] for row in cells] == ["1", "2"]
    # Of one network the discrepancies within are 0; one network is what Rec. always is.
    assert [column for column, cell in enumerate(cells[0]) if cell == "–"] == [2, 4]
    assert cells[0][5] == cells[0][6] == cells[1][6]
    assert "–" not in cells[1]
    text = (tmp_path / "s" / "sweep.md").read_text(encoding="utf-8")
    assert (
        "–: constant, the same for every image: DDAD (AE-U) R_intra, DDAD (AE-U) A_intra. One network (K = 1)" in text
    )
    assert "a_intra, r_intra: constant, the same for every image; one network" in " ".join(records[0]["warnings"])
    assert not any("constant" in warning for warning in records[1]["warnings"])
    assert {path.name for path in (tmp_path / "s").iterdir()} == {
        "runs", "sweep.csv", "sweep.md", "sweep.pdf", "sweep.svg", "sweep.png"
    }  # fmt: skip
    written = pd.read_csv(tmp_path / "s" / "sweep.csv")
    assert written["value"].tolist() == [1] * 6 + [2] * 6
    assert written["score"][written["auc"].isna() & written["ap_low"].isna()].tolist() == ["a_intra", "r_intra"]


def curves_of(names: dict[str, tuple[str, str | None]], auc: float = 80) -> pd.DataFrame:
    """Rows as `in_order` returns them: by name of the curve, its method and backbone."""
    rows: list[dict[str, Any]] = [
        {
            "name": name, "curve": name.split(": ")[-1], "method": method, "backbone": backbone, "value": value,
            "auc": auc + 10 * value, "auc_sd": 4.0,
        }
        for name, (method, backbone) in names.items()
        for value in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_each_backbone_has_a_panel_in_which_no_colour_repeats() -> None:
    own: dict[str, tuple[str, str | None]] = {
        f"{backbone}: {score}": ("ddad", backbone)
        for backbone in ("ae", "ae-u")
        for score in ("R_dual", "R_intra", "A_inter", "A_intra", "Rec.")
    }
    few: dict[str, tuple[str, str | None]] = {"DDAD+": ("ddad+", None)}
    many: dict[str, tuple[str, str | None]] = {f"rival {number}": ("ae", None) for number in range(13)}
    panels = draw_sweep(curves_of(own | few), "anomaly-rate").axes
    assert [axes.get_title() for axes in panels] == ["DDAD (AE)", "DDAD (AE-U)"]
    assert [len(axes.lines) for axes in panels] == [6, 6]
    assert [line.get_label() for line in panels[1].lines][-2:] == ["Rec.", "DDAD+"]
    several = draw_sweep(curves_of(own | many), "anomaly-rate").axes
    assert [axes.get_title() for axes in several] == [
        "DDAD (AE)", "DDAD (AE-U)", "other methods", "other methods, 2"
    ]  # fmt: skip
    assert [len(axes.lines) for axes in several] == [5, 5, 8, 5]
    for axes in (*panels, *several):
        assert len({line.get_color() for line in axes.lines}) == len(axes.lines)
        assert axes.get_ylim() == axes.figure.axes[0].get_ylim()
    (alone,) = draw_sweep(curves_of(few), "members").axes
    assert alone.get_title() == ""


def test_bands_stay_within_what_an_auc_can_be() -> None:
    (axes,) = draw_sweep(curves_of({"DDAD+": ("ddad+", None)}, auc=89), "anomaly-rate").axes
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (85, 100)


def test_the_plot_has_a_curve_for_each_method_with_its_means() -> None:
    rows = curves_of({"R_dual": ("ddad", "ae"), "Normal vs unlabeled": ("normal-vs-unlabeled", None)})
    rows.loc[rows["method"] != "ddad", "auc"] -= 10
    (axes,) = draw_sweep(rows, "anomaly-rate").axes
    curves = {line.get_label(): line for line in axes.lines}
    assert list(curves) == ["R_dual", "Normal vs unlabeled"]
    assert list(curves["R_dual"].get_xdata()) == [0, 50, 100]
    assert list(curves["R_dual"].get_ydata()) == [80, 85, 90]
    assert len({line.get_color() for line in axes.lines}) == 2
