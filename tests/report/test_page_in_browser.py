"""The page's script, run by a browser without a window."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_page import CELL, HOSTILE, scoring_folder

from ddad.report.page import write_report
from support import write_images

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium to look at the report with")


def shown(file: Path, profile: Path) -> str:
    """Return the page's elements after its script has run."""
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=4000",
        f"--user-data-dir={profile}",
    ]
    command = [str(BROWSER), *options, f"--user-data-dir={profile}", "--dump-dom", file.as_uri()]
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
    (tmp_path / "runs").mkdir()
    for number, (method, score) in enumerate([("fpi", "image"), ("ddad", "r_dual")]):
        record = {
            "recipe": {"seed": 0},
            "cells": [CELL | {"method": method, "score": score}],
            "scores": {score: [0.1, 0.2, 0.3, 0.4]},
            "labels": [0, 1, 0, 1],
        }
        (tmp_path / "runs" / f"{number}.json").write_text(json.dumps(record))

    elements = shown(write_report(tmp_path), tmp_path / "profile")

    panels = re.findall(r'<div class="panel" data-run="(\d)" data-score="(\w+)"( hidden="")?>', elements)
    assert panels == [("0", "image", ""), ("1", "r_dual", ' hidden=""')]
