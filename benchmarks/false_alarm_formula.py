"""Is the formula of the p-values right? Unseen normal images of one pool, divided anew 1,000 times.

All known normals of a benchmark folder (those to train on and those to test on) are grouped by near copies. A part of
the groups is held out of a fit. Then, again and again, the held-out groups are divided at random: half of them
calibrate, and one image of one other group is scored. The flags are independent given the detector, so the share of
false alarms has a binomial interval.

This checks the formula, and no more: groups that are divided at random are exchangeable whatever the scores are, so
the rate comes out right for any detector and any images. Whether test images are exchangeable with those that
calibrate is measured by `false_alarm_rate.py`.

What can come out wrong here is the comparison: a detector is fitted with normals held out image by image, as if copies
did not matter, and calibrated by these; its false alarms are counted on images of new groups.

    python benchmarks/false_alarm_formula.py ../shared/datasets/brain_tumor ../shared/datasets/chest_xray
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from stored_runs import command

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts import Role, decode
from ddad.cohorts.held_out import groups_with_copies
from ddad.cohorts.split import hold_out_groups
from ddad.detectors import DETECTORS, FitContext
from ddad.evaluation.calibration import Calibration
from ddad.experiments.tables import to_markdown
from ddad.training.device import Compute

RATES = (0.01, 0.05, 0.1, 0.2)
NEW, HELD_OUT = 0.3, 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="benchmark folders")
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--detector", default="ae-u")
    parser.add_argument("--set", action="append", default=["reconstruction.ndm_epochs=8"], help="recipe field")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/false-alarm-formula"))
    options = parser.parse_args()
    changes: dict[str, Any] = dict(text.split("=", 1) for text in options.set)
    recipe = Recipe().changed({"detector": options.detector, "seed": options.seed, "holdout": 0.0, **changes})
    options.out.mkdir(parents=True, exist_ok=True)
    for data in options.data:
        started = time.monotonic()
        record = measure(data, options.split, recipe, options.draws)
        record |= {
            "recipe": recipe.model_dump(mode="json"),
            "versions": {"ddad": __version__, "torch": torch.__version__, "numpy": np.__version__},
            "command": command(),
            "seconds": round(time.monotonic() - started),
        }
        (options.out / f"{data.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_tables(options.out)


def measure(data: Path, split: str, recipe: Recipe, draws: int) -> dict[str, Any]:
    """Fit twice, and count false alarms over random divisions."""
    cohort = Cohort.from_benchmark(data, split=split)
    with terminal_progress() as progress:
        known = [cohort.of(Role.NORMAL), cohort.of(Role.TEST, 0)]
        pixels = [decode(table["path"].tolist(), recipe.images, progress=progress) for table in known]
        images = np.concatenate([decoded.pixels for decoded in pixels])
        patients = [
            name
            for table, decoded in zip(known, pixels, strict=True)
            for name in table["group"].iloc[decoded.kept].tolist()
        ]
        groups = np.asarray(groups_with_copies(images, patients))
        rest, new = hold_out_groups(groups.tolist(), NEW, recipe.seed)
        kept, held = hold_out_groups(groups[rest].tolist(), HELD_OUT, recipe.seed)
        by_group = fitted_scores(recipe, images[rest[kept]], images)
        naive_kept, naive_held = hold_out_groups([str(index) for index in rest], len(held) / len(rest), recipe.seed)
        by_image = fitted_scores(recipe, images[rest[naive_kept]], images)

    unseen = np.concatenate([rest[held], new])
    alarms = {str(rate): 0 for rate in RATES}
    shares = {str(rate): [] for rate in RATES}
    random = np.random.default_rng(recipe.seed)
    for _ in range(draws):
        calibration, left = divided(by_group, groups, unseen, random)
        drawn = int(random.integers(len(left)))
        p_values = np.array([calibration.p_value(by_group[place]) for place in left])
        for rate in RATES:
            alarms[str(rate)] += int(p_values[drawn] <= rate)
            shares[str(rate)].append(float((p_values <= rate).mean()))
    return {
        "data": data.name,
        "split": split,
        "cohort": cohort.fingerprint(),
        "draws": draws,
        "normal": {"all": len(images), "groups": len(np.unique(groups)), "trained_on": len(kept)},
        "unseen": {"images": len(unseen), "groups": len(np.unique(groups[unseen]))},
        "false_alarms": {rate: row(count, draws, shares[rate]) for rate, count in alarms.items()},
        "naive": naive(by_image, groups, rest[naive_held], new),
    }


def fitted_scores(recipe: Recipe, training: NDArray[np.float32], images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Fit a detector on some images, and return its main score of others."""
    compute = Compute.choose("auto", recipe.precision)
    with tempfile.TemporaryDirectory() as folder, terminal_progress() as progress:
        np.save(Path(folder) / "normal.npy", training)
        detector = DETECTORS[recipe.detector](recipe)
        detector.fit(Path(folder) / "normal.npy", None, FitContext(Path(folder), compute, 0, progress))
        scored = detector.score(torch.from_numpy(images), compute).scores
    scores: NDArray[np.float64] = scored[detector.primary_score].double().numpy()
    return scores


def divided(
    scores: NDArray[np.float64], groups: NDArray[np.str_], unseen: NDArray[np.int64], random: np.random.Generator
) -> tuple[Calibration, NDArray[np.int64]]:
    """Calibrate by half of the unseen groups; return also one image of each other group."""
    names = random.permutation(np.unique(groups[unseen]))
    half = names[: len(names) // 2]
    by = unseen[np.isin(groups[unseen], half)]
    calibration = Calibration.from_scores(scores[by], groups[by], of="held-out normals", score="main")
    left = [random.choice(unseen[groups[unseen] == name]) for name in names[len(names) // 2 :]]
    return calibration, np.array(left)


def row(alarms: int, draws: int, shares: list[float]) -> dict[str, float]:
    """Return the share of false alarms with its binomial 95 % interval, and the mean over all other groups."""
    interval = binomtest(alarms, draws).proportion_ci()
    return {
        "rate": alarms / draws,
        "low": float(interval.low),
        "high": float(interval.high),
        "over_all_other_groups": float(np.mean(shares)),
    }


def naive(
    scores: NDArray[np.float64], groups: NDArray[np.str_], held: NDArray[np.int64], new: NDArray[np.int64]
) -> dict[str, float]:
    """Return, by nominal rate, the false alarms on new images where copies of held-out ones were trained on."""
    calibration = Calibration.from_scores(scores[held], np.arange(len(held)), of="normals", score="main")
    p_values = np.array([calibration.p_value(scores[place]) for place in new])
    each = pd.Series(groups[new])
    return {str(rate): float(pd.Series(p_values <= rate).groupby(each).mean().mean()) for rate in RATES}


def write_tables(folder: Path) -> None:
    """Write one table of all records in the folder."""
    rows, facts = [], []
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        for rate, found in record["false_alarms"].items():
            rows.append(
                {
                    "data": record["data"],
                    "nominal": f"{float(rate):.0%}",
                    "realised": f"{found['rate']:.1%} [{found['low']:.1%}, {found['high']:.1%}]",
                    "mean over all other groups": f"{found['over_all_other_groups']:.2%}",
                    "held out image by image": f"{record['naive'][rate]:.1%}",
                }
            )
        normal, unseen = record["normal"], record["unseen"]
        facts.append(
            f"- {record['data']}, {record['split']}: {normal['all']} normals in {normal['groups']} groups, "
            f"{normal['trained_on']} trained on, {unseen['images']} in {unseen['groups']} groups unseen, half of which "
            f"calibrate; {record['draws']} draws. `{record['command']}`, ddad {record['versions']['ddad']}, data "
            f"{record['cohort'][:16]}, {record['seconds']} s."
        )
    text = f"""# Check of the p-values' formula

Unseen normals of one pool are divided at random into those that calibrate and those that are scored. Such groups are
exchangeable by construction: the rate comes out right **for any scores whatever**, if the formula and its code are
right. How new images compare with those that calibrate it does not say; `benchmarks/false_alarm_rate.py` measures that.
A quickly fitted AE-U; 95 % binomial intervals.

The last column is a measurement: what happens if normals are held out image by image, so that copies of them are
trained on, counted on new groups.

{to_markdown(pd.DataFrame(rows))}
{chr(10).join(facts)}

Written by `benchmarks/false_alarm_formula.py`, which was called `false_alarm_rate.py` before; the recipe is in each
JSON file. False discoveries in files of that time are of a setting in which nothing was taken: they show nothing.
"""
    (folder / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
