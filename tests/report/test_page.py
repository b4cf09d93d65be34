from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddad import Cohort, Model, fit
from ddad.errors import ModelError, OutputError
from ddad.recalibration import recalibrate
from ddad.report import gallery
from ddad.report.page import write_report
from ddad.report.results import read_results
from support import RecordedProgress, run_cli, tiny_recipe, write_images

MODEL = {
    "name": "chest",
    "detector": "ddad",
    "primary_score": "r_dual",
    "cohort": {"normal": 20, "unlabeled": 10},
    "map_scales": {"rec": [0, 1], "r_dual": [0, 1]},
    "training_curves": {"ndm.0": [0.5, 0.4], "ndm.1": [0.6, 0.3], "asr_r_dual": [0.1]},
    "held_out_normals": {"of": "held-out normals", "count": 20, "scores": {"r_dual": [i / 20 for i in range(20)]}},
    "recipe": {"seed": 0, "reconstruction": {"members": 3}},
}

_CANDIDATES = [
    {
        "name": name,
        "changes": changes,
        "guide": {"estimate": estimate, "low": estimate - 0.1, "high": estimate + 0.1},
        "ahead": estimate - 0.7,
        "standard_error": 0.02,
    }
    for name, changes, estimate in (("as given", {}, 0.7), ("<ddad+>", {"detector": "ddad+"}, 0.75))
]
SELECTION = {
    "chosen": "<ddad+>",
    "best": "<ddad+>",
    "held_out": {"normal": 31, "unlabeled": 32},
    "candidates": _CANDIDATES,
}


def scoring_folder(folder: Path, images: list[Path], *, maps: bool = True, **columns: Any) -> Path:
    """Write what `ddad score --heatmaps` writes, as far as a report reads it."""
    folder.mkdir(parents=True)
    count = len(images)
    table = pd.DataFrame({"path": [str(image) for image in images], "score": np.linspace(0, 1, count)})
    table["p_value"], table["flagged"] = None, None
    table["rec"], table["r_dual"] = np.linspace(1, 0, count), table["score"]
    table["rows"], table["columns"], table["warnings"] = 20, 20, None
    for name, values in columns.items():
        table[name] = values
    if maps:
        (folder / "maps").mkdir()
        table["heatmap"] = [f"heatmaps/{number:06d}.png" for number in range(count)]
        strip = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (16, 1))
        for number in range(count):
            Image.fromarray(strip).save(folder / "maps" / f"{number:06d}.png")
    table.to_csv(folder / "findings.csv", index=False)
    (folder / "run.json").write_text(json.dumps({"model": MODEL}))
    return folder


def embedded(page: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found, name
    return json.loads(found[1])


def test_a_scoring_folder_gives_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 30))

    file = write_report(folder)

    page = file.read_text()
    assert file == folder / "report.html"
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    items = embedded(page, "findings")["items"]
    assert [item["score"] for item in items] == sorted((item["score"] for item in items), reverse=True)
    blocks = [embedded(page, f"pictures-{number}") for number in range(2)]
    assert [len(block) for block in blocks] == [24, 6]
    assert all(image and maps for block in blocks for image, maps in block)
    assert "reconstruction.members" in page
    assert "not calibrated" in page


def test_flags_and_p_values_are_shown_and_place_the_line(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 5)
    flags = [False, False, False, True, True]
    folder = scoring_folder(tmp_path / "scores", images, flagged=flags, p_value=[0.9, 0.5, 0.2, 0.04, 0.01])

    page = write_report(folder).read_text()

    findings = embedded(page, "findings")
    assert [item["flagged"] for item in findings["items"]] == flags[::-1]
    assert [item["p"] for item in findings["items"]] == [0.01, 0.04, 0.2, 0.5, 0.9]
    names = list(read_results(folder).score_names)
    assert embedded(page, "counts")[names.index("r_dual")]["threshold"] == 0.75
    assert "lowest score that was flagged" in page


def test_where_nothing_can_be_flagged_the_summary_says_so(tmp_path: Path) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 5), p_value=[0.5] * 5)
    calibration = {"score": "r_dual", "flagged_above": None, "promise": "Nothing can be flagged: too few."}
    (folder / "run.json").write_text(json.dumps({"model": MODEL | {"calibration": calibration}}))

    page = write_report(folder).read_text()

    assert "none can be" in page
    assert (
        "Nothing can be flagged: too few. Not a calibrated threshold: the line first stands at the 95 % quantile of"
        in page
    )
    assert "not calibrated" not in page


@pytest.mark.parametrize(("flagged_above", "low", "high"), [(0.6, 0.1, 0.9), (7.5, 0.1, 7.5), (-2, -2.0, 0.9)])
def test_the_axis_of_a_histogram_reaches_the_line(
    flagged_above: float, low: float, high: float, tmp_path: Path
) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 3), r_dual=[0.1, 0.5, 0.9])
    calibration = {"score": "r_dual", "flagged_above": flagged_above, "promise": ""}
    (folder / "run.json").write_text(json.dumps({"model": MODEL | {"calibration": calibration}}))
    charts = re.findall(r'data-low="([^"]+)" data-high="([^"]+)"', write_report(folder).read_text())
    names = list(read_results(folder).score_names)
    assert tuple(map(float, charts[names.index("r_dual")])) == (low, high)


@pytest.mark.parametrize(
    ("discovered", "said"),
    [
        ([True, False, True], "which 2 of 3 images are taken together."),
        ([False] * 3, "which 0 of 3 images are taken together."),
        ([None] * 3, "at its false discovery rate no image can be taken, whatever it scores."),
    ],
)
def test_discoveries_are_named_though_they_are_not_on_the_page(
    discovered: list[bool | None], said: str, tmp_path: Path
) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 3))
    table = pd.DataFrame({"path": ["a", "b", "c"], "discovered": discovered})
    table.to_csv(folder / "discoveries.csv", index=False)
    assert f"<li>discoveries.csv: {said}</li>" in write_report(folder).read_text()


def test_a_calibration_places_the_line_and_says_what_it_promises(tmp_path: Path) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 5))
    calibration = {"score": "r_dual", "flagged_above": 0.6, "promise": "Flagged is r_dual above 0.6."}
    prevalence = {"estimate": 0.4, "low": 0.3, "high": 0.5, "level": 0.95}
    content = {"model": MODEL | {"calibration": calibration, "prevalence": prevalence}}
    (folder / "run.json").write_text(json.dumps(content))

    page = write_report(folder).read_text()

    names = list(read_results(folder).score_names)
    assert embedded(page, "counts")[names.index("r_dual")]["threshold"] == 0.6
    assert page.count("Flagged is r_dual above 0.6.") == 2
    assert "about 40 % (95 % interval 30 % to 50 %)" in page


HOSTILE = "</script><script>alert(1)<!-- \"'&\u2028.png"


def test_nothing_from_a_file_name_becomes_markup(tmp_path: Path) -> None:
    hostile = tmp_path / HOSTILE.replace("/", "\u2215")
    images = [*write_images(tmp_path / "images", 2), Path(HOSTILE), hostile]
    folder = scoring_folder(tmp_path / "<img src=x onerror=alert(2)>", images, warnings=["", "", HOSTILE, "<b>x</b>"])

    page = write_report(folder).read_text()

    assert "<script>alert" not in page
    assert "<img" not in page
    assert "<b>x" not in page
    assert {item["path"] for item in embedded(page, "findings")["items"]} == {str(image) for image in images}


def test_images_that_cannot_be_read_are_counted_and_drawn_as_the_network_saw_them(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 3)
    images[1].unlink()
    with_maps = write_report(scoring_folder(tmp_path / "a", images)).read_text()
    without = write_report(scoring_folder(tmp_path / "b", images, maps=False)).read_text()

    assert "1 image is shown as seen by the network" in with_maps
    assert all(image for image, _ in embedded(with_maps, "pictures-0"))
    assert "1 image has no picture" in without
    assert "Score again with --heatmaps" in without


def test_unreadable_files_are_counted_apart_from_what_is_no_image(tmp_path: Path) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 3))
    lines = ["path,reason,kind", "a.png,truncated,unreadable", "b.txt,not an image,no image", "c.nii,constant,blank"]
    (folder / "skipped.csv").write_text("\n".join(lines) + "\n")
    found = read_results(folder)
    assert (found.skipped, found.blank_or_no_image) == (1, 2)
    assert "blank or no images" in write_report(folder).read_text()

    (folder / "skipped.csv").write_text("path,reason\na.png,truncated\nb.png,truncated\n")  # of an earlier version
    found = read_results(folder)
    assert (found.skipped, found.blank_or_no_image) == (2, 0)


def test_pictures_stop_at_the_limit_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 10))
    full = embedded(write_report(folder).read_text(), "pictures-0")
    sizes = [len(image) + len(maps) for image, maps in full]
    monkeypatch.setattr(gallery, "PICTURE_LIMIT", sum(sizes[:4]))

    page = write_report(folder).read_text()

    assert embedded(page, "pictures-0") == [*full[:4], *[[None, None]] * 6]
    assert "Pictures of the 6 findings with the lowest scores are left out" in page


def evaluation_folder(folder: Path, paths: list[str]) -> Path:
    folder.mkdir(parents=True)
    labels = [number % 2 for number in range(len(paths))]
    table = pd.DataFrame({"path": paths, "label": labels, "r_dual": np.linspace(0, 1, len(paths))})
    table.to_csv(folder / "scores.csv", index=False)
    interval = {"estimate": 0.625, "low": 0.5, "high": 0.75}
    metrics = {"images": {"r_dual": {"auc": interval, "ap": interval}}, "test_normal": 4, "test_abnormal": 4}
    (folder / "evaluation.json").write_text(json.dumps({**metrics, "skipped": [], "warnings": ["<doubt>"]}))
    return folder


def test_an_evaluation_has_curves_with_intervals(tmp_path: Path) -> None:
    page = write_report(evaluation_folder(tmp_path / "e", [f"{n}.png" for n in range(8)])).read_text()

    assert "AUC 62.5 [50.0, 75.0]" in page
    assert page.count('class="band"') == 2
    assert "&lt;doubt&gt;" in page
    assert "no run.json" in page


def test_bands_of_an_evaluation_are_over_its_groups(tmp_path: Path) -> None:
    folder = evaluation_folder(tmp_path / "e", [f"{n}.png" for n in range(8)])
    alone = write_report(folder).read_text()
    table = pd.read_csv(folder / "scores.csv")
    table.insert(2, "group", [0, 1, 0, 1, 2, 3, 2, 3])
    table.to_csv(folder / "scores.csv", index=False)

    results = read_results(folder)
    assert results.runs[0].groups == [0, 1, 0, 1, 2, 3, 2, 3]
    assert results.score_names == ["r_dual"]
    (folder / "report.html").unlink()
    band = re.compile(r'class="band"[^>]*')
    assert band.findall(write_report(folder).read_text()) != band.findall(alone)


def test_a_demo_folder_joins_findings_with_labels(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 8)
    scoring_folder(tmp_path / "scores", images)
    evaluation_folder(tmp_path / "evaluation", [str(image) for image in images])

    page = write_report(tmp_path).read_text()

    assert [item["label"] for item in embedded(page, "findings")["items"]] == [1, 0] * 4
    assert page.count('class="band"') == 2
    assert len(embedded(page, "pictures-0")) == 8
    assert f"<title>ddad report: {tmp_path.name}</title>" in page


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("score", "high", "line 4, column score: 'high', where a number belongs"),
        ("r_dual", "high", "line 4, column r_dual: 'high', where a number belongs"),
        ("rows", "x", "line 4, column rows: 'x', where a number belongs"),
    ],
)
def test_a_finding_that_is_no_number_is_named(tmp_path: Path, column: str, value: str, message: str) -> None:
    images = [Path("two\nlines.png"), Path("b.png"), Path("c.png")]
    folder = scoring_folder(tmp_path / "scores", images, maps=False)
    table = pd.read_csv(folder / "findings.csv", dtype=object)
    table.loc[1, column] = value
    table.to_csv(folder / "findings.csv", index=False)

    with pytest.raises(OutputError, match=rf"findings\.csv: {message}"):
        write_report(folder)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", "x", "column label: 'x', where 0 or 1 belongs"),
        ("label", "2", "column label: '2', where 0 or 1 belongs"),
        ("label", "", "column label: nothing, where 0 or 1 belongs"),
        ("group", "", "column group: nothing, where a number belongs"),
        ("r_dual", "x", "column r_dual: 'x', where a number belongs"),
    ],
)
def test_what_is_no_label_group_or_score_is_named(tmp_path: Path, column: str, value: str, message: str) -> None:
    folder = evaluation_folder(tmp_path / "e", [f"{n}.png" for n in range(8)])
    table = pd.read_csv(folder / "scores.csv", dtype=object).assign(group="1")
    table.loc[3, column] = value
    table.to_csv(folder / "scores.csv", index=False)

    with pytest.raises(OutputError, match=rf"scores\.csv: line 5, {message}"):
        write_report(folder)


def test_a_column_of_words_is_no_score(tmp_path: Path) -> None:
    folder = scoring_folder(tmp_path / "s", write_images(tmp_path / "images", 2), remark=["3", "not yet"])
    assert read_results(folder).score_names == ["rec", "r_dual"]


@pytest.mark.parametrize(("cut", "message"), [(30, r"it has \d of 9 columns"), (1, "it does not end a line")])
def test_a_table_that_was_cut_off_is_refused(tmp_path: Path, cut: int, message: str) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 5), maps=False)
    file = folder / "findings.csv"
    file.write_bytes(file.read_bytes()[:-cut])

    with pytest.raises(OutputError, match=rf"findings\.csv: line 6 is cut off: {message}"):
        write_report(folder)


def test_pictures_of_maps_that_are_lost_or_damaged_are_counted(tmp_path: Path) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 8))
    assert "Maps of" not in write_report(folder).read_text()
    for number in range(3):
        (folder / "maps" / f"{number:06d}.png").unlink()
    (folder / "maps" / "000003.png").write_bytes(b"no picture")

    page = write_report(folder).read_text()

    assert "Maps of 3 of 8 images: maps/ lacks their pictures." in page
    assert "Pictures of the maps of 1 image are damaged." in page


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no results"),
        ({"findings.csv": "path\na.png\n"}, "lacks the column score"),
        ({"findings.csv": "path,score\na.png,1\n", "run.json": "{"}, "damaged"),
        ({"evaluation.json": "[]"}, "not a JSON object"),
        ({"evaluation.json": "{}"}, "scores.csv is missing"),
    ],
)
def test_a_folder_without_usable_results_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    with pytest.raises(OutputError, match=message):
        write_report(tmp_path)


def test_a_file_that_is_no_report_is_kept(tmp_path: Path) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 1))
    other = tmp_path / "thesis.html"
    other.write_text("<p>three years of work")

    with pytest.raises(OutputError, match="is no report of ddad"):
        write_report(folder, other)
    write_report(folder, other, overwrite=True)
    write_report(folder, other)  # a report of ours is replaced


@pytest.mark.skipif(not Path("/proc").exists(), reason="no folder that takes no file, whoever asks")
def test_a_place_that_cannot_be_written_is_refused_before_any_picture(tmp_path: Path) -> None:
    folder, progress = scoring_folder(tmp_path / "s", write_images(tmp_path / "images", 1)), RecordedProgress()

    with pytest.raises(OutputError, match=r"/proc/report\.html: cannot be written"):
        write_report(folder, "/proc/report.html", progress=progress)
    assert progress.tasks == []


def test_pictures_are_read_in_the_order_of_their_files_and_shown_by_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By score, slices of packed volumes alternate, and each would be unpacked anew."""
    images = write_images(tmp_path / "images", 12)
    order = [*images[::2], *images[1::2]]
    read: list[str] = []
    real = gallery.read_visible
    monkeypatch.setattr(gallery, "read_visible", lambda path: read.append(path) or real(path))
    alone = [gallery._pictures(str(path), None, 384, 96, 85)[0][0] for path in order]
    read.clear()
    monkeypatch.setattr(gallery, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    monkeypatch.setattr(gallery, "_BLOCK_OF_WORK", 6)
    page = write_report(scoring_folder(tmp_path / "s", order)).read_text()
    shown = [item["path"] for item in embedded(page, "findings")["items"]]
    assert read == [*sorted(shown[:6]), *sorted(shown[6:])]
    pictures = [picture for picture, _ in embedded(page, "pictures-0")]
    assert pictures == [alone[[str(path) for path in order].index(path)] for path in shown]


def test_progress_counts_the_pictures(tmp_path: Path) -> None:
    progress = RecordedProgress()

    write_report(scoring_folder(tmp_path / "s", write_images(tmp_path / "images", 3)), progress=progress)

    assert [(task.title, task.total, task.done) for task in progress.tasks] == [("pictures", 3, 3)]


def test_the_verb_says_where_the_report_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 2))

    outcome = run_cli(monkeypatch, capsys, "report", folder, "--json")

    file = folder / "report.html"
    assert outcome.json == {"report": str(file), "bytes": file.stat().st_size}


def test_how_the_recipe_was_chosen_and_whom_the_fit_trusted_is_shown(tmp_path: Path) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 3), maps=False)
    model = MODEL | {"selection": SELECTION, "unsupervised": {"trusted": 40, "of": 80}}
    (folder / "run.json").write_text(json.dumps({"model": model}))

    page = write_report(folder).read_text()

    assert "<strong>&lt;ddad+&gt;</strong>, chosen" in page
    assert "0.700 (0.600 – 0.800)" in page
    assert "+0.050 ± 0.020" in page
    assert "0.000 ± 0.020" not in page  # the first is not ahead of itself
    assert "detector = ddad+" in page
    assert "31 normal and 32 unlabeled" in page
    assert "40 of 80 unlabeled images" in page
    (folder / "run.json").write_text(json.dumps({"model": MODEL}))
    assert "Selection without labels" not in write_report(folder, overwrite=True).read_text()


def test_a_model_has_a_page_of_its_card_its_curves_and_its_held_out_normals(tmp_path: Path) -> None:
    folders = {name: write_images(tmp_path / name, 24, seed=seed)[0].parent for seed, name in enumerate(("n", "u"))}
    cohort = Cohort.from_folders(normal=folders["n"], unlabeled=folders["u"])
    model = fit(cohort, tiny_recipe(), out=tmp_path / "m.ddad", device="cpu", workers=0)

    page = write_report(tmp_path / "m.ddad").read_text()

    assert "model “m.ddad”" in page
    assert "<h2>Training</h2>" in page
    assert "<h2>Model card</h2>" in page
    assert "<dt>reconstruction.members</dt>" in page
    assert "Histogram of held-out normals" in page
    scores = model.card["held_out_normals"]["scores"]
    assert [panel["values"] for panel in embedded(page, "counts")] == list(scores.values())
    Model.load(tmp_path / "m.ddad")  # with the page in its folder

    others = Cohort.from_folders(normal=write_images(tmp_path / "others", 30, seed=7)[0].parent)
    calibration, _, _ = recalibrate(tmp_path / "m.ddad", others, device="cpu")
    page = write_report(tmp_path / "m.ddad", overwrite=True).read_text()
    assert "Histogram of normals given to ddad calibrate" in page
    assert "Histogram of held-out normals" in page
    assert "<label>Normals <select" in page
    first = embedded(page, "counts")[0]
    assert first["values"] == [score for group in calibration.groups for score in group]
    assert first["threshold"] == calibration.flagged_above

    (tmp_path / "m.ddad" / "calibration.json").unlink()
    few = Cohort.from_folders(normal=write_images(tmp_path / "few", 5, seed=8)[0].parent)
    calibration, _, _ = recalibrate(tmp_path / "m.ddad", few, device="cpu")
    assert calibration.flagged_above is None
    page = write_report(tmp_path / "m.ddad", overwrite=True).read_text()
    assert "the line first stands at the 95 % quantile of 5 normals given to ddad calibrate" in page
    (tmp_path / "m.ddad" / "recipe.json").write_text("{}")
    with pytest.raises(ModelError, match=r"recipe\.json: was altered"):
        write_report(tmp_path / "m.ddad")
