from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddad.evaluation import delong_test
from ddad.experiments.benchmark import write_results
from ddad.experiments.comparisons import comparisons, pooled_scores, resampled
from ddad.experiments.run import cells_of
from ddad.experiments.tables import constant_note, methods_table, scores_table, significance_table, summary
from ddad.recipe import Recipe
from support import tiny_recipe

LABELS = [0] * 60 + [1] * 60
SCORES = ("rec", "rec_ensemble", "a_intra", "a_inter", "r_intra", "r_dual")


def record(method: str, seed: int, strength: dict[str, float], labels: list[int] = LABELS) -> dict[str, Any]:
    rng = np.random.default_rng([seed, len(method)])
    backbone = "ae-u" if method == "ddad" else None
    base = rng.normal(size=len(labels))
    scores = {
        score: (base + value * np.array(labels) + 0.2 * rng.normal(size=len(labels))).tolist()
        for score, value in strength.items()
    }
    cells = [
        {
            "method": method, "backbone": backbone, "score": score, "seed": seed, "auc": 50 + 10 * value + seed,
            "ap": 50.0, "auc_paper": None, "ap_paper": None, "seconds": 90.0,
        }
        for score, value in strength.items()
    ]  # fmt: skip
    measured = {"peak_memory_mb": 1500, "compute": {"device": "cpu"}}
    return {"cohort": "c", "labels": labels, "scores": scores, "cells": cells, **measured}


@pytest.fixture
def records() -> list[dict[str, Any]]:
    own = dict(zip(SCORES, (0.5, 0.5, 1.0, 2.0, 1.0, 3.0), strict=True))
    return [
        *(record("ddad", seed, own) for seed in (0, 1)),
        *(record("ae", seed, {"image": 0.5}) for seed in (0, 1)),
        record("normal-vs-unlabeled", 0, {"image": 2.9}),
    ]


def test_pairs_are_tested_on_the_mean_over_seeds(records: list[dict[str, Any]]) -> None:
    scores = pooled_scores(records)
    pairs = comparisons(scores, resampled(scores))
    row = pairs[(pairs["first"] == "AE") & (pairs["second"] == "DDAD (AE-U) R_dual")].iloc[0]
    exact = delong_test(
        LABELS, [one["scores"]["image"] for one in records[2:4]], [one["scores"]["r_dual"] for one in records[:2]]
    )
    assert row["auc_difference"] == round(100 * exact.difference, 2)
    assert row["auc_p"] == pytest.approx(exact.p_value)
    assert row["auc_significant"]
    assert row["auc_low"] < row["auc_difference"] < row["auc_high"]
    assert (pairs["auc_p_holm"] >= pairs["auc_p"]).all()
    assert pairs["family"].value_counts().to_dict() == {"scores of AE-U": 15, "methods": 6}


def test_a_pair_is_tested_on_the_seeds_that_both_have(records: list[dict[str, Any]]) -> None:
    scores = pooled_scores(records)
    pairs = comparisons(scores, resampled(scores))
    row = pairs[(pairs["first"] == "Normal vs unlabeled") & (pairs["second"] == "DDAD (AE-U) R_dual")].iloc[0]
    exact = delong_test(LABELS, records[4]["scores"]["image"], records[0]["scores"]["r_dual"])
    assert row["seeds"] == 1
    assert row["auc_p"] == pytest.approx(exact.p_value)
    assert row["auc_difference"] == round(100 * exact.difference, 2)
    alone = pooled_scores([records[0], records[4]])  # as if there were no other seed
    same = comparisons(alone, resampled(alone))
    other = same[(same["first"] == row["first"]) & (same["second"] == row["second"])].iloc[0]
    assert (row["auc_low"], row["ap_p"]) == (other["auc_low"], other["ap_p"])


def test_without_a_seed_in_common_nothing_is_tested(records: list[dict[str, Any]]) -> None:
    records[4] = record("normal-vs-unlabeled", 7, {"image": 2.9})
    scores = pooled_scores(records)
    pairs = comparisons(scores, resampled(scores))
    own = pairs[pairs["first"] == "Normal vs unlabeled"]
    assert set(own["seeds"]) == {0}
    assert own["auc_p"].isna().all()
    assert not own["auc_significant"].any()


def test_a_significant_difference_is_said_of_the_better_one(records: list[dict[str, Any]]) -> None:
    scores = pooled_scores(records)
    table = significance_table(comparisons(scores, resampled(scores)), "methods").set_index("Method")
    assert table.loc["DDAD (AE-U) R_dual", "significantly better than"] == "AE, DDAD (AE-U) R_intra"
    assert table.loc["DDAD (AE-U) R_dual", "not told apart from"] == "Normal vs unlabeled"
    assert table.loc["AE", "significantly better than"] == "–"


def test_runs_on_other_images_are_left_out_and_named(records: list[dict[str, Any]]) -> None:
    records.append(record("fpi", 0, {"image": 1.0}, LABELS[1:]))
    scores = pooled_scores(records)
    assert scores.left_out == ["FPI, seed 0"]
    assert "fpi" not in {one.method for one in scores.by_contender}


def test_groups_of_the_records_stand_behind_every_test(records: list[dict[str, Any]]) -> None:
    groups = [place // 6 for place in range(120)]
    alone = pooled_scores(records)
    assert alone.groups is None
    records[1]["groups"] = groups  # the others are of an earlier version
    scores = pooled_scores(records)
    assert scores.groups == groups
    assert scores.independent() == (10, 10)
    row, before = (
        next(
            pair
            for pair in comparisons(some, resampled(some)).to_dict("records")
            if (pair["first"], pair["second"]) == ("AE", "DDAD (AE-U) R_intra")
        )
        for some in (scores, alone)
    )
    exact = delong_test(
        LABELS,
        *(
            np.array([one["scores"][score] for one in some])
            for some, score in ((records[2:4], "image"), (records[:2], "r_intra"))
        ),
        groups=groups,
    )
    assert row["auc_p"] == pytest.approx(exact.p_value)
    assert row["auc_difference"] == before["auc_difference"]
    assert (row["auc_low"], row["auc_p_bootstrap"]) != (before["auc_low"], before["auc_p_bootstrap"])


def test_a_difference_that_does_not_vary_is_not_significant() -> None:
    one, other = (record(method, 0, {"image": 1.0}, [0, 0, 1, 1]) for method in ("ae", "fpi"))
    one["scores"]["image"], other["scores"]["image"] = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    one["groups"] = [0, 1, 0, 1]  # of two patients, whose components cancel out
    scores = pooled_scores([one, other])
    (row,) = comparisons(scores, resampled(scores)).to_dict("records")
    assert (row["auc_difference"], row["auc_significant"]) == (25, False)
    assert np.isnan([row["auc_p"], row["auc_p_holm"]]).all()


def test_images_of_one_patient_are_not_tested(records: list[dict[str, Any]]) -> None:
    records[0]["groups"] = [*range(60), *[60] * 60]
    scores = pooled_scores(records)
    assert comparisons(scores, resampled(scores)).empty


def test_one_abnormal_image_gives_tables_without_tests(tmp_path: Path) -> None:
    labels = [0] * 6 + [1]
    few = [record(method, 0, {"image": 1.0}, labels) for method in ("ae", "fpi")]
    for one in few:
        one["recipe"] = tiny_recipe().model_dump(mode="json")
        one |= {"counts": {}, "compute": {"device": "cpu", "precision": "fp32", "workers": 1}, "versions": {}}
        one["cells"][0] |= {"dataset": "d", "split": "data.json"}
    write_results(few, None, "ddad benchmark", tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "Differences are not tested" in text
    assert "skipped" not in text
    assert "there are 6 and 1" in text
    assert "AE" in text


def test_the_results_say_what_each_method_has_unlike_its_preset_and_what_was_skipped(tmp_path: Path) -> None:
    changes = {"ddad": {"refinement.epochs": 7}, "fpi": {"segmentation.epochs": 9}, "igd": {"segmentation.epochs": 5}}
    runs = []
    for number, (method, own) in enumerate(changes.items()):
        run = record(method, 0, {"r_dual" if method == "ddad" else "image": 1.0})
        run["recipe"] = Recipe().changed({"detector": method, "holdout": 0, **own}).model_dump(mode="json")
        run |= {"counts": {}, "compute": {"device": "cpu", "precision": "fp32", "workers": 1}, "versions": {}}
        run["skipped"] = [[f"d/{place}.png", "is damaged"] for place in range(number + 3)]
        run["cells"][0] |= {"dataset": "d", "split": "data.json"}
        runs.append(run)
    write_results(runs, None, "ddad benchmark", tmp_path)
    text = (tmp_path / "results.md").read_text()
    # IGD reads no segmentation.
    assert text.splitlines()[0] == "# d, data.json, recipe fast, refinement.epochs 7, segmentation.epochs 9"
    assert "- skipped: 5 files that cannot be used: d/0.png, d/1.png, d/2.png and 2 more\n" in text


def test_tables_are_marked_as_in_the_paper(records: list[dict[str, Any]]) -> None:
    rows = summary(cells_of(records))
    methods = methods_table(rows)
    assert methods[["Unlabeled images", "Method", "Score", "AUC", "Memory"]].to_numpy().tolist() == [
        ["no", "AE", "", "<ins>55.5 ± 0.7</ins>", "1.5 GB"],
        ["no", "DDAD (AE-U)", "R_intra", "**60.5 ± 0.7**", "1.5 GB"],
        ["yes", "Normal vs unlabeled", "", "79.0", "1.5 GB"],
        ["yes", "DDAD (AE-U)", "R_dual", "**<ins>80.5 ± 0.7</ins>**", "1.5 GB"],
    ]
    assert scores_table(rows).to_numpy().tolist() == [
        ["Rec.", "55.5 ± 0.7"],
        ["Rec. (ensemble)", "55.5 ± 0.7"],
        ["A_intra", "60.5 ± 0.7"],
        ["A_inter", "**70.5 ± 0.7**"],
        ["R_intra", "60.5 ± 0.7"],
        ["R_dual", "**<ins>80.5 ± 0.7</ins>**"],
    ]


def test_a_constant_score_has_a_dash_and_no_test(records: list[dict[str, Any]]) -> None:
    for one in records[:2]:
        one["scores"] |= dict.fromkeys(("a_intra", "r_intra"), [0.25] * len(LABELS))
        for cell in one["cells"]:
            cell["auc"] = 50.0 if cell["score"] in ("a_intra", "r_intra") else cell["auc"]
    scores = pooled_scores(records)
    rows = summary(cells_of(records), resampled(scores))
    assert methods_table(rows).set_index("Score").loc["R_intra", ["AUC", "AP"]].tolist() == ["–", "–"]
    assert [text for _, text in scores_table(rows).to_numpy().tolist()].count("–") == 2
    assert not (comparisons(scores, resampled(scores))[["first", "second"]] == "R_intra").any(axis=None)
    assert constant_note(rows).startswith("\n–: constant, the same for every image: DDAD (AE-U) A_intra, DDAD (AE-U)")


def test_figures_that_print_the_same_are_marked_alike(records: list[dict[str, Any]]) -> None:
    """94.45 prints as 94.5, and 94.35 as 94.3: as text rounds, not as pandas does."""
    rows = summary(cells_of(records))
    rows["auc_sd"] = float("nan")
    own = rows["method"] == "ddad"
    rows.loc[own, "auc"] = [94.45, 94.4, 94.35, 94.31, 94.2, 94.1][: own.sum()]
    marked = {text: mark for text in scores_table(rows).iloc[:, 1] for mark in [text.strip("*<ins>/ ")]}
    assert sorted(marked) == ["**94.4**", "**<ins>94.5</ins>**", "94.1", "94.2", "94.3"]


def test_time_and_memory_are_of_a_processor_where_one_computed_any(records: list[dict[str, Any]]) -> None:
    by_gpu = records[0]
    by_gpu |= {"peak_memory_mb": 9000, "compute": {"device": "cuda"}}
    for cell in by_gpu["cells"]:
        cell["seconds"] = 7.0
    method, backbone = (by_gpu["cells"][0][name] for name in ("method", "backbone"))
    rows = summary(cells_of(records))
    own = rows[(rows["method"] == method) & (rows["backbone"].fillna("") == (backbone or ""))]
    assert own["seeds"].tolist() == [2] * len(own)
    assert own["seconds"].tolist() == [records[1]["cells"][0]["seconds"]] * len(own)
    assert own["memory_mb"].tolist() == [1500] * len(own)
    alone = summary(cells_of([by_gpu]))
    assert alone[["seconds", "memory_mb"]].drop_duplicates().to_numpy().tolist() == [[7.0, 9000]]
    assert set(methods_table(alone)["Time a run"]) == {"7 s"}
    beside = methods_table(summary(cells_of([by_gpu, *records[2:]]))).set_index("Method")["Time a run"]
    assert set(beside.loc["DDAD (AE-U)"]) == {"7 s (GPU)"}
    assert beside.loc["AE"] == "1 min 30 s"


def test_records_of_earlier_versions_have_no_memory(records: list[dict[str, Any]]) -> None:
    for one in records:
        del one["peak_memory_mb"]
    assert "Memory" not in methods_table(summary(cells_of(records)))
    scores = pooled_scores(records)
    text = methods_table(summary(cells_of(records), resampled(scores)))["AUC"].iloc[0]
    assert text.startswith("<ins>55.5 ± 0.7 [")
