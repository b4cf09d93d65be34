"""Copy the tables under `benchmarks/results/` into README.md, between its two markers."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from ddad.experiments.comparisons import Contender, not_told_apart
from ddad.experiments.published import METHOD_TITLES
from ddad.experiments.run import settings_of
from ddad.experiments.sweep_results import in_order, sweep_table
from ddad.experiments.tables import methods_table, scores_table, summary, to_markdown

ROOT = Path(__file__).resolve().parent.parent
TITLES = {
    "brain-tumor": "Brain Tumor, official split",
    "brain-tumor-leakfree": "Brain Tumor, leak-free split",
    "chest-xray": "Chest X-ray (Kermany et al.), patients never cross the split",
}
UNSEEN = {
    "unseen-meningioma": "meningiomas, official split",
    "unseen-glioma": "gliomas, official split",
    "unseen-meningioma-leakfree": "meningiomas, leak-free",
    "unseen-glioma-leakfree": "gliomas, leak-free",
}
SWEEPS = {
    "anomaly-rate-brain-tumor": "Brain Tumor, official split, AUC over the rate among 400 unlabeled images",
    "anomaly-rate-brain-tumor-leakfree": "Brain Tumor, leak-free split, AUC over the rate among 400 unlabeled images",
    "anomaly-rate-chest-xray": "Chest X-ray, AUC over the rate among 200 unlabeled images",
}


def main() -> None:
    parts = []
    for name, title in TITLES.items():
        file = ROOT / "benchmarks" / "results" / name / "results.csv"
        if file.exists():
            rows = summary(cells_in(file))
            tables = [methods_table(rows), scores_table(rows)]
            verdict = leaders(tables[0], pd.read_csv(file.with_name("comparisons.csv")))
            text = "\n".join(to_markdown(table) for table in tables)
            parts.append(f"**{title}**\n\n{text}\n{verdict} {said_of_runs(name)}".rstrip() + "\n")
    if (unseen := unseen_kinds()) is not None:
        title = "Brain Tumor, AUC for a kind of tumour that the unlabeled images do not hold, only the other kind"
        parts.append(f"**{title}**\n\n{to_markdown(unseen)}\n{said_of_runs(*UNSEEN)}".rstrip() + "\n")
    for name, title in SWEEPS.items():
        file = ROOT / "benchmarks" / "results" / name / "sweep.csv"
        if file.exists():
            by_rate = pd.DataFrame(cells_in(file)).groupby("value")
            rows = pd.concat([summary(cells.to_dict("records")).assign(value=rate) for rate, cells in by_rate])
            table = to_markdown(sweep_table(in_order(rows, "anomaly-rate"), "anomaly-rate"))
            parts.append(f"**{title} (without ±: one seed)**\n\n{table}\n{said_of_runs(name)}".rstrip() + "\n")
    if not parts:
        raise SystemExit("There are no results under benchmarks/results yet: run 'make table3'.")
    note = (
        "Percent, mean ± standard deviation over seeds, `fast` recipe. Times are of runs on two processor cores and "
        "rough: the cores did other work too, and of fits that were interrupted only the last part was counted then; a "
        "whole run alone is timed in [results/speed](benchmarks/results/speed/results.md). Intervals, single runs and "
        "the commands that make each table are in [benchmarks/results](benchmarks/results). "
        "`classification.supervision` = image: classifiers give one answer an image; the default since is one at each "
        "place."
    )
    readme = ROOT / "README.md"
    begin, end = "<!-- results:begin -->", "<!-- results:end -->"
    block = f"{begin}\n\n{note}\n\n" + "\n".join(parts) + f"\n{end}"
    text = re.sub(f"{begin}.*?{end}", lambda _: block, readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


def said_of_runs(*names: str) -> str:
    """Say which methods had which settings beside those of the recipe, and which runs a GPU computed."""
    records = [
        json.loads(file.read_text(encoding="utf-8"))
        for name in names
        for file in sorted((ROOT / "benchmarks" / "results" / name / "runs").glob("*.json"))
    ]
    changed: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for field, value in settings_of(record).items():
            changed[f"`{field}` = {value}"].add(METHOD_TITLES[record["cells"][0]["method"]])
    said = [f"{' and '.join(sorted(methods))}: {setting}." for setting, methods in sorted(changed.items())]
    by_gpu = [record for record in records if record["compute"]["device"] != "cpu"]
    if by_gpu:
        some = f"{len(by_gpu)} of the" if len(by_gpu) < len(records) else "all"
        cells = [cell for record in by_gpu for cell in record["cells"]]
        blind = any(not Contender(cell["method"], cell["backbone"], cell["score"]).sees_unlabeled for cell in cells)
        mixed = blind and len(by_gpu) < len(records)
        differ = ": scores that see no unlabeled image differ between it and processors" if mixed else ""
        said.append(f"A GPU computed {some} {len(records)} runs{differ}.")
    return " ".join(said)


def unseen_kinds() -> pd.DataFrame | None:
    """Return a row for each method and a column for each kind that was kept out of the unlabeled images, if any was."""
    columns = []
    for name, title in UNSEEN.items():
        file = ROOT / "benchmarks" / "results" / name / "results.csv"
        if file.exists():
            table = methods_table(summary(cells_in(file))).set_index(["Unlabeled images", "Method", "Score"])
            seeds = int(table["Seeds"].max())
            columns.append(table["AUC"].rename(f"{title} ({seeds} seed{'s' if seeds > 1 else ''})"))
    if not columns:
        return None
    table = pd.concat(columns, axis=1)
    order = max((column.index for column in columns), key=len)  # that of Table 2
    return table.reindex(order.append(table.index.difference(order))).fillna("–").reset_index()


def cells_in(file: Path) -> list[dict[Hashable, Any]]:
    cells = pd.read_csv(file)
    return cells.astype(object).where(cells.notna(), None).to_dict("records")


def leaders(methods: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Say which method has the highest AUC, and which ones the paired tests cannot tell from it."""
    tests = comparisons[comparisons["family"] == "methods"]
    if tests.empty:
        return ""
    names = (methods["Method"] + " " + methods["Score"]).str.strip()
    tested = names.isin({*tests["first"], *tests["second"]})
    best = names.loc[methods["AUC"][tested].str.extract(r"([\d.]+)")[0].astype(float).idxmax()]
    ties = not_told_apart(best, tests)
    also = (
        f"Not told from it by paired tests (DeLong, Holm): {', '.join(ties)}."
        if ties
        else ("All others are significantly lower (paired tests of DeLong, Holm).")
    )
    return f"Highest AUC: {best}. {also}"


if __name__ == "__main__":
    main()
