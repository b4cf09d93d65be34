"""What a verb prints when it is done, and the exit code that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from ddad.wording import counted

if TYPE_CHECKING:
    from ddad.audit import Audit
    from ddad.evaluation.intervals import Interval
    from ddad.experiments.evaluation import Evaluation

EXIT_SKIPPED = 3
"""Exit code of a run that finished, but had to skip some files."""


EXIT_FOUND = 4
"""Exit code of an audit that found what `--fail-on` names."""


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


def print_selection(selection: dict[str, Any]) -> None:
    """Print the candidates of a selection and how they were judged."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    table = Table("candidate", title="Candidates", title_justify="left")
    for name in ("guide", "95 % interval", "ahead of the first", "seconds"):
        table.add_column(name, justify="right")
    for row in selection["candidates"]:
        guide = row["guide"]
        table.add_row(
            row["name"],
            f"{guide['estimate']:.3f}",
            f"{guide['low']:.3f} – {guide['high']:.3f}",
            "–" if row is selection["candidates"][0] else f"{row['ahead']:+.3f} ± {row['standard_error']:.3f}",
            f"{row['seconds']:.0f}",
            style="bold" if row["name"] == selection["chosen"] else None,
        )
    console.print(table)
    held = selection["held_out"]
    console.print(
        f"Chosen: {selection['chosen']}. The guide is the AUC of {held['normal']} held-out normal against "
        f"{held['unlabeled']} held-out unlabeled images; no label was looked at. The first candidate stays unless "
        "the best is significantly ahead of it (DeLong's test, 5 %, corrected for the number of comparisons)."
    )
    for title, names in (("Not tried", selection["not_tried"]), ("Did not learn", selection["diverged"])):
        if names:
            console.print(f"{title}: {'; '.join(names)}.")  # some names hold commas


def print_audit(audit: Audit) -> None:
    """Print what an audit found, as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    copies = Table("images", "have a copy among", title="Copies", title_justify="left")
    for name in ("exact", "near", "of"):
        copies.add_column(name, justify="right")
    for count in audit.copies:
        among = "the others" if count.first == count.second else count.second
        numbers = [str(number) for number in (count.exact, count.near, count.of)]
        copies.add_row(count.first, among, *numbers, style="bold" if count.near else None)
    console.print(copies)
    console.print(
        f"Groups of copies in both training and test: {audit.torn_groups}; groups (patients): {audit.torn_patients}. "
        f"Copies with contradicting labels: {len(audit.conflicts)}. "
        f"Groups (patients) in both normal and unlabeled: {audit.mixed_groups}."
    )
    for where, pairs in (("training and test", audit.torn_examples), ("normal and unlabeled", audit.mixed_examples)):
        for pair in pairs[:3]:
            console.print(f"  one group (patient) in {where}: {pair[0]} and {pair[1]}", soft_wrap=True)
    for comparison in dict.fromkeys(shortcut.comparison for shortcut in audit.shortcuts):
        table = Table("feature", title=f"Shortcuts: {comparison}", title_justify="left")
        table.add_column("AUC", justify="right")
        table.add_column("95 % interval", justify="right")
        table.add_column("higher in")
        table.add_column("note")
        for shortcut in audit.shortcuts:
            if shortcut.comparison == comparison:
                interval = f"{shortcut.low:.3f} – {shortcut.high:.3f}"
                style = "bold" if shortcut.strong else None
                words = shortcut.feature, f"{shortcut.auc:.3f}", interval, shortcut.higher_in, shortcut.note
                table.add_row(*words, style=style)
        console.print(table)
    if audit.memorisation is not None:
        probe, rest = audit.memorisation.everything, audit.memorisation.without_copies
        console.print(f"Distance to the nearest training normal: AUC {_with_interval(probe)}.")
        if rest is not None:
            console.print(f"The same without test images that have a copy there: {_with_interval(rest)}.")


def _with_interval(value: Interval) -> str:
    return f"{value.estimate:.3f} ({value.low:.3f} – {value.high:.3f})"


def warn(warnings: Sequence[str]) -> None:
    """Say the first ten warnings, and how many there are."""
    from ddad.cli.terminal import say

    for warning in warnings[:10]:
        say(f"warning: {warning}", style="yellow")
    if len(warnings) > 10:
        say(f"and {counted(len(warnings) - 10, 'more warning')}", style="yellow")


def say_blank(count: int) -> None:
    """Say how many blank slices were passed over, if any: nothing is wrong with them."""
    from ddad.cli.terminal import say

    if count:
        say(f"{counted(count, 'blank slice or frame was', 'blank slices or frames were')} passed over.")


def passed_over(count: int) -> str:
    """Say how many files were not taken for images."""
    return counted(count, "file is no image and was passed over", "files are no images and were passed over")


def exit_if_skipped(skipped: Sequence[Sequence[str]]) -> None:
    """Name files that were skipped, each (path, reason), and end with `EXIT_SKIPPED` if there are any."""
    say_skipped(skipped)
    if skipped:
        raise typer.Exit(EXIT_SKIPPED)


def say_skipped(skipped: Sequence[Sequence[str]]) -> None:
    """Name the first ten files that were skipped, each (path, reason)."""
    from ddad.cli.terminal import say

    if not skipped:
        return
    say(f"Files skipped: {len(skipped)}", style="yellow")
    for path, reason in skipped[:10]:
        say(f"  {path}: {reason}")
    if len(skipped) > 10:
        say(f"  and {len(skipped) - 10} more")
