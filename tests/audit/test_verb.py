"""`ddad audit` from the command line: what it prints, writes, and exits with."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from test_copies import picture, save

from ddad.audit import DATE, audit_cohort
from ddad.audit.look import DATE_GIVEN
from ddad.cohorts import Cohort, SkippedImage
from ddad.report.audit_page import _spread, write_audit_page
from support import RecordedProgress, run_cli, write_images, write_slice

COUNTS = {"train.0": 16, "train.unlabeled.0": 10, "train.unlabeled.1": 12, "test.0": 12, "test.1": 12}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A benchmark folder where six normal and two abnormal test images have copies in training."""
    names: dict[str, list[str]] = {}
    seed = 0
    for key, count in COUNTS.items():
        for number in range(count):
            seed += 1
            size = 128 if key.endswith("1") else 160
            names.setdefault(key, []).append(f"{key}-{number}.png")
            save(picture(seed, size), tmp_path / "images" / names[key][-1])
    for number in range(6):
        save(picture(1 + number)[:, ::-1], tmp_path / "images" / f"test.0-{number}.png")
    for number in range(2):
        (tmp_path / "images" / f"test.1-{number}.png").write_bytes(
            (tmp_path / "images" / f"train.unlabeled.1-{number}.png").read_bytes()
        )
    split = {
        "train": {"0": names["train.0"], "unlabeled": {k: names[f"train.unlabeled.{k}"] for k in "01"}},
        "test": {k: names[f"test.{k}"] for k in "01"},
    }
    (tmp_path / "data.json").write_text(json.dumps(split))
    return tmp_path


def row(found: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    (own,) = [one for one in found["copies"] if (one["first"], one["second"]) == (first, second)]
    return own


def test_the_object_holds_copies_and_shortcuts(folder, monkeypatch, capsys) -> None:
    outcome = run_cli(monkeypatch, capsys, "audit", "--data", folder, "--json")

    assert outcome.code == 0
    found = outcome.json
    assert row(found, "test normal", "normal") == {
        "first": "test normal",
        "second": "normal",
        "exact": 0,
        "near": 6,
        "of": 12,
    }
    assert row(found, "test abnormal", "unlabeled")["exact"] == 2
    (width,) = [
        one
        for one in found["shortcuts"]
        if one["feature"] == "width" and one["comparison"] == "test normal against test abnormal"
    ]
    assert (width["auc"], width["higher_in"], width["strong"]) == (1.0, "test normal", True)
    assert found["found"] == {"copies": True, "shortcuts": True}
    assert found["groups"]["copies_in_training_and_test"] == 8


def test_the_exit_code_says_what_was_asked_for(folder, monkeypatch, capsys) -> None:
    assert run_cli(monkeypatch, capsys, "audit", "--data", folder, "--fail-on", "copies").code == 4
    clean = ("audit", "--normal", folder / "clean", "--fail-on", "copies", "--fail-on", "shortcuts")
    for seed in range(3):
        save(picture(900 + seed), folder / f"clean/{seed}.png")
    assert run_cli(monkeypatch, capsys, *clean).code == 0
    (folder / "clean/damaged.png").write_bytes((folder / "clean/0.png").read_bytes()[:300])
    outcome = run_cli(monkeypatch, capsys, *clean)
    assert outcome.code == 3
    assert "damaged.png" in outcome.err
    save(picture(900), folder / "clean/copy.png")
    test = ("--test-normal", folder / "other", "--fail-on", "copies")
    save(picture(900), folder / "other/copy.png")
    outcome = run_cli(monkeypatch, capsys, "audit", "--normal", folder / "clean", *test)
    assert outcome.code == 4
    assert "damaged.png" in outcome.err


def test_the_new_split_has_no_leak_and_as_many_images(folder, monkeypatch, capsys) -> None:
    file = folder / "fresh.json"
    outcome = run_cli(monkeypatch, capsys, "audit", "--data", folder, "--write-split", file, "--json")

    assert outcome.json["split"]["after"] == outcome.json["split"]["before"] == COUNTS
    written = json.loads(file.read_text())
    for kind in "01":  # no image changes its label
        lists = written["train"]["unlabeled"][kind] + written["test"][kind]
        lists += written["train"]["0"] if kind == "0" else []
        assert {name.partition("-")[0][-1] for name in lists} == {kind}
    again = audit_cohort(Cohort.from_benchmark(folder, split="fresh.json"))
    assert not again.leaks
    assert again.torn_groups == 0

    refused = run_cli(monkeypatch, capsys, "audit", "--data", folder, "--write-split", file)
    assert refused.code == 1
    assert "--overwrite" in refused.err


def test_images_that_lose_their_label_are_named(folder, monkeypatch, capsys) -> None:
    for number in range(2):
        save(picture(1 + number)[::-1], folder / "images" / f"test.1-{5 + number}.png")  # of train.0, and of test.0
    torn = [
        f"{key}-{number}.png"
        for key, first in (("train.0", 0), ("test.0", 0), ("test.1", 5))
        for number in (first, first + 1)
    ]
    options = ("audit", "--data", folder, "--write-split", folder / "fresh.json", "--out", folder / "audit.html")

    outcome = run_cli(monkeypatch, capsys, *options)

    told = (
        "6 of the images with a label became unlabeled, because images that belong to them have the other one: "
        f"{', '.join(torn[:3])} and 3 more."
    )
    assert told in outcome.err.replace("\n", " ")
    assert f"In the split of --write-split, {told}" in (folder / "audit.html").read_text()
    found = run_cli(monkeypatch, capsys, *options, "--overwrite", "--json").json["split"]
    assert found["contradicted"] == torn
    written = json.loads((folder / "fresh.json").read_text())
    assert set(torn) <= {name for names in written["train"]["unlabeled"].values() for name in names}


def test_example_pairs_begin_with_exact_ones_and_fall_evenly() -> None:
    correlation = np.array([1.0, 1.0000001, *np.linspace(0.999, 0.99, 50), 0.7, 0.6])
    pairs = SimpleNamespace(correlation=correlation, exact=np.arange(len(correlation)) == 0)
    chosen = _spread(SimpleNamespace(pairs=pairs), np.arange(len(correlation)))
    assert chosen[0] == 0
    assert chosen == sorted(chosen)
    assert len(set(chosen)) == 6
    assert {52, 53} <= set(chosen)  # where copies end
    assert _spread(SimpleNamespace(pairs=pairs), np.array([3, 1])) == [1, 3]


def test_contradicted_images_of_folders_do_not_make_the_pile_look_labelled(tmp_path: Path, monkeypatch, capsys) -> None:
    for part, numbers in (
        ("normal", range(6)),
        ("unlabeled", range(6, 12)),
        ("test", range(12, 18)),
        ("ill", (0, 18, 19)),
    ):
        for number in numbers:
            save(picture(number), tmp_path / part / f"{number}.png")
    options = (
        "--normal",
        tmp_path / "normal",
        "--unlabeled",
        tmp_path / "unlabeled",
        "--test-normal",
        tmp_path / "test",
    )
    file = tmp_path / "fresh.json"

    run_cli(monkeypatch, capsys, "audit", *options, "--test-abnormal", tmp_path / "ill", "--write-split", file)

    unlabeled = json.loads(file.read_text())["train"]["unlabeled"]
    assert unlabeled["1"] == []
    names = sorted(Path(name).parent.name + "/" + Path(name).name for name in unlabeled["0"])
    assert names == sorted([*(f"unlabeled/{number}.png" for number in range(6, 12)), "normal/0.png", "ill/0.png"])


def test_unlabeled_images_without_a_known_label_stay_unlabeled(folder, monkeypatch, capsys) -> None:
    for number in range(6):
        save(picture(500 + number), folder / f"n/{number}.png")
        save(picture(600 + number), folder / f"u/{number}.png")
        save(picture(700 + number), folder / f"t/{number}.png")
    save(picture(600)[::-1], folder / "t/copy.png")
    file = folder / "fresh.json"

    options = ("--normal", folder / "n", "--unlabeled", folder / "u", "--test-normal", folder / "t")
    outcome = run_cli(monkeypatch, capsys, "audit", *options, "--write-split", file, "--json")

    assert outcome.code == 0
    written = json.loads(file.read_text())
    unlabeled = {Path(name).relative_to(folder.resolve()).as_posix() for name in written["train"]["unlabeled"]["0"]}
    assert unlabeled == {*(f"u/{number}.png" for number in range(6)), "t/copy.png"}


def test_known_normals_with_a_copy_in_the_pile_stay_known(folder, monkeypatch, capsys) -> None:
    """Both learn from training images: nothing leaks, and nothing moves."""
    for number in range(6):
        save(picture(500 + number), folder / f"n/{number}.png")
        save(picture(500 + number)[:, ::-1], folder / f"u/{number}.png")
    file = folder / "fresh.json"

    options = ("--normal", folder / "n", "--unlabeled", folder / "u", "--write-split", file, "--json")
    assert run_cli(monkeypatch, capsys, "audit", *options).code == 0

    train = json.loads(file.read_text())["train"]
    assert {Path(name).parent.name for name in train["0"]} == {"n"}
    assert (len(train["0"]), len(train["unlabeled"]["0"])) == (6, 6)


def test_the_page_shows_pairs_and_runs_nothing(folder, monkeypatch, capsys) -> None:
    page = folder / "audit.html"
    outcome = run_cli(monkeypatch, capsys, "audit", "--data", folder, "--out", page)

    assert outcome.code == 0
    assert "test normal against test abnormal" in outcome.out
    content = page.read_text()
    assert content.count('src="data:image/webp;base64,') == 2 * (6 + 2)
    assert "<script" not in content
    assert "AUC 1.000" in content


def test_a_page_that_is_there_stays_without_overwrite(folder, monkeypatch, capsys) -> None:
    few = ("audit", "--normal", folder / "few", "--out", folder / "audit.html")
    write_images(folder / "few", 2, size=32)
    assert run_cli(monkeypatch, capsys, *few).code == 0

    refused = run_cli(monkeypatch, capsys, *few)

    assert refused.code == 1
    assert "--out, or pass --overwrite" in refused.err
    assert run_cli(monkeypatch, capsys, *few, "--overwrite").code == 0


def test_images_that_are_all_alike_are_named_so_and_make_no_split(tmp_path: Path, monkeypatch, capsys) -> None:
    for part, count in (("n", 12), ("t", 4)):
        for number in range(count):
            noise = np.random.default_rng([count, number]).normal(0, 4, (160, 160))
            save(picture(0) + noise, tmp_path / part / f"{part}{number}.png")
    (tmp_path / "n/damaged.png").write_bytes((tmp_path / "n/n0.png").read_bytes()[:300])
    file = tmp_path / "fresh.json"

    options = ("--normal", tmp_path / "n", "--test-normal", tmp_path / "t", "--write-split", file)
    outcome = run_cli(monkeypatch, capsys, "audit", *options)

    assert outcome.code == 1
    assert "damaged.png: " in outcome.err
    assert "Groups of copies in both training and test: 1" in outcome.out
    assert "16 of 16 different ones chain into one group" in outcome.err
    assert "test.0 with 0 of 4 images" in outcome.err
    assert not file.exists()
    outcome = run_cli(monkeypatch, capsys, "audit", *options, "--json")
    assert (outcome.code, outcome.out) == (1, "")  # no object that names a split which is not there


def test_every_pair_of_the_page_is_a_step(folder: Path) -> None:
    found = audit_cohort(Cohort.from_benchmark(folder))
    progress = RecordedProgress()

    write_audit_page(replace(found, conflicts=np.array([0, 1])), folder / "audit.html", progress=progress)

    (task,) = progress.tasks
    assert task.done == task.total == 6 + 2 + 2


def test_patients_in_training_and_test_are_found_and_dealt_to_one_side(tmp_path: Path, monkeypatch, capsys) -> None:
    places = {"normal/0": "ann", "normal/1": "bob", "test/2": "ann", "test/3": "cid", "test/4": "ann"}
    for place, patient in places.items():
        write_slice(tmp_path / f"{place}.dcm", patient, f"1.2.{len(patient)}")
    options = ("--normal", tmp_path / "normal", "--test-normal", tmp_path / "test", "--fail-on", "copies", "--json")
    file, page = tmp_path / "fresh.json", tmp_path / "audit.html"

    outcome = run_cli(monkeypatch, capsys, "audit", *options, "--write-split", file, "--out", page)

    assert outcome.code == 4
    assert outcome.json["groups"]["patients_in_training_and_test"] == 1
    assert outcome.json["groups"]["copies_in_training_and_test"] == 0
    ((train, test),) = outcome.json["groups"]["patients_examples"]
    assert (Path(train).name, Path(test).name) == ("0.dcm", "2.dcm")
    assert "patients have images" not in page.read_text()
    assert "Groups (patients) have images in training and in the test" in page.read_text()
    assert "Test images have copies in training" not in page.read_text()
    assert outcome.json["found"]["copies"]
    assert "<div><dd>1</dd><dt>group (patient) in both training and test</dt></div>" in page.read_text()
    written = json.loads(file.read_text())
    sides = [{places[f"{Path(name).parent.name}/{Path(name).stem}"] for name in written[key]["0"]} for key in written]
    assert not sides[0] & sides[1]


def test_a_manifest_with_a_torn_group_can_be_audited(tmp_path: Path, monkeypatch, capsys) -> None:
    paths = write_images(tmp_path, 4, size=32)
    rows = zip(
        paths, ("normal", "normal", "test", "test"), ("", "", "0", "0"), ("ann", "bob", "ann", "cid"), strict=True
    )
    lines = ["path,role,label,group", *(f"{path.name},{','.join(rest)}" for path, *rest in rows)]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    file = tmp_path / "fresh.json"

    outcome = run_cli(monkeypatch, capsys, "audit", "--manifest", tmp_path / "all.csv", "--write-split", file, "--json")

    assert outcome.code == 0
    assert outcome.json["groups"]["patients_in_training_and_test"] == 1
    written = json.loads(file.read_text())
    sides = [{Path(name).name for name in written[key]["0"]} for key in ("train", "test")]
    ann = {paths[0].name, paths[2].name}
    assert ann <= sides[0] or ann <= sides[1]


def test_normal_images_are_compared_with_abnormal_ones(folder, monkeypatch, capsys) -> None:
    for number in range(12):
        save(picture(2000 + number), folder / f"n/{number}.png")
        save(picture(3000 + number, 96), folder / f"a/{number}.png")

    outcome = run_cli(monkeypatch, capsys, "audit", "--normal", folder / "n", "--abnormal", folder / "a", "--json")

    (width,) = [one for one in outcome.json["shortcuts"] if one["feature"] == "width"]
    assert (width["comparison"], width["higher_in"], width["strong"]) == ("normal against abnormal", "normal", True)


def test_the_day_of_an_image_is_used_and_not_shown(tmp_path: Path) -> None:
    for part, year in (("n", 2020), ("u", 2023)):
        for number in range(1, 25):
            data = pydicom.dcmread(write_slice(tmp_path / part / f"{part}{number}.dcm", f"{part}{number}", None))
            data.AcquisitionDate = f"{year}01{number:02}"
            data.save_as(data.filename)
    audit = audit_cohort(Cohort.from_folders(normal=tmp_path / "n", unlabeled=tmp_path / "u"))
    (found,) = [one for one in audit.shortcuts if one.feature == DATE]
    assert (found.auc, found.strong) == (1.0, True)

    write_audit_page(audit, tmp_path / "audit.html")

    page = (tmp_path / "audit.html").read_text()
    assert DATE in page
    for year in (2020, 2023):
        assert str(date(year, 1, 1).toordinal())[:4] not in page


def test_a_day_that_only_one_side_has_is_a_shortcut(tmp_path: Path) -> None:
    for part in "nu":
        for number in range(1, 25):
            data = pydicom.dcmread(write_slice(tmp_path / part / f"{part}{number}.dcm", f"{part}{number}", None))
            if part == "n":
                data.AcquisitionDate = f"202001{number:02}"
            data.save_as(data.filename)

    audit = audit_cohort(Cohort.from_folders(normal=tmp_path / "n", unlabeled=tmp_path / "u"))

    (found,) = [one for one in audit.shortcuts if one.feature == DATE_GIVEN]
    assert (found.auc, found.higher_in, found.note) == (1.0, "normal", "strong, 100 % of unlabeled set apart")


def test_an_anomaly_rate_takes_the_first_unlabeled_names(folder, monkeypatch, capsys) -> None:
    rate = ("--anomaly-rate", "0.5", "--write-split", folder / "fresh.json")
    outcome = run_cli(monkeypatch, capsys, "audit", "--data", folder, *rate, "--json")

    assert outcome.json["images"]["unlabeled"] == 20
    before = outcome.json["split"]["before"]
    assert (before["train.unlabeled.0"], before["train.unlabeled.1"]) == (10, 10)
    assert outcome.json["split"]["after"] == before


def test_blank_slices_do_not_count_as_unreadable(tmp_path: Path) -> None:
    cohort = Cohort.from_folders(normal=[path.parent for path in write_images(tmp_path / "n", 2, size=32)][:1])
    audit = audit_cohort(cohort)
    blank = SkippedImage(tmp_path / "volume.nii#1", "blank", blank=True)
    broken = SkippedImage(tmp_path / "broken.png", "truncated")

    write_audit_page(replace(audit, skipped=[blank, broken]), tmp_path / "audit.html")

    page = (tmp_path / "audit.html").read_text()
    assert "<dd>1</dd><dt>could not be read</dt>" in page
    assert "<dd>1</dd><dt>blank</dt>" in page
    assert "broken.png" in page
    assert "volume.nii" not in page
