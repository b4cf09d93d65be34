"""Benchmarks: which runs to do, and their tables in the paper's layout."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ddad.detectors import DETECTORS
from ddad.errors import SettingError
from ddad.experiments.comparisons import LEAST, Scores, comparisons, pooled_scores, resampled
from ddad.experiments.origin import computed_by, noted, skipped_files, so_far
from ddad.experiments.published import METHOD_TITLES, Benchmark
from ddad.experiments.run import cells_of, differs_from_published, settings_of
from ddad.experiments.tables import (
    constant_note,
    methods_table,
    scores_table,
    significance_table,
    summary,
    to_markdown,
)
from ddad.files import write_atomically
from ddad.recipe import Recipe

_IN_TITLE = 3
_ALL_PAIRS = " `comparisons.csv` has every pair, with average precision and bootstrap tests."


def benchmark_recipes(recipe: Recipe, methods: Sequence[str], backbones: Sequence[str], seeds: int) -> list[Recipe]:
    """List the recipes to run: every method with `seeds` seeds, counted up from the recipe's own.

    Args:
        recipe: what all runs have in common.
        methods: detectors by name, or `all`.
        backbones: of the method `ddad`, which is run once for each.
        seeds: how many.

    Raises:
        SettingError: no seeds, an unknown method or an unknown backbone.
    """
    if seeds < 1:
        raise SettingError(f"--seeds {seeds}: give 1 or more.")
    chosen = list(METHOD_TITLES) if "all" in methods else list(dict.fromkeys(methods))
    for method in chosen:
        if method not in DETECTORS:
            near = difflib.get_close_matches(method, DETECTORS, 1)
            hint = f"Did you mean '{near[0]}'? " if near else ""
            raise SettingError(f"--methods {method}: unknown. {hint}Methods are: {', '.join(DETECTORS)}, all.")
    settings: list[dict[str, Any]] = []
    for method in chosen:
        if method == "ddad":
            settings += [
                {"detector": method, "reconstruction.backbone": backbone} for backbone in dict.fromkeys(backbones)
            ]
        else:
            settings.append({"detector": method})
    return [
        recipe.changed(setting | {"seed": seed})
        for setting in settings
        for seed in range(recipe.seed, recipe.seed + seeds)
    ]


def write_results(
    records: Sequence[dict[str, Any]],
    benchmark: Benchmark | None,
    command: str,
    out: Path,
    *,
    planned: int | None = None,
    brief: bool = False,
) -> str:
    """Write the tables of a benchmark, and return them as Markdown.

    `results.csv` has the cells, `summary.csv` a row for each method and score, `comparisons.csv` the paired
    tests, and `results.md` the tables in the paper's layout with where they come from.

    Args:
        records: from `run_grid`, at least one, all in one setting.
        benchmark: the paper's figures for it, or None for other data.
        command: the command line that makes them again.
        out: folder for the files.
        planned: how many records there will be, if not all are there.
        brief: whether to leave out what takes long: intervals over all runs and paired tests, with their file.
    """
    measured = _measured(records, brief)
    tables = "\n".join(_tables(measured.rows))
    significance = ""
    if not brief:
        significance = _significance(measured.scores, measured.pairs, _ALL_PAIRS)
        write_atomically(out / "comparisons.csv", measured.pairs.to_csv(index=False).encode())
    text = f"""# {_title(records)}
{so_far(len(records), planned, brief)}
Percent, mean ± standard deviation over seeds, of the model that training ends with; in brackets the 95 % bootstrap
interval of that mean over test images. Those of each run are in `results.csv`, the score of each image and the
whole recipe in `runs/`.

{tables}{constant_note(measured.rows)}
{significance}
{_origin(records, benchmark, command)}"""
    write_atomically(out / "results.csv", pd.DataFrame(cells_of(records)).to_csv(index=False).encode())
    write_atomically(out / "summary.csv", measured.rows.round(2).to_csv(index=False).encode())
    write_atomically(out / "results.md", text.encode())
    return tables


def tables_so_far(records: Sequence[dict[str, Any]]) -> str:
    """Return the tables of a benchmark that is not finished as Markdown, with the paired tests.

    Args:
        records: stored runs, at least one, all in one setting.
    """
    measured = _measured(records, brief=False)
    tables = "\n".join(_tables(measured.rows))
    return f"""# Runs that are finished

Percent, mean ± standard deviation over seeds; in brackets the 95 % bootstrap interval of that mean over test images.

{tables}{constant_note(measured.rows)}
{_significance(measured.scores, measured.pairs)}"""


class _Measured(NamedTuple):
    rows: pd.DataFrame
    scores: Scores
    pairs: pd.DataFrame


def _measured(records: Sequence[dict[str, Any]], brief: bool) -> _Measured:
    """Return the means of stored runs, the scores behind them and, unless brief, intervals and paired tests."""
    scores = pooled_scores(records)
    measures = {} if brief else resampled(scores)
    pairs = pd.DataFrame() if brief else comparisons(scores, measures)
    return _Measured(summary(cells_of(records), measures), scores, pairs)


def _tables(rows: pd.DataFrame) -> list[str]:
    tables = [f"## Methods (Table 2)\n\n{to_markdown(methods_table(rows))}"]
    if (rows["method"] == "ddad").any():
        tables.append(f"## Scores of DDAD, AUC (Table 3)\n\n{to_markdown(scores_table(rows))}")
    return tables


def _title(records: Sequence[dict[str, Any]]) -> str:
    """Name the images and the recipe, with the settings that are unlike its preset if they are few."""
    changed = _changed(records)
    if len(changed) > _IN_TITLE:
        changed = [f"{len(changed)} settings changed"]
    record = records[0]
    cell = record["cells"][0]
    unseen = f", unseen {record['unseen']}" if record.get("unseen") else ""
    recipe = ", ".join([record["recipe"]["preset_name"], *changed])
    return f"{cell['dataset']}, {cell['split']}{unseen}, recipe {recipe}"


def _changed(records: Sequence[dict[str, Any]]) -> list[str]:
    """Say what any of the methods has unlike its preset: each reads its own part."""
    shown: dict[str, dict[str, None]] = defaultdict(dict)
    for each in records:
        for name, value in settings_of(each).items():
            shown[name][str(value)] = None
    return [f"{name} {' or '.join(values)}" for name, values in shown.items()]


def _significance(scores: Scores, pairs: pd.DataFrame, where_more_is: str = "") -> str:
    normal, abnormal = scores.independent()
    if min(normal, abnormal) < LEAST:
        what = "test images" if scores.groups is None else "groups of test images (patients)"
        return (
            f"Differences are not tested: that takes {LEAST} normal and {LEAST} abnormal {what} at least, and "
            f"there are {normal} and {abnormal}.\n"
        )
    if pairs.empty:
        return ""
    clustered = "" if scores.groups is None else " with the variance of Obuchowski (1997)"
    parts = [
        "## Which differences are significant\n\n"
        f"AUC on the same {len(scores.labels)} test images, each pair by the means over the seeds that both have:\n"
        f"paired test of DeLong et al. (1988){clustered}, 5 %, with Holm's correction over the pairs of a table. The\n"
        f"fits are taken as they are: the tests ask about other test images, the ± above about other seeds."
        f"{where_more_is}\n"
    ]
    parts += [
        f"{family[0].upper()}{family[1:]}:\n\n{to_markdown(significance_table(pairs, family))}"
        for family in dict.fromkeys(pairs["family"])
    ]
    if scores.left_out:
        parts.append(f"Not compared, because they scored other images: {'; '.join(scores.left_out)}.\n")
    return "\n".join(parts)


def _origin(records: Sequence[dict[str, Any]], benchmark: Benchmark | None, command: str) -> str:
    first = records[0]
    reasons = differs_from_published(first, benchmark, first["cells"][0]["split"]) if benchmark else []
    differs = "".join(f"- no figure of the paper stands here, because of the {reason}\n" for reason in reasons)
    counts = first["counts"]
    seen = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    changed = _changed(records)
    settings = f"- unlike the recipe: {', '.join(changed)}\n" if len(changed) > _IN_TITLE else ""
    return f"""- command: `{command}`
{settings}{differs}- images: {seen}; {first["labels"].count(0)} normal and {first["labels"].count(1)} abnormal tested
- data fingerprint: `{first["cohort"]}`
{skipped_files(records)}{noted(records)}{computed_by(records)}"""
