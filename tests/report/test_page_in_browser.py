"""The page's script, run by a browser without a window."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, OPTIONS, Browser
from test_benchmark_page import store, stored_run
from test_page import HOSTILE, MODEL, SELECTION, scoring_folder

from ddad.report.page import write_report
from support import write_images

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to look at the report with")


def shown(file: Path, profile: Path) -> str:
    """Return the page's elements after its script has run."""
    options = [*OPTIONS, "--virtual-time-budget=4000", f"--user-data-dir={profile}"]
    command = [str(CHROMIUM), *options, "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_gallery_draws_a_page_of_cards_and_runs_nothing_of_a_file_name(tmp_path: Path) -> None:
    images = [*write_images(tmp_path / "images", 29), Path(HOSTILE)]
    folder = scoring_folder(tmp_path / "scores", images)

    elements = shown(write_report(folder), tmp_path / "profile")

    assert elements.count("<article>") == 24
    assert elements.count('src="data:image/webp;base64,') == 48  # beside each image its overlay's
    assert "page 1 of 2, 30 findings" in elements
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in elements  # as words, on the first card
    assert "<script>alert" not in elements
    assert re.search(r"At or above [\d.]+: \d+ of 30", elements)


def test_a_run_whose_scores_have_other_names_shows_its_own_panel(tmp_path: Path) -> None:
    store(tmp_path / "b", [stored_run("fpi"), stored_run(strengths={"r_dual": 1.0})])

    elements = shown(write_report(tmp_path / "b"), tmp_path / "profile")

    panels = re.findall(r'<div class="panel" data-run="(\d)" data-score="(\w+)"( hidden="")?>', elements)
    assert panels == [("0", "image", ""), ("1", "r_dual", ' hidden=""')]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as opened:
        yield opened


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_report(scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 30)))


def test_ten_thousand_findings_stay_in_pages(tmp_path: Path, browser: Browser) -> None:
    images = [Path(f"{number:05d}.png") for number in range(10000)]
    file = write_report(scoring_folder(tmp_path / "scores", images, maps=False))

    browser.show(file)

    assert browser.value("document.getElementsByTagName('*').length") < 3000
    assert browser.value("document.querySelector('.where').textContent") == "page 1 of 417, 10000 findings"
    browser.value("document.querySelector('.pager button[data-step=\"1\"]').click()")
    assert browser.value("document.querySelectorAll('article').length") == 24
    first = "document.querySelector('article .path').textContent"
    assert browser.value(first) == "09975.png"
    browser.value("document.getElementById('search').value = '00007'")
    browser.value("document.getElementById('search').dispatchEvent(new Event('input'))")
    assert browser.value(first) == "00007.png"
    assert browser.value("document.querySelectorAll('article').length") == 1


def test_colours_follow_the_scheme(report: Path, browser: Browser) -> None:
    def light_of(variable: str) -> float:
        script = f"getComputedStyle({variable}).{'color' if 'h1' in variable else 'backgroundColor'}"
        return float(np.mean([int(level) for level in re.findall(r"\d+", browser.value(script))[:3]]))

    for dark in (False, True):
        browser.show(report, dark=dark)
        ground, words = light_of("document.body"), light_of("document.querySelector('h1')")
        assert (ground < 64 and words > 192) if dark else (ground > 192 and words < 64)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_width_needs_scrolling_sideways(report: Path, browser: Browser, width: int) -> None:
    (report.parent / "run.json").write_text(json.dumps({"model": MODEL | {"selection": SELECTION}}))
    browser.show(write_report(report.parent), width)
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_paper_says_what_the_lists_stood_at(report: Path, browser: Browser) -> None:
    def display(element: str) -> str:
        return str(browser.value(f"getComputedStyle(document.querySelector('{element}')).display"))

    browser.show(report)
    assert (display(".printed"), display(".controls")) == ("none", "flex")
    browser.show(report, paper=True)
    assert (display(".printed"), display(".controls")) == ("block", "none")
    assert display(".histogram input") == "none"
    browser.value("document.getElementById('map').value = '0'")
    browser.value("document.getElementById('map').dispatchEvent(new Event('change'))")
    assert browser.value("document.getElementById('shown-scores').textContent") == "Score: R_dual (main)"
    assert browser.value("document.getElementById('shown-findings').textContent") == (
        "Sort by: score, Order: highest first, Show: all, Map: Rec."
    )


SET = """for (const [list, value] of Object.entries({wanted})) {{
    document.getElementById(list).value = value;
    document.getElementById(list).dispatchEvent(new Event('change'));
}}"""
SHOWN = """({
    lists: ['sort', 'order', 'show'].map((list) => document.getElementById(list).value),
    paper: document.getElementById('shown-findings').textContent,
    first: document.querySelector('article .path').textContent.slice(-15),
})"""


def test_paths_are_sorted_from_a_to_z(report: Path, browser: Browser) -> None:
    browser.show(report)
    browser.value(SET.format(wanted={"sort": "path"}))
    shown = browser.value(SHOWN)
    assert (shown["lists"], shown["first"]) == (["path", "up", "all"], "image-0-000.png")
    browser.value(SET.format(wanted={"order": "down"}))
    assert browser.value(SHOWN)["first"] == "image-0-029.png"
    browser.value(SET.format(wanted={"order": "up"}) + SET.format(wanted={"sort": "0"}))
    assert browser.value(SHOWN)["lists"] == ["0", "down", "all"]


def test_lists_say_what_is_shown_when_somebody_comes_back(report: Path, browser: Browser) -> None:
    """A browser fills in what they stood at, and tells nobody."""
    browser.show(report)
    before = browser.value(SHOWN)
    browser.value(SET.format(wanted={"sort": "path", "order": "down"}))
    assert browser.value(SHOWN) != before
    browser.leave_and_return()
    browser.value("new Promise((done) => setTimeout(done, 500))")
    assert browser.value(SHOWN) == before


def test_pictures_scores_and_the_slider_have_words(report: Path, browser: Browser) -> None:
    browser.show(report)
    browser.value("new Promise((done) => setTimeout(done, 500))")  # the strips of maps are decoded

    names = browser.value("[...document.querySelectorAll('article img')].map((image) => image.alt)")
    assert names[0].endswith("image-0-029.png, score 1")
    assert names[1] == ""  # the same image beneath its map, which has words of its own
    labels = browser.value(
        "[...document.querySelector('article').querySelectorAll('canvas')].map((one) => one.ariaLabel)"
    )
    assert [label.partition(",")[0] for label in labels] == [
        "Map of R_dual over the image", "Map of Rec.", "Map of R_dual"
    ]  # fmt: skip
    assert browser.value("document.querySelector('article .scores').innerText").split() == ["Rec.", "0", "R_dual", "1"]
    slider = "document.querySelector('.panel:not([hidden]) input[type=range]')"
    assert re.match(r"At or above 0.9025: 3 of 30", browser.value(f"{slider}.ariaValueText"))
    browser.value(f"{slider}.value = 500; {slider}.dispatchEvent(new Event('input'))")
    assert browser.value(f"{slider}.ariaValueText") == "At or above 0.5: 15 of 30 (50.0 %)"


def test_the_count_at_the_calibrated_line_is_that_of_the_flags(tmp_path: Path, browser: Browser) -> None:
    """A score that equals `flagged_above` is not flagged; nor does rounding move one across it."""
    at = 0.123456789
    scores = [0.1, at, at, at + 1e-9, 0.5]
    flags = [score > at for score in scores]
    images = write_images(tmp_path / "images", 5)
    folder = scoring_folder(tmp_path / "scores", images, score=scores, r_dual=scores, flagged=flags)
    calibration = {"score": "r_dual", "flagged_above": at, "promise": "Flagged is r_dual above 0.1235."}
    (folder / "run.json").write_text(json.dumps({"model": MODEL | {"calibration": calibration}}))

    browser.show(write_report(folder))

    said = browser.value("document.querySelector('.panel:not([hidden]) .counted').textContent")
    assert said == f"Above 0.1235: {sum(flags)} of 5 (40.0 %)"


def test_captions_of_maps_take_two_lines_at_most(tmp_path: Path, browser: Browser) -> None:
    folder = scoring_folder(tmp_path / "scores", write_images(tmp_path / "images", 12))
    names = ("rec", "rec_ensemble", "a_intra", "a_inter", "r_intra", "r_dual")
    (folder / "run.json").write_text(json.dumps({"model": MODEL | {"map_scales": {name: [0, 1] for name in names}}}))
    file = write_report(folder)

    for width in (320, 1280, 1440):
        browser.show(file, width)
        script = "[...document.querySelectorAll('.maps figcaption')].map((caption) => caption.offsetHeight)"
        assert max(browser.value(script)) <= 2 * 9 * 1.2 + 5


@pytest.mark.parametrize(("width", "beside"), [(600, False), (1280, True)])
def test_without_curves_the_words_of_the_histogram_stand_beside_it(
    report: Path, browser: Browser, width: int, beside: bool
) -> None:
    browser.show(report, width)
    box = "document.querySelector('.panel:not([hidden]) {}').getBoundingClientRect()"
    words, chart = box.format(".said"), box.format("svg")
    assert browser.value(f"{words}.left > {chart}.right") is beside
    assert browser.value(f"{words}.top > {chart}.bottom") is not beside
