"""The command line: its verbs, each a file in `verbs/`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ddad.cli.verbs.audit import audit
from ddad.cli.verbs.benchmark import benchmark
from ddad.cli.verbs.calibrate import calibrate
from ddad.cli.verbs.demo import demo
from ddad.cli.verbs.evaluate import evaluate
from ddad.cli.verbs.fields import fields
from ddad.cli.verbs.figures import figures
from ddad.cli.verbs.fit import fit
from ddad.cli.verbs.inspect import inspect
from ddad.cli.verbs.prepare import prepare
from ddad.cli.verbs.report import report
from ddad.cli.verbs.score import score
from ddad.cli.verbs.sweep import sweep


class _PlainSwitches:
    """Shows no value beside a switch in the help, where `--json <bool>` would read as if it wanted one."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters of a command, the switches among them without the name of a value."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class _Verb(_PlainSwitches, TyperCommand): ...


class _Verbs(_PlainSwitches, TyperGroup): ...


app = typer.Typer(
    name="ddad",
    cls=_Verbs,
    help="Anomaly detection in medical images without annotated abnormalities. Not a medical device.",
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 done but some files were skipped, "
    "4 found what audit --fail-on names, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from ddad import __version__

        typer.echo(f"ddad {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


for verb in (demo, inspect, audit, fit, calibrate, score, evaluate, benchmark, sweep, figures, prepare, report, fields):
    app.command(cls=_Verb)(verb)
