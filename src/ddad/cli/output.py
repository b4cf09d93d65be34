"""What a verb prints when it is done, and the exit code that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ddad.experiments.evaluation import Evaluation

EXIT_SKIPPED = 3
"""Exit code of a run that finished, but had to skip some files."""


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object on standard output."""
    typer.echo(json.dumps(content))


def print_evaluation(evaluation: Evaluation, as_json: bool) -> None:
    """Print the table of an evaluation, or its JSON, and its warnings."""
    warn(evaluation.warnings)
    if as_json:
        print_json(evaluation.to_json())
    else:
        from ddad.experiments.tables import evaluation_table, to_markdown

        typer.echo(to_markdown(evaluation_table(evaluation)))


def warn(warnings: Sequence[str]) -> None:
    """Say the first ten warnings, and how many there are."""
    from ddad.cli.terminal import say

    for warning in warnings[:10]:
        say(f"warning: {warning}", style="yellow")
    if len(warnings) > 10:
        say(f"and {len(warnings) - 10} more warnings", style="yellow")


def exit_if_skipped(skipped: Sequence[Sequence[str]]) -> None:
    """Name the first ten files that were skipped, each (path, reason), and end with `EXIT_SKIPPED` if there are any."""
    from ddad.cli.terminal import say

    if not skipped:
        return
    say(f"Files skipped: {len(skipped)}", style="yellow")
    for path, reason in skipped[:10]:
        say(f"  {path}: {reason}")
    if len(skipped) > 10:
        say(f"  and {len(skipped) - 10} more")
    raise typer.Exit(EXIT_SKIPPED)
