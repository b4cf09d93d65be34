"""Is the estimated share of abnormal images among the unlabeled ones true? At anomaly rates from 0 to 80 %.

The estimate is the one of `ddad fit`, which needs no detector: small classifiers of normal against unlabeled images.
The truth is the anomaly rate that the unlabeled images were drawn at; the estimate does not see it.

    python benchmarks/prevalence.py ../shared/datasets/brain_tumor ../shared/datasets/chest_xray
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from stored_runs import command

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts import Role, decode
from ddad.experiments.tables import to_markdown
from ddad.unlabeled_share import estimate_share

RATES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="benchmark folders")
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prevalence"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe().changed({"seed": options.seed})
    for data in options.data:
        started = time.monotonic()
        read: dict[str, NDArray[np.float32]] = {}
        record = {
            "data": data.name,
            "split": options.split,
            "settings": [measure(data, options.split, rate, recipe, read) for rate in RATES],
            "recipe": recipe.model_dump(mode="json"),
            "versions": {"ddad": __version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__},
            "command": command(),
            "seconds": round(time.monotonic() - started),
        }
        stem = f"{data.name}-{Path(options.split).stem}"
        (options.out / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_table(options.out)


def measure(
    data: Path, split: str, rate: float, recipe: Recipe, read: dict[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Estimate at one anomaly rate, and say whether the interval covers it; `read` keeps images for the next rate."""
    cohort = Cohort.from_benchmark(data, split=split, anomaly_rate=rate)
    with terminal_progress() as progress:
        tables = [cohort.of(role) for role in (Role.NORMAL, Role.UNLABELED)]
        new = [path for table in tables for path in table["path"] if path not in read]
        decoded = decode(new, recipe.images, progress=progress)
        read |= {new[place]: image for place, image in zip(decoded.kept, decoded.pixels, strict=True)}
        tables = [table[table["path"].isin(read)] for table in tables]
        normal, unlabeled = (np.stack([read[path] for path in table["path"]]) for table in tables)
        patients = [table["group"].tolist() for table in tables]
    found = estimate_share(normal, unlabeled, patients, recipe.seed)
    if found is None:
        raise SystemExit(f"{data}: too few images")
    # The lists of a split hold whole images: the share that was drawn is not exactly the rate asked for.
    names = set(json.loads((data / split).read_text(encoding="utf-8"))["train"]["unlabeled"]["1"])
    truth = float(np.mean([path.name in {Path(name).name for name in names} for path in cohort.paths(Role.UNLABELED)]))
    covered = found["low"] <= truth <= found["high"]
    return {"rate": rate, "truth": truth, "covered": covered, "cohort": cohort.fingerprint(), **found}


def write_table(folder: Path) -> None:
    """Write one table of all records in the folder."""
    rows, facts = [], []
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        for setting in record["settings"]:
            rows.append(
                {
                    "data": f"{record['data']}, {record['split']}",
                    "truth": f"{setting['truth']:.1%}",
                    "estimate": f"{setting['estimate']:.1%}",
                    "95 % interval": f"{setting['low']:.1%} to {setting['high']:.1%}",
                    "covers": "yes" if setting["covered"] else "**no**",
                }
            )
        covered = sum(setting["covered"] for setting in record["settings"])
        facts.append(
            f"- {record['data']}, {record['split']}: {covered} of {len(record['settings'])} intervals cover the truth. "
            f"`{record['command']}`, ddad {record['versions']['ddad']}, {record['seconds']} s; fingerprints are in the "
            "JSON file."
        )
    text = (
        "# Estimated share of abnormal images among the unlabeled ones\n\nWithout a label, one run for each rate, seed "
        f"0.\n\n{to_markdown(pd.DataFrame(rows))}\n" + "\n".join(facts) + "\n\nWritten by `benchmarks/prevalence.py`.\n"
    )
    (folder / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
