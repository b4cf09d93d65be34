from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ddad.cohorts import Cohort
from ddad.cohorts.benchmark_folder import read_benchmark, unlabeled_counts
from ddad.errors import CohortError


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{index}.png" for index in range(count)]


@pytest.fixture
def split() -> dict[str, Any]:
    unlabeled = {"0": names("un", 4), "1": names("ua", 6)}
    train = {"0": names("n", 3), "unlabeled": unlabeled}
    return {"train": train, "test": {"0": names("tn", 2), "1": names("ta", 2)}}


@pytest.fixture
def folder(tmp_path: Path, split: dict[str, Any]) -> Path:
    (tmp_path / "images").mkdir()
    lists = [split["train"]["0"], *split["train"]["unlabeled"].values(), *split["test"].values()]
    for index, name in enumerate(name for one in lists for name in one):
        pixels = np.random.default_rng(index).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    (tmp_path / "data.json").write_text(json.dumps(split))
    return tmp_path


def test_the_split_becomes_roles_and_hides_the_unlabeled_labels(folder: Path) -> None:
    cohort = Cohort.from_benchmark(folder)
    assert cohort.counts() == {"normal": 3, "unlabeled": 10, "test": 4, "test_normal": 2, "test_abnormal": 2}
    assert cohort.of("unlabeled")["label"].isna().all()
    assert not any(origin.startswith("data.json, train.unlabeled.") for origin in cohort.origins)
    assert cohort.name == folder.name
    assert cohort.notes == ()


def test_a_split_may_list_known_abnormal_images(folder: Path, split: dict[str, Any]) -> None:
    split["train"]["1"] = [split["train"]["unlabeled"]["1"].pop(), split["train"]["unlabeled"]["1"].pop()]
    (folder / "data.json").write_text(json.dumps(split))
    cohort = Cohort.from_benchmark(folder)
    assert [path.name for path in cohort.paths("abnormal")] == split["train"]["1"]
    assert (cohort.counts()["abnormal"], cohort.counts()["unlabeled"]) == (2, 8)
    assert cohort.of("abnormal")["label"].isna().all()
    kept_out = Cohort.from_benchmark(folder, unseen="*a*", anomaly_rate=0)
    assert kept_out.counts()["unlabeled"] == 4
    assert "abnormal" not in kept_out.counts()


def test_other_splits_lie_beside_or_elsewhere(folder: Path, split: dict[str, Any], tmp_path: Path) -> None:
    split["train"]["0"].pop()
    (folder / "data.other.json").write_text(json.dumps(split))
    assert Cohort.from_benchmark(folder, split="data.other.json").counts()["normal"] == 2
    elsewhere = (folder / "data.other.json").rename(tmp_path / "images" / "elsewhere.json")
    assert Cohort.from_benchmark(folder, split=elsewhere.resolve()).counts()["normal"] == 2


def test_anomaly_rate_takes_the_first_names_of_each_list(folder: Path) -> None:
    cohort = Cohort.from_benchmark(folder, anomaly_rate=0.5, unlabeled_total=6)
    assert [path.name for path in cohort.paths("unlabeled")] == names("un", 3) + names("ua", 3)
    assert cohort.notes == ()
    shrunk = Cohort.from_benchmark(folder, anomaly_rate=0.2)
    assert [path.name for path in shrunk.paths("unlabeled")] == names("un", 4) + names("ua", 1)
    assert "5 unlabeled images instead of 10" in shrunk.notes[0]
    same_rate = Cohort.from_benchmark(folder, unlabeled_total=5)
    assert [path.name for path in same_rate.paths("unlabeled")] == names("un", 2) + names("ua", 3)


@pytest.mark.parametrize(
    ("normals", "abnormals", "rate", "total", "wanted"),
    [
        (400, 600, 0.6, 1000, (400, 600)),
        (400, 600, 0.0, 1000, (400, 0)),
        (400, 600, 1.0, 1000, (0, 600)),
        (400, 600, 0.2, 1000, (400, 100)),
        (4000, 4000, 0.28, 4000, (2880, 1120)),
        (3, 3, 0.5, 5, (3, 2)),
    ],
)
def test_unlabeled_counts(normals: int, abnormals: int, rate: float, total: int, wanted: tuple[int, int]) -> None:
    assert unlabeled_counts(normals, abnormals, rate, total) == wanted


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0, 1), st.integers(1, 2000))
def test_unlabeled_counts_stay_within_the_lists_and_near_the_rate(
    normals: int, abnormals: int, rate: float, total: int
) -> None:
    normal, abnormal = unlabeled_counts(normals, abnormals, rate, total)
    assert 0 <= normal <= normals
    assert 0 <= abnormal <= abnormals
    assert normal + abnormal <= total
    assert abs(abnormal - rate * (normal + abnormal)) <= 1.01
    exhausted = normal + 1.01 >= normals * (rate < 1) and rate < 1
    assert normal + abnormal == total or exhausted or abnormal + 1.01 >= abnormals


@pytest.mark.parametrize("rate", [-0.1, 1.1, 60.0, float("nan")])
def test_rates_outside_0_and_1_are_refused(folder: Path, rate: float) -> None:
    with pytest.raises(CohortError, match=r"anomaly_rate is .*60 % is 0\.6"):
        Cohort.from_benchmark(folder, anomaly_rate=rate)


def test_impossible_rates_and_totals_are_refused(folder: Path, split: dict[str, Any]) -> None:
    with pytest.raises(CohortError, match="unlabeled_total is 0"):
        Cohort.from_benchmark(folder, anomaly_rate=0.5, unlabeled_total=0)
    split["train"]["unlabeled"]["1"] = []
    (folder / "data.json").write_text(json.dumps(split))
    assert Cohort.from_benchmark(folder).counts()["unlabeled"] == 4
    with pytest.raises(CohortError, match=r"train\.unlabeled\.1 has 0\. Choose a rate"):
        Cohort.from_benchmark(folder, anomaly_rate=0.5)


def test_splits_that_lack_keys_or_repeat_names_are_refused(folder: Path, split: dict[str, Any]) -> None:
    def refused(message: str) -> None:
        (folder / "data.json").write_text(json.dumps(split))
        with pytest.raises(CohortError, match=message):
            Cohort.from_benchmark(folder)

    split["test"]["0"].append("n0.png")
    refused(r"data\.json: n0\.png is in both train\.0 and test\.0")
    split["test"]["0"] = ["tn0.png", "tn0.png"]
    refused(r"tn0\.png is twice in test\.0")
    split["test"]["0"] = [7]
    refused(r"test\.0 must be a list of image names")
    split["test"]["0"] = [f"gone{index}.png" for index in range(5)]
    refused(r"5 of 20 images are missing: .*gone0\.png \(data\.json, test\.0\).* and 2 more")
    del split["train"]["unlabeled"]["1"]
    refused(r"lacks train\.unlabeled\.1")
    split.clear()
    refused(r"lacks train\.0")


def test_what_is_no_benchmark_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"no such split\. JSON files beside it: data\.json"):
        Cohort.from_benchmark(folder, split="data.leakfree.json")
    with pytest.raises(CohortError, match=r"nowhere: there is no such folder"):
        Cohort.from_benchmark(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(CohortError, match=r"images: there is no such folder\. A benchmark folder holds"):
        Cohort.from_benchmark(tmp_path / "bare")
    (folder / "data.json").write_text("{")
    with pytest.raises(CohortError, match="is not JSON"):
        Cohort.from_benchmark(folder)


def test_the_published_brain_tumor_split_leaks_and_the_other_does_not(datasets_folder: Path) -> None:
    folder = datasets_folder / "brain_tumor"
    official = Cohort.from_benchmark(folder)
    assert (official.counts()["normal"], official.counts()["unlabeled"], len(official)) == (1000, 1000, 3200)
    assert any("test images have an exact copy among the normal images" in text for text in official.warnings)
    assert Cohort.from_benchmark(folder, split="data.leakfree.json").warnings == ()


def test_an_unseen_class_is_kept_out_of_the_unlabeled_and_tested_alone(folder: Path) -> None:
    cohort = Cohort.from_benchmark(folder, unseen="?a1*")
    assert {path.name for path in cohort.paths("test", 1)} == {"ta1.png"}
    assert [path.name for path in cohort.paths("unlabeled")] == [
        *names("un", 3), "ua0.png", *(f"ua{index}.png" for index in range(2, 6))
    ]  # fmt: skip
    assert cohort.counts()["test_normal"] == 2
    rated = Cohort.from_benchmark(folder, unseen="?a1*", anomaly_rate=1.0)
    assert {path.name for path in rated.paths("unlabeled")}.isdisjoint({"ua1.png"})
    with pytest.raises(CohortError, match=r"no name in test\.1 fits the unseen class 'me\*'"):
        Cohort.from_benchmark(folder, unseen="me*")


def test_the_anomaly_rate_as_listed_is_kept_without_an_unseen_class(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    abnormal = [*names("ua", 22), *names("seen", 8)]
    split = {
        "train": {"0": names("n", 3), "unlabeled": {"0": names("un", 30), "1": abnormal}},
        "test": {"0": names("tn", 2), "1": names("ta", 2)},
    }
    (tmp_path / "data.json").write_text(json.dumps(split))
    rows, notes = read_benchmark(tmp_path, Path("data.json"), None, None, "?a*")
    kept = [row.path.name for row in rows if row.role == "unlabeled"]
    assert kept == [*names("un", 8), *names("seen", 8)]
    assert notes == ["data.json: 16 unlabeled images instead of 38: the lists hold no more at an anomaly rate of 0.5."]
    with pytest.raises(CohortError, match=r"without the unseen class '\[tus\]\*' no name is left .* cannot be 0\.5"):
        read_benchmark(tmp_path, Path("data.json"), None, None, "[tus]*")
    rows, _ = read_benchmark(tmp_path, Path("data.json"), 0.0, None, "[tus]*")
    assert sum(row.role == "unlabeled" for row in rows) == 30
    split["train"]["unlabeled"] = {"0": [], "1": []}  # type: ignore[index]
    (tmp_path / "data.json").write_text(json.dumps(split))
    rows, notes = read_benchmark(tmp_path, Path("data.json"), None, None, "?a*")
    assert (sum(row.role == "unlabeled" for row in rows), notes) == (0, [])


@pytest.mark.parametrize("name", ["../../n0.png", "sub/../../../n0.png"])
def test_names_that_lead_out_of_the_images_are_refused(folder: Path, split: dict[str, Any], name: str) -> None:
    split["train"]["0"].append(name)
    (folder / "data.json").write_text(json.dumps(split))
    with pytest.raises(CohortError, match=rf"data\.json: train\.0 names {re.escape(name)}, which leads out of images/"):
        Cohort.from_benchmark(folder)


def test_fewer_normals_are_part_of_more_and_follow_from_the_seed(folder: Path) -> None:
    drawn = {
        (count, seed): {path.name for path in Cohort.from_benchmark(folder, normals=(count, seed)).paths("normal")}
        for count in (1, 2, 3)
        for seed in range(6)
    }
    for seed in range(6):
        assert drawn[1, seed] < drawn[2, seed] < drawn[3, seed] == set(names("n", 3))
    assert len({frozenset(drawn[1, seed]) for seed in range(6)}) > 1
    with pytest.raises(CohortError, match=r"4 normal images were asked for, but train\.0 has 3"):
        Cohort.from_benchmark(folder, normals=(4, 0))


def test_masks_are_found_at_the_place_of_their_image_or_by_a_name_that_no_other_has(
    folder: Path, split: dict[str, Any]
) -> None:
    split["test"]["1"] = ["p1/s01.png", "p2/s01.png", "p2/s02.png", str(folder / "elsewhere.png")]
    (folder / "data.json").write_text(json.dumps(split))
    for patient in ("p1", "p2"):
        (folder / "masks" / patient).mkdir(parents=True)

    def masks(*files: str) -> list[str | None]:
        for name in files:
            (folder / "masks" / name).touch()
        rows, _ = read_benchmark(folder, Path("data.json"), None, None)
        of_test = [row.mask for row in rows if row.label == 1]
        return [mask and str(mask.relative_to(folder / "masks")) for mask in of_test]

    (folder / "elsewhere.png").touch()  # an image is not its own mask
    assert masks("p1/s01.png", "p2/s02.png") == ["p1/s01.png", None, "p2/s02.png", None]
    assert masks("p2/s01.png", "elsewhere.png") == ["p1/s01.png", "p2/s01.png", "p2/s02.png", "elsewhere.png"]
    for name in ("p1/s01.png", "p2/s01.png"):
        (folder / "masks" / name).unlink()
    with pytest.raises(CohortError, match=r"has the mask .*s01\.png: p1/s01\.png or p2/s01\.png"):
        masks("s01.png")
