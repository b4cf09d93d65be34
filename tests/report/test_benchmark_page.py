from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, Browser
from test_page import embedded

from ddad import Recipe
from ddad.errors import OutputError
from ddad.experiments.benchmark import write_results
from ddad.experiments.published import BENCHMARKS
from ddad.experiments.sweep_results import write_sweep
from ddad.report.page import write_report
from ddad.report.result_text import as_html
from ddad.report.results import read_results
from ddad.report.run_recipes import run_recipes

LABELS = [0] * 20 + [1] * 20
OWN = {"rec": 0.3, "r_intra": 1.0, "r_dual": 2.0}


def stored_run(
    method: str = "ddad",
    seed: int = 0,
    strengths: dict[str, float] | None = None,
    *,
    backbone: str = "ae-u",
    paper: bool = False,
    settings: dict[str, Any] | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """A run as a grid stores it, whose scores tell abnormal images from normal ones as well as `strengths` says."""
    strengths = strengths or (OWN if method == "ddad" else {"image": 1.0})
    rng = np.random.default_rng([seed, len(method)])
    base = rng.normal(size=len(LABELS))
    own = {"detector": method, "reconstruction.backbone": backbone, "seed": seed}
    recipe = Recipe().changed(own | (settings or {}))
    figures = BENCHMARKS["brain-tumor"]
    cells = []
    for score, value in strengths.items():
        auc_paper, ap_paper = figures.figures(method, "ae-u", score) if paper else (None, None)
        cell = {"dataset": "brain-tumor", "split": "data.json", "method": method, "seed": seed, "score": score}
        cell |= {"backbone": backbone if method == "ddad" else None, "auc": 50 + 10 * value + seed, "ap": 50.0}
        cells.append(cell | {"auc_paper": auc_paper, "ap_paper": ap_paper, "seconds": 90.0})
    return {
        "recipe": recipe.model_dump(mode="json"),
        "cohort": "c",
        "labels": LABELS,
        "counts": {"normal": 10, "held_out_normal": 0, "unlabeled": 30},
        "compute": {"device": "cpu", "precision": "bf16", "workers": 1},
        "versions": {"ddad": "0.1.0"},
        "anomaly_rate": None,
        "peak_memory_mb": 1500,
        "scores": {
            score: (base + value * np.array(LABELS) + 0.2 * rng.normal(size=len(LABELS))).tolist()
            for score, value in strengths.items()
        },
        "cells": cells,
        **rest,
    }


def store(folder: Path, records: Sequence[dict[str, Any]]) -> Path:
    (folder / "runs").mkdir(parents=True)
    for number, record in enumerate(records):
        (folder / "runs" / f"{number:02d}.json").write_text(json.dumps(record))
    return folder


def finished(folder: Path, records: Sequence[dict[str, Any]]) -> Path:
    store(folder, records)
    write_results(records, None, "ddad benchmark brain-tumor --out <b>here</b>", folder)
    return folder


def swept(folder: Path, seeds: int = 2) -> Path:
    runs = [
        (rate, stored_run(method, seed, anomaly_rate=rate))
        for rate in (0.0, 0.05, 0.2)
        for method in ("ddad", "fpi")
        for seed in range(seeds)
    ]
    store(folder, [run for _, run in runs])
    write_sweep("anomaly-rate", [rate for rate, _ in runs], [run for _, run in runs], "ddad sweep", folder)
    return folder


def tables_of(page: str) -> list[list[list[str]]]:
    """Return each table of the page's section, row by row, without markup, and with plain spaces."""
    section = page.partition('<section id="tables">')[2].partition("</section>")[0].replace("\N{NO-BREAK SPACE}", " ")
    return [
        [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)]
        for table in re.findall(r"<table>(.*?)</table>", section, re.DOTALL)
    ]


def test_a_benchmark_has_the_tables_of_results_md_cell_by_cell(tmp_path: Path) -> None:
    methods = ("ddad", "ae", "fpi", "normal-vs-unlabeled")
    folder = finished(tmp_path / "b", [stored_run(name, seed, paper=True) for name in methods for seed in (0, 1)])

    page = write_report(folder).read_text()

    lines = (folder / "results.md").read_text().splitlines()
    written = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|") and not line.startswith("|-")
    ]
    shown = [row for table in tables_of(page) for row in table]
    plain = [[cell.replace("<strong>", "**").replace("</strong>", "**") for cell in row] for row in shown]
    assert plain == written
    assert shown[0][3:7] == ["AUC", "AUC (paper)", "AP", "AP (paper)"]
    assert any(cell.startswith("<strong><ins>") for row in shown for cell in row)
    assert "<h3>Methods (Table 2)</h3>" in page
    assert "not told apart from" in page
    assert "1.5 GB" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert len(embedded(page, "counts")) == 2 * (3 + 1 + 1 + 1)


def test_a_benchmark_without_figures_of_the_paper_has_no_columns_for_them(tmp_path: Path) -> None:
    assert "(paper)" not in write_report(finished(tmp_path / "b", [stored_run()])).read_text()


def test_nothing_of_the_tables_text_becomes_other_markup(tmp_path: Path) -> None:
    folder = finished(tmp_path / "b", [stored_run()])
    with (folder / "results.md").open("a") as file:
        file.write(
            "\n<script>alert(1)</script> ![x](http://elsewhere/x.png) [x](javascript:alert(1)) <http://elsewhere>\n"
        )

    page = write_report(folder).read_text()

    assert "<script>alert" not in page
    assert "<b>here" not in page
    assert "<img" not in page
    assert "href=" not in page


def test_a_pattern_in_a_title_stays_a_pattern() -> None:
    text = "# unseen glioma=*-gl* and _x_ __y__\n\n**best** 1.0 ± 0.2 [0.8, 1.2]\n"
    assert as_html(text) == (
        "<h2>unseen glioma=*-gl* and _x_ __y__</h2>\n<p><strong>best</strong> 1.0\xa0±\xa00.2 [0.8,\xa01.2]</p>\n"
    )


def test_a_sweep_has_its_plot_and_table(tmp_path: Path) -> None:
    page = write_report(swept(tmp_path / "s")).read_text()

    plot = page.partition('<section id="plot">')[2].partition("</section>")[0]
    assert 'aria-label="AUC over anomaly rate of the unlabeled images"' in plot
    assert re.findall(r"</svg>([^<]+)</span>", plot) == ["R_dual", "R_intra", "Rec.", "FPI"]
    assert plot.count('class="spread"') == 4
    assert "R_dual at 5 %: 70.5 ± 0.7" in plot
    assert re.findall(r'text-anchor="middle">([\d.]+)<', plot) == ["0", "5", "20"]
    table, tests = tables_of(page)
    assert [row[0] for row in table] == ["anomaly rate of the unlabeled images", "0 %", "5 %", "20 %"]
    assert table[1][1].startswith("70.5 ± 0.7 [")
    assert tests[0][1:] == ["highest AUC", "not told from it"]


def test_a_folder_of_a_benchmark_and_a_sweep_has_the_tables_of_both(tmp_path: Path) -> None:
    folder = swept(tmp_path / "s", seeds=1)
    write_results([stored_run()], None, "ddad benchmark", folder)

    page = write_report(folder).read_text()

    assert "ddad report · benchmark and sweep ·" in page
    assert '<section id="plot">' in page
    assert page.index("Methods (Table 2)") < page.index("<h2>AUC over anomaly rate of the unlabeled images</h2>")
    assert "the tables are made of" not in page  # which runs belong to which is not known


def test_a_sweep_of_one_seed_has_no_band(tmp_path: Path) -> None:
    page = write_report(swept(tmp_path / "s", seeds=1)).read_text()
    assert "R_dual at 5 %: 70.0<" in page
    assert 'class="spread"' not in page


def test_a_sweep_on_a_logarithmic_axis_has_its_values_as_ticks(tmp_path: Path) -> None:
    runs = [stored_run(settings={"reconstruction.latent_size": size}) for size in (4, 16, 64)]
    folder = store(tmp_path / "s", runs)
    write_sweep("latent-size", (4, 16, 64), runs, "ddad sweep", folder)

    plot = write_report(folder).read_text().partition('<section id="plot">')[2].partition("</section>")[0]

    ticks = re.findall(r'<text x="([\d.]+)"[^>]*middle">(\d+)<', plot)
    places = [float(place) for place, _ in ticks]
    assert [label for _, label in ticks] == ["4", "16", "64"]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)


def test_an_unfinished_benchmark_has_tables_of_what_is_finished(tmp_path: Path) -> None:
    records = [stored_run(), stored_run(seed=1), stored_run("fpi")]
    folder = store(tmp_path / "b", records)

    page = write_report(folder).read_text()

    finished(tmp_path / "whole", records)
    assert "Runs that are finished" in page
    assert "comparisons.csv" not in page
    assert tables_of(page) == tables_of(write_report(tmp_path / "whole").read_text())


@pytest.mark.parametrize(
    "other", [{"anomaly_rate": 0.2}, {"settings": {"reconstruction.members": 1}}, {"split": "data.leakfree.json"}]
)
def test_no_tables_are_made_of_runs_in_several_settings(tmp_path: Path, other: dict[str, Any]) -> None:
    """A mean over settings would pass for one over seeds."""
    split = other.pop("split", "data.json")
    second = stored_run(seed=1, **other)
    second["cells"] = [cell | {"split": split} for cell in second["cells"]]

    page = write_report(store(tmp_path / "b", [stored_run(), second])).read_text()

    assert '<section id="tables">' not in page
    assert "Tables: there is no results.md or sweep.md yet" in page


def test_runs_in_several_settings_can_be_told_apart(tmp_path: Path) -> None:
    records = [stored_run(settings={"reconstruction.members": count}) for count in (1, 3)]
    records += [stored_run("fpi", anomaly_rate=rate) for rate in (0.0, 0.2)]

    found = read_results(store(tmp_path / "b", records))

    assert [run.title for run in found.runs] == [
        "brain-tumor · data.json · ddad · ae-u · reconstruction.members 1 · seed 0",
        "brain-tumor · data.json · ddad · ae-u · seed 0",
        "brain-tumor · data.json · fpi · anomaly rate 0 % · seed 0",
        "brain-tumor · data.json · fpi · anomaly rate 20 % · seed 0",
    ]
    assert found.primary == "r_dual"  # of DDAD, whatever runs come last


def test_tables_and_runs_that_are_not_of_the_same_runs_are_told(tmp_path: Path) -> None:
    folder = finished(tmp_path / "b", [stored_run()])
    (folder / "runs" / "later.json").write_text(json.dumps(stored_run(seed=1)))
    assert "the tables are made of 1, and runs/ holds 2" in write_report(folder).read_text()


def test_only_stored_runs_are_counted(tmp_path: Path) -> None:
    folder = finished(tmp_path / "b", [stored_run(), stored_run(seed=1)])
    (folder / "runs" / "notes.json").write_text('{"mine": 1}')
    (folder / "runs" / "cut.json").write_text('{"cells": [')

    page = write_report(folder).read_text()

    assert "<dd>2</dd><dt>runs</dt>" in page
    again = "Remove it, and the run is done again."
    assert f"<li>runs/notes.json: is no stored run. {again}</li>" in page
    assert re.search(rf"<li>runs/cut.json: damaged \(.+\). {again}</li>", page)


def test_tables_are_shown_without_the_runs(tmp_path: Path) -> None:
    folder = finished(tmp_path / "b", [stored_run()])
    for file in (folder / "runs").iterdir():
        file.unlink()
    assert len(tables_of(write_report(folder).read_text())) == 4  # Tables 2 and 3, tests of either
    (folder / "results.md").unlink()
    with pytest.raises(OutputError, match="no finished run"):
        read_results(folder)


def test_a_recipe_is_divided_into_what_is_shared_and_what_differs() -> None:
    records = [
        *(stored_run(backbone=name, seed=seed) for name in ("ae", "ae-u") for seed in (0, 1)),
        stored_run("fpi", settings={"segmentation.epochs": 7}),
        stored_run("cutpaste", settings={"segmentation.epochs": 9}),  # which it does not read
    ]
    shared, own = run_recipes(records)
    assert own == [("DDAD (AE)", "reconstruction.backbone = ae"), ("DDAD (AE-U)", "reconstruction.backbone = ae-u")]
    told = dict(shared)
    assert told["seed"] == "0, 1"
    assert told["segmentation.epochs"] == "7"
    assert "detector" not in told
    assert not [name for name in told if name.startswith("igd.")]  # nobody reads it


@pytest.mark.parametrize(("method", "slots"), [("ae", None), ("ae-u", None), ("vae", None), ("memae", "25")])
def test_a_memory_stands_in_the_recipe_of_the_method_that_has_one(method: str, slots: str | None) -> None:
    shared = dict(run_recipes([stored_run(method)]).shared)
    assert shared["reconstruction.latent_size"] == "16"
    assert shared.get("reconstruction.memory_slots") == slots


@pytest.mark.parametrize(("backbone", "slots"), [("ae-u", None), ("memae", "25")])
def test_a_memory_stands_in_the_recipe_of_ddad_with_the_backbone_that_has_one(backbone: str, slots: str | None) -> None:
    shared = dict(run_recipes([stored_run(backbone=backbone)]).shared)
    assert shared.get("reconstruction.memory_slots") == slots


def test_runs_of_one_recipe_have_it_whole(tmp_path: Path) -> None:
    page = write_report(finished(tmp_path / "b", [stored_run(seed=seed) for seed in (0, 1)])).read_text()
    assert "<dt>reconstruction.backbone</dt><dd>ae-u</dd>" in page
    assert "<dt>detector</dt><dd>ddad</dd>" in page
    assert "What differs" not in page


@pytest.mark.parametrize(
    ("name", "column"), [("results.csv", "auc"), ("sweep.csv", "auc"), ("sweep.csv", "value"), ("sweep.csv", "seconds")]
)
def test_a_cell_that_is_no_number_is_named(tmp_path: Path, name: str, column: str) -> None:
    folder = swept(tmp_path / "s") if name == "sweep.csv" else finished(tmp_path / "b", [stored_run()])
    table = pd.read_csv(folder / name, dtype=object)
    table.loc[1, column] = "xx"
    table.to_csv(folder / name, index=False)
    with pytest.raises(OutputError, match=rf"{name}: line 3, column {column}: 'xx', where a number belongs"):
        write_report(folder)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium to look at the report with")
    with Browser(tmp_path / "profile") as opened:
        yield opened


def test_tables_and_plot_fit_any_width_and_paper(tmp_path: Path, browser: Browser) -> None:
    methods = ("ddad", "ae", "memae", "fpi", "normal-vs-unlabeled")
    records = [stored_run(name, seed, paper=True) for name in methods for seed in (0, 1)]
    for file in (write_report(finished(tmp_path / "b", records)), write_report(swept(tmp_path / "s"))):
        for width in (320, 400, 1400):
            browser.show(file, width)
            assert browser.value("document.documentElement.scrollWidth") <= width
        browser.show(file, 720, paper=True)  # an A4 page in pixels
        widths = browser.value("[...document.querySelectorAll('table')].map((table) => table.scrollWidth)")
        assert max(widths) <= 720


def test_curves_of_a_sweep_stand_out_from_the_ground_in_either_scheme(tmp_path: Path, browser: Browser) -> None:
    file = write_report(swept(tmp_path / "s"))
    script = """[getComputedStyle(document.querySelector('section')).backgroundColor,
        ...[...document.querySelectorAll('#plot figure > svg polyline')].map((one) => getComputedStyle(one).stroke)]"""
    for dark in (False, True):
        browser.show(file, dark=dark)
        ground, *lines = (np.array(re.findall(r"\d+", colour)[:3], float) for colour in browser.value(script))
        assert len(lines) == 4
        assert len({tuple(line) for line in lines}) == 4
        assert all(np.abs(line - ground).max() > 100 for line in lines)
