"""The recipes of a benchmark's runs: what all have in common, and what each method has of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ddad.detectors import DETECTORS
from ddad.experiments.published import method_title
from ddad.report.facts import Facts, flat


class RunRecipes(NamedTuple):
    """What a page says of the recipes of several runs.

    Attributes:
        shared: fields on which all agree that read them, and the seeds; sections that none of them reads are left out,
            and what their detectors pass over.
        own: name of the method, and the fields in which it differs from another one, in words; a method with several
            settings has a row for each.
    """

    shared: Facts
    own: list[tuple[str, str]]


def run_recipes(records: Sequence[dict[str, Any]]) -> RunRecipes:
    """Sort the settings of stored runs, each with a `recipe` and `cells`, into shared ones and others."""
    cells = [record["cells"][0] for record in records]
    titles = [method_title(str(cell.get("method")), cell.get("backbone")) for cell in cells]
    read = [_read(flat(record.get("recipe", {})), record["cells"][0].get("method")) for record in records]
    fields = list(dict.fromkeys(name for recipe in read for name in recipe))
    values = {name: list(dict.fromkeys(recipe[name] for recipe in read if name in recipe)) for name in fields}
    differ = [name for name in fields if len(values[name]) > 1 and name not in ("seed", "detector")]
    own = [
        (title, ", ".join(f"{name} = {recipe[name]}" for name in differ if name in recipe))
        for title, recipe in zip(titles, read, strict=True)
    ]
    told = [*differ, "detector"] if len(values.get("detector", ())) > 1 else differ
    shared = [(name, ", ".join(values[name])) for name in fields if name not in told]
    return RunRecipes(shared, [row for row in dict.fromkeys(own) if row[1]])


def _read(recipe: dict[str, str], method: Any) -> dict[str, str]:
    """Leave out what the method does not read: it may be anything there."""
    if method not in DETECTORS:
        return recipe
    detector = DETECTORS[method]
    sections = ("images", *detector.sections)
    unread = detector.unread_with(recipe.get("reconstruction.backbone", ""))
    return {
        name: value
        for name, value in recipe.items()
        if name not in unread and ("." not in name or name.partition(".")[0] in sections)
    }
