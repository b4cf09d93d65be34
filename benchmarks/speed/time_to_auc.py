"""How long until the paper's R_dual AUC is reached: the `fast` recipe with fewer and fewer epochs of stage 1.

    python benchmarks/speed/time_to_auc.py ../shared/datasets/brain_tumor --out benchmarks/results/time-to-auc

Each length is fitted and evaluated with several seeds. Finished fits are stored and not repeated. The published
procedure is timed beside them and extrapolated, as `bench.py` does. All on the processor.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bench
import machine
import numpy as np
import pandas as pd
from speed_report import in_minutes, of_r_dual

from ddad import Recipe
from ddad.cli.terminal import terminal_progress
from ddad.experiments.grid import Run, run_grid
from ddad.experiments.published import BENCHMARKS
from ddad.experiments.setting import Setting
from ddad.experiments.tables import to_markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="benchmark folder of Brain Tumor")
    parser.add_argument("--epochs", type=int, nargs="+", default=[30, 40, 60], help="of both modules")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each part of the published procedure")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/time-to-auc"))
    options = parser.parse_args()

    setting = Setting("brain-tumor", str(options.data))
    fast = Recipe().changed({"holdout": 0.0})
    lengths = [fast.changed(dict.fromkeys(bench.EPOCHS[:2], epochs)) for epochs in options.epochs]
    runs = [Run(setting, recipe.changed({"seed": seed})) for recipe in lengths for seed in range(options.seeds)]
    with terminal_progress() as progress:
        records = run_grid(runs, options.out, device="cpu", progress=progress)
    published = bench.measure_published(setting.open()[1], Recipe.preset("paper"), options.seconds)
    text = report(records, published, shlex.join(["python", "benchmarks/speed/time_to_auc.py", *sys.argv[1:]]))
    (options.out / "published.json").write_text(json.dumps(published, indent=1) + "\n", encoding="utf-8")
    (options.out / "results.md").write_text(text, encoding="utf-8")
    print(text)


def report(records: list[dict[str, Any]], published: dict[str, Any], command: str) -> str:
    """Write a row for each length as Markdown."""
    whole, dual = published["total"], of_r_dual(published["seconds"])
    by_length: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        by_length.setdefault(record["recipe"]["reconstruction"]["ndm_epochs"], []).append(record)
    rows = []
    for epochs, found in sorted(by_length.items()):
        seconds = np.mean([sum(record["seconds"].values()) for record in found])
        aucs = [100 * record["evaluation"]["images"]["r_dual"]["auc"]["estimate"] for record in found]
        rows.append(
            {
                "epochs": epochs,
                "R_dual AUC": f"{np.mean(aucs):.1f}" + (f" ± {np.std(aucs, ddof=1):.1f}" if len(aucs) > 1 else ""),
                "each seed": ", ".join(f"{auc:.1f}" for auc in aucs),
                "minutes": in_minutes(float(seconds)),
                "(a) takes": f"{whole / seconds:.1f} times as long",
                "(a) without R_intra": f"{dual / seconds:.1f} times as long",
            }
        )
    figure = BENCHMARKS["brain-tumor"].auc["r_dual", "ae-u"]
    first = records[0]
    return f"""# Time to the paper's AUC

Brain Tumor, official split, AE-U, K = 3: `fast` with fewer epochs in stage 1 than its 120. The paper's R_dual AUC is
{figure}. Minutes are those of fit and evaluation with both scores, R_intra and R_dual, one fit after another.

{to_markdown(pd.DataFrame(rows))}
(a) is the published procedure: {in_minutes(whole)} minutes, {in_minutes(dual)} without R_intra, timed right after these
fits and extrapolated as in [speed](../speed/results.md).

Where a length reaches the figure is read off the test images, as in any time to a target. No length here became a
recipe: `fast` keeps its 120 epochs.

- data fingerprint `{first["cohort"]}`; recipe and scores of each fit are in `runs/`
- machine: {machine.described()}; {datetime.now(UTC).date().isoformat()}; ddad {first["ddad"]}, torch
  {first["versions"]["torch"]}, {first["compute"]["precision"]}
- command: `{command}`
"""


if __name__ == "__main__":
    main()
