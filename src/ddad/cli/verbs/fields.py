"""`ddad fields`."""

from __future__ import annotations

import typer

from ddad.cli import options
from ddad.cli.output import print_json


def fields(
    recipe: options.RecipeName = "fast",
    settings: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """List every recipe field with its value and meaning, as --set and a recipe file take them."""
    chosen = options.build_recipe(recipe, settings)
    if as_json:
        print_json(chosen.model_dump(mode="json"))
        return
    rows = chosen.describe()
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, meaning in rows:
        typer.echo(f"{name:{widths[0]}}  {value:{widths[1]}}  {meaning}")
