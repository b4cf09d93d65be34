"""Copy the tables under `benchmarks/results/` into README.md, between its two markers."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from ddad.experiments.comparisons import not_told_apart
from ddad.experiments.sweep_results import in_order, sweep_table
from ddad.experiments.tables import methods_table, scores_table, summary, to_markdown

ROOT = Path(__file__).resolve().parent.parent
TITLES = {
    "brain-tumor": "Brain Tumor, official split",
    "brain-tumor-leakfree": "Brain Tumor, leak-free split",
    "chest-xray": "Chest X-ray (Kermany et al.), patients never cross the split",
    "unseen-meningioma-leakfree": "Brain Tumor, leak-free split: meningiomas unseen, only gliomas among the unlabeled",
    "unseen-glioma-leakfree": "Brain Tumor, leak-free split: gliomas unseen, only meningiomas among the unlabeled",
    "unseen-meningioma": "Brain Tumor, official split: meningiomas unseen, only gliomas among the unlabeled",
    "unseen-glioma": "Brain Tumor, official split: gliomas unseen, only meningiomas among the unlabeled",
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
            parts.append(f"**{title}**\n\n" + "\n".join(to_markdown(table) for table in tables) + f"\n{verdict}\n")
    for name, title in SWEEPS.items():
        file = ROOT / "benchmarks" / "results" / name / "sweep.csv"
        if file.exists():
            by_rate = pd.DataFrame(cells_in(file)).groupby("value")
            rows = pd.concat([summary(cells.to_dict("records")).assign(value=rate) for rate, cells in by_rate])
            parts.append(f"**{title}**\n\n{to_markdown(sweep_table(in_order(rows), 'anomaly-rate'))}")
    if not parts:
        raise SystemExit("There are no results under benchmarks/results yet: run 'make table3'.")
    note = (
        "Percent, mean ± standard deviation over seeds, `fast` recipe, two processor cores. Times are rough: the cores "
        "did other work too, and of fits that were interrupted only the last part was counted then; a whole run alone "
        "is timed in [results/speed](benchmarks/results/speed/results.md). Intervals, single runs and the command that "
        "makes each table are in [benchmarks/results](benchmarks/results)."
    )
    readme = ROOT / "README.md"
    begin, end = "<!-- results:begin -->", "<!-- results:end -->"
    block = f"{begin}\n\n{note}\n\n" + "\n".join(parts) + f"\n{end}"
    text = re.sub(f"{begin}.*?{end}", lambda _: block, readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


def cells_in(file: Path) -> list[dict[Hashable, Any]]:
    cells = pd.read_csv(file)
    return cells.astype(object).where(cells.notna(), None).to_dict("records")


def leaders(methods: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Say which method has the highest AUC, and which ones the paired tests cannot tell from it."""
    names = (methods["Method"] + " " + methods["Score"]).str.strip()
    best = names.loc[methods["AUC"].str.extract(r"([\d.]+)")[0].astype(float).idxmax()]
    tests = comparisons[comparisons["family"] == "methods"]
    ties = not_told_apart(best, tests)
    also = (
        f"Not told from it by paired tests (DeLong, Holm): {', '.join(ties)}."
        if ties
        else ("All others are significantly lower (paired tests of DeLong, Holm).")
    )
    return f"Highest AUC: {best}. {also}"


if __name__ == "__main__":
    main()
