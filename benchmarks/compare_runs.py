"""Compare the scores of two folders of stored runs on the same test images: fp32 beside bf16, `paper` beside `fast`.

    python benchmarks/compare_runs.py chest-xray chest-xray-fp32 --out benchmarks/results/comparisons
    python benchmarks/compare_runs.py chest-xray-image chest-xray --method normal-vs-unlabeled --out FOLDER

Folders are named as they are under `benchmarks/results`. What is compared is the mean AUC over the
seeds that both have, by the test of DeLong et al. (1988).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from stored_runs import check_for_doubles, command

from ddad.evaluation import delong_test
from ddad.experiments.comparisons import Scores, pooled_scores
from ddad.experiments.published import SCORE_TITLES
from ddad.experiments.tables import to_markdown

RESULTS = Path(__file__).resolve().parent / "results"
_HALF_WIDTH = 1.96


def read_runs(folder: str, method: str, backbone: str | None) -> list[dict[str, Any]]:
    """Return the stored runs of a method, sorted by seed; `backbone` is None for all but `ddad`."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (RESULTS / folder / "runs").glob("*.json")]
    chosen = [run for run in records if (run["cells"][0]["method"], run["cells"][0]["backbone"]) == (method, backbone)]
    if not chosen:
        raise SystemExit(f"benchmarks/results/{folder}: no run of {method}{f' with {backbone}' if backbone else ''}.")
    check_for_doubles(chosen, folder)
    return sorted(chosen, key=lambda run: int(run["recipe"]["seed"]))


def row(score: str, first: Scores, second: Scores) -> dict[str, str]:
    """Compare one score, in percent."""
    fits = [
        next(found for one, found in scores.by_contender.items() if one.score == score) for scores in (first, second)
    ]
    tested = delong_test(first.labels, fits[1], fits[0], first.groups or second.groups)
    by_seed = np.array([[roc_auc_score(first.labels, scores) for scores in fit] for fit in fits])
    means, differences = by_seed.mean(axis=1), by_seed[1] - by_seed[0]
    reach = _HALF_WIDTH * tested.standard_error
    return {
        "score": SCORE_TITLES.get(score, score),
        "first": f"{100 * means[0]:.2f}",
        "second": f"{100 * means[1]:.2f}",
        "difference": f"{100 * tested.difference:+.2f}",
        "95 % interval": f"[{100 * (tested.difference - reach):+.2f}, {100 * (tested.difference + reach):+.2f}]",
        "p": f"{tested.p_value:.2g}",
        "± over seeds": f"{100 * differences.std(ddof=1):.2f}" if len(differences) > 1 else "–",
    }


def described(folder: str, runs: list[dict[str, Any]]) -> str:
    """Say what a folder holds: recipe, precision, seeds, and minutes a run."""
    kinds = sorted({f"recipe {run['recipe']['preset_name']}, {run['compute']['precision']}" for run in runs})
    minutes = " and ".join(f"{sum(run['seconds'].values()) / 60:.1f}" for run in runs)
    seeds = ", ".join(str(run["recipe"]["seed"]) for run in runs)
    return f"`{folder}`: {'; '.join(kinds)}; seeds {seeds}; minutes {minutes}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--method", default="ddad")
    parser.add_argument("--backbone", default="ae-u", help="of ddad")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    backbone = options.backbone if options.method == "ddad" else None
    both = [read_runs(folder, options.method, backbone) for folder in (options.first, options.second)]
    seeds = set.intersection(*({run["recipe"]["seed"] for run in runs} for runs in both))
    both = [[run for run in runs if run["recipe"]["seed"] in seeds] for runs in both]
    if not seeds:
        raise SystemExit(f"{options.first} and {options.second} have no seed in common.")
    first, second = (pooled_scores(runs) for runs in both)
    if (both[0][0]["cohort"], first.labels) != (both[1][0]["cohort"], second.labels):
        raise SystemExit(f"{options.first} and {options.second} are of different images: nothing to compare.")
    scores = SCORE_TITLES if options.method == "ddad" else ["image"]
    table = pd.DataFrame([row(score, first, second) for score in scores])
    options.out.mkdir(parents=True, exist_ok=True)
    title = options.second if options.method == "ddad" else f"{options.second}-{options.method}"
    (options.out / f"{title}.md").write_text(
        f"""# {title} against {options.first}

AUC in percent, mean over the seeds that both have, on the same {len(first.labels)} test images. The difference is
second less first; interval and p-value by the paired test of DeLong et al. (1988) ask about other test images and take
the fits as they are. The last column is the standard deviation of the difference over seeds: what other fits would do.

{to_markdown(table)}
- first: {described(options.first, both[0])}
- second: {described(options.second, both[1])}
- cohort `{both[0][0]["cohort"]}`
- command: `{command()}`
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
