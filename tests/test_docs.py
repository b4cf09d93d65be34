"""The documentation says what the code does: command lines, recipe fields and links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from ddad import Cohort, fit
from ddad.cli.app import app
from ddad.detectors import DETECTORS
from ddad.recipe import Recipe
from support import tiny_recipe, write_images

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
GROUP = typer.main.get_command(app)


def command_lines() -> list[tuple[str, str]]:
    found = []
    for page in GUIDES:
        for language, content in FENCED.findall(page.read_text(encoding="utf-8")):
            lines = content.replace("\\\n", " ").splitlines() if language == "sh" else []
            found += [(str(page.relative_to(ROOT)), line.strip()) for line in lines if re.match(r"\s*ddad\b", line)]
    return found


def heading_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_command_lines_to_check() -> None:
    verbs = {shlex.split(line)[1] for _, line in command_lines()}

    assert verbs >= set(GROUP.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_documented_command_line_can_be_parsed(page: str, line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    command, name = GROUP, "ddad"
    if not words[0].startswith("-"):
        name = words.pop(0)
        command = GROUP.commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}

    options = [word.partition("=")[0] for word in words if word.startswith("-")]

    assert set(options) <= known, f"{page}: {line}"
    if not {"-h", "--help", "--version"} & set(options):
        command.make_context(name, words)  # raises if an argument is missing or of no use


def test_the_reference_lists_every_recipe_field_of_both_presets() -> None:
    page = (ROOT / "docs/reference/recipe.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"]
    documented = [(row[0].strip("`"), row[1], row[2], row[4]) for row in rows]

    expected = []
    presets = [Recipe.preset(preset).describe() for preset in ("fast", "paper")]
    for (field, *fast), (_, *paper) in zip(*presets, strict=True):
        bold = "**" if fast[0] != paper[0] else ""
        values = [f"{bold}{value[0].strip(chr(34))}{bold}" for value in (fast, paper)]
        expected.append((field, *values, fast[1]))

    assert documented == expected


@pytest.mark.parametrize("name", sorted(set(DETECTORS) - {"ddad", "ddad+"}))
def test_each_rival_has_a_page_with_its_reference_and_settings(name: str) -> None:
    page = (ROOT / f"docs/explanation/rivals/{name}.md").read_text(encoding="utf-8")
    assert "\nReference: " in page
    detector = DETECTORS[name]
    expected = []
    presets = [Recipe.preset(preset).describe() for preset in ("fast", "paper")]
    for (field, *fast), (_, *paper) in zip(*presets, strict=True):
        if field.partition(".")[0] in detector.sections and field not in detector.unread:
            bold = "**" if fast[0] != paper[0] else ""
            expected.append([f"`{field}`", *(f"{bold}{value[0].strip(chr(34))}{bold}" for value in (fast, paper))])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"]
    assert rows == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in heading_anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_no_table_holds_a_number_that_is_none(page: Path) -> None:
    assert "| nan " not in page.read_text(encoding="utf-8")


def test_the_python_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ROOT / "docs/how-to/python.md"
    blocks = [content for language, content in FENCED.findall(page.read_text(encoding="utf-8")) if language == "python"]
    monkeypatch.chdir(tmp_path)
    for seed, folder in enumerate(["normals", "new-normals", "incoming", "test/normal", "test/abnormal"]):
        write_images(Path(folder), 12, seed=seed)
    fit(Cohort.from_folders(normal="normals"), tiny_recipe(), out="chest.ddad", workers=0)

    exec("\n".join(blocks), {"__name__": "page"})

    printed = capsys.readouterr().out
    assert "'score': " in printed
    assert "{'error': 'not an image" in printed
