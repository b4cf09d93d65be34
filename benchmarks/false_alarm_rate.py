"""Does the false-alarm rate hold on a benchmark's own test normals? Fit and calibrate as `ddad fit` does, then score.

Of each seed, a detector is fitted on a benchmark folder and calibrated by `ddad fit` itself: a tenth of the groups of
`train.0` is held out, near copies together. The normal test images, which had part in neither, are then scored, and
those with a p-value up to a nominal rate are counted. Nothing here makes the rate come out right: it comes out wrong
where the test normals are unlike those that calibrate, or where the groups miss what makes images alike.

The promise is for an image of a new group, so a group of test images counts once, by its share of false alarms; test
images with a near copy in training are no new groups, and are left out of the main figure. One fit may well be above
the rate: the promise is a mean over fits. The range that 95 % of fits would fall into, if the promise held, stands
beside (beta-binomial: the draw of the held-out normals, and that of the test normals).

False discoveries: of each fit, batches of test images, one of each drawn group, normal and abnormal in the proportion
of the test set, are given to Benjamini-Hochberg's procedure.

    python benchmarks/false_alarm_rate.py ../shared/datasets/chest_xray
    python benchmarks/false_alarm_rate.py ../shared/datasets/brain_tumor --split data.leakfree.json

Every fit is stored when it is done, and not repeated. For a quick look, in a folder of its own:

    python benchmarks/false_alarm_rate.py DATA --limit 40 --seeds 2 --detector ae-u --out /tmp/look
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta, betabinom
from stored_runs import fields_read, file_of, store

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts import Role, SkippedImage, decode
from ddad.cohorts.held_out import groups_with_copies
from ddad.cohorts.near_copies import small_images
from ddad.evaluation.calibration import q_values
from ddad.experiments.tables import to_markdown
from ddad.files import write_atomically
from ddad.fitting import fit
from ddad.progress import Progress

RATES = (0.01, 0.05, 0.1, 0.2)
DISCOVERY_RATES = (0.1, 0.2)
BATCHES = 500
_LEARNED_FROM = (Role.NORMAL, Role.UNLABELED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="benchmark folder")
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--detector", action="append", help="default: ae-u and normal-vs-unlabeled")
    parser.add_argument("--set", action="append", default=["reconstruction.ndm_epochs=8"], help="recipe field")
    parser.add_argument("--seeds", type=int, default=5, help="fits of each detector, each with other normals held out")
    parser.add_argument("--limit", type=int, help="take only so many images of each kind, for a quick look")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/false-alarm-rate"))
    options = parser.parse_args()
    changes: dict[str, Any] = dict(text.split("=", 1) for text in options.set)
    cohort = Cohort.from_benchmark(options.data, split=options.split)
    if options.limit:
        cohort = thinned(cohort, options.limit)
    with terminal_progress() as progress:
        images = test_images(cohort, progress)
        for seed in range(options.seeds):
            for detector in options.detector or ("ae-u", "normal-vs-unlabeled"):
                recipe = Recipe().changed({"detector": detector, "seed": seed, **changes})
                run(cohort, images, recipe, options, progress)
    write_tables(options.out)


def thinned(cohort: Cohort, limit: int) -> Cohort:
    """Return a cohort with at most `limit` images of each role and label, spread over their list."""
    kinds = [cohort.of(Role.NORMAL), cohort.of(Role.UNLABELED), cohort.of(Role.TEST, 0), cohort.of(Role.TEST, 1)]
    chosen = [kind.iloc[np.unique(np.linspace(0, len(kind) - 1, limit).round().astype(int))] for kind in kinds]
    return replace(cohort, table=pd.concat(chosen), origins=())


def test_images(cohort: Cohort, progress: Progress) -> pd.DataFrame:
    """Return path, label, group joined with near copies, and whether it is new, of the test images."""
    tables = [*(cohort.of(role) for role in _LEARNED_FROM), cohort.of(Role.TEST)]
    decoded = [decode(table["path"].tolist(), Recipe().images, progress=progress) for table in tables]
    kept = [table.iloc[found.kept] for table, found in zip(tables, decoded, strict=True)]
    names = groups_with_copies(
        small_images([found.pixels for found in decoded]), [name for table in kept for name in table["group"]]
    )
    test = kept[-1][["path", "label"]].copy()
    learned = len(names) - len(test)
    test["group"] = pd.factorize(pd.Series(names[learned:]))[0]
    test["new"] = ~pd.Series(names[learned:]).isin(set(names[:learned])).to_numpy()
    return test


def run(cohort: Cohort, images: pd.DataFrame, recipe: Recipe, options: argparse.Namespace, progress: Progress) -> None:
    """Fit, calibrate and score, and store the p-value of each test image, unless it is stored already."""
    identity = {
        "data": options.data.name,
        "split": options.split,
        "recipe": fields_read(recipe),
        "cohort": cohort.fingerprint(),
        "ddad": __version__,
    }
    stem = f"{options.data.name}-{Path(options.split).stem}-{recipe.detector}-seed{recipe.seed}"
    file = file_of(options.out, stem, identity)
    if file.exists():
        return
    progress.message(stem)
    started = time.monotonic()
    model = fit(cohort, recipe, progress=progress)
    if model.calibration is None:
        raise SystemExit(f"{stem}: nothing was held out, so there is no p-value. Leave holdout above 0.")
    skipped: list[SkippedImage] = []
    findings = model.score(images["path"].tolist(), maps=False, progress=progress, on_skipped=skipped.append)
    p_values = {finding.path: finding.p_value for finding in findings}
    scored = images[images["path"].isin(p_values)]
    record = identity | {
        "versions": model.card["versions"],
        "calibration": {"groups": len(model.calibration.groups), "images": model.calibration.images},
        "trained_on": model.card["cohort"]["normal"],
        "skipped": len(skipped),
        "p_values": [p_values[path] for path in scored["path"]],
        "labels": scored["label"].astype(int).tolist(),
        "groups": scored["group"].tolist(),
        "new": scored["new"].tolist(),
        "seconds": round(time.monotonic() - started),
    }
    store(file, record)


def shares(p_values: Sequence[float], groups: Sequence[int], rate: float) -> NDArray[np.float64]:
    """Return of each group the share of its images with a p-value up to a rate."""
    found = pd.Series(np.asarray(p_values) <= rate).groupby(np.asarray(groups)).mean()
    return found.to_numpy(float)


def binomial_interval(shares: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a mean of shares in [0, 1] by Clopper and Pearson's formula.

    Where each share is 0 or 1, it is theirs. Other shares spread less than these, so it is too wide rather than too
    narrow; a bootstrap over groups would give no width at all where no image is flagged.
    """
    hits, count = float(shares.sum()), len(shares)
    low = 0.0 if hits <= 0 else float(beta.ppf(0.025, hits, count - hits + 1))
    high = 1.0 if hits >= count else float(beta.ppf(0.975, hits + 1, count - hits))
    return low, high


def expected_range(rate: float, calibrating: int, tested: int) -> tuple[float, float]:
    """Return the range that the false-alarm rate of 95 % of fits lies in if images and calibration are exchangeable.

    The rate of one fit has a beta distribution, by the draw of the groups that calibrate; of the groups that are
    tested, a binomial number is flagged.
    """
    rank = int(np.floor(rate * (calibrating + 1) + 1e-9))  # p <= rate: among the so many highest of all
    if not rank:
        return 0.0, 0.0
    low, high = betabinom.ppf([0.025, 0.975], tested, rank, calibrating + 1 - rank) / tested
    return float(low), float(high)


def false_alarms(records: Sequence[dict[str, Any]], rate: float, *, new: bool) -> dict[str, Any]:
    """Count the false alarms of the fits of one detector at a nominal rate.

    Args:
        records: one a fit, of the same test images.
        rate: nominal.
        new: only of groups without an image in training.
    """
    by_fit = []
    for record in records:
        chosen = [
            place for place, label in enumerate(record["labels"]) if label == 0 and (record["new"][place] or not new)
        ]
        p_values, groups = ([record[key][place] for place in chosen] for key in ("p_values", "groups"))
        by_fit.append(shares(p_values, groups, rate))
    if not by_fit[0].size:
        return {"groups": 0}
    rates = np.array([found.mean() for found in by_fit])
    ranges = [expected_range(rate, record["calibration"]["groups"], by_fit[0].size) for record in records]
    low, high = binomial_interval(np.mean(by_fit, axis=0))
    return {
        "groups": int(by_fit[0].size),
        "mean": float(rates.mean()),
        "low": low,
        "high": high,
        "by_fit": rates.tolist(),
        "expected": [min(one[0] for one in ranges), max(one[1] for one in ranges)],
        "fits_above": int(sum(found > upper for found, (_, upper) in zip(rates, ranges, strict=True))),
    }


def false_discoveries(records: Sequence[dict[str, Any]], rate: float, batches: int = BATCHES) -> dict[str, Any]:
    """Give batches of test images to Benjamini-Hochberg, and measure what is taken wrongly, and what is found.

    A batch has one image of each of half of the groups of the scarcer label, and of the other label as many groups as
    keep the proportion of the test set. Fits are compared by their means: batches of one fit are not independent.
    """
    realised, power, took = [], [], []
    for record in records:
        random = np.random.default_rng(record["recipe"]["seed"])
        table = pd.DataFrame({key: record[key] for key in ("p_values", "labels", "groups", "new")})
        counts = np.bincount(table["labels"], minlength=2)
        table = table[table["new"] | (table["labels"] == 1)]
        groups = np.array([table.loc[table["labels"] == label, "groups"].nunique() for label in (0, 1)])
        # Not all groups, so that batches differ.
        sizes = (counts * (groups / np.maximum(counts, 1)).min() / 2).round().astype(int)
        if not sizes.all():
            return {}
        false, found, any_taken = [], [], []
        for _ in range(batches):
            # The first of each group in a random order is a random image of it.
            mixed = table.iloc[random.permutation(len(table))].drop_duplicates(["labels", "groups"])
            batch = pd.concat([mixed[mixed["labels"] == label].head(size) for label, size in enumerate(sizes)])
            taken = q_values(batch["p_values"].to_numpy()) <= rate
            is_normal = (batch["labels"] == 0).to_numpy()
            false.append((taken & is_normal).sum() / max(taken.sum(), 1))
            found.append(taken[~is_normal].mean())
            any_taken.append(taken.any())
        realised.append(np.mean(false))
        power.append(np.mean(found))
        took.append(np.mean(any_taken))
    error = np.std(realised, ddof=1) / np.sqrt(len(realised)) if len(realised) > 1 else float("nan")
    return {
        "batch": sizes.tolist(),
        "mean": float(np.mean(realised)),
        "standard_error": float(error),
        "abnormal_found": float(np.mean(power)),
        "batches_with_any": float(np.mean(took)),
        "bound": float(rate * sizes[0] / sizes.sum()),
    }


def write_tables(folder: Path) -> None:
    """Write one page of all stored fits in the folder."""
    by_setting: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for file in sorted((folder / "runs").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        same = json.dumps(record["recipe"] | {"seed": None}, sort_keys=True)
        setting = (record["data"], record["split"], record["recipe"]["detector"], record["cohort"], same)
        by_setting.setdefault(setting, []).append(record)
    alarms, discoveries, facts = [], [], []
    for (data, split, detector, cohort, _), records in by_setting.items():
        calibrating = sorted({record["calibration"]["groups"] for record in records})
        by = f"{' or '.join(map(str, calibrating))} groups"
        where = {"data": f"{data}, {split}", "detector": detector, "calibrated by": by}
        for rate in RATES:
            alarms.append(where | {"nominal": f"{rate:.0%}"} | alarm_cells(records, rate))
        for rate in DISCOVERY_RATES:
            discoveries.append(where | {"nominal": f"{rate:.0%}"} | discovery_cells(false_discoveries(records, rate)))
        first, labels = records[0], np.array(records[0]["labels"])
        groups, new = np.array(first["groups"]), np.array(first["new"])
        facts.append(
            f"- {data}, {split}, {detector}: {len(records)} fits, each on about {first['trained_on']} normals, "
            f"calibrated by {by}; {(labels == 0).sum()} normal test images in "
            f"{len(np.unique(groups[labels == 0]))} groups, {((labels == 0) & new).sum()} of them in "
            f"{len(np.unique(groups[(labels == 0) & new]))} new groups; {(labels == 1).sum()} abnormal ones. "
            f"`{first['command']}`, ddad {first['ddad']}, data {cohort[:16]}, "
            f"{sum(record['seconds'] for record in records)} s."
        )
    text = f"""# Realised false-alarm rate on test normals

Fitted and calibrated as `ddad fit` does, counted on the normal test images of the benchmark. A group of near copies
counts once. *Realised* is the mean over fits on groups without an image in training, with the 95 % binomial interval
over these groups; what fits differ by stands beside. *If it holds* is where 95 % of fits lie if test normals and those
held out are exchangeable. A nominal rate below the interval, or fits above that range, speak against the promise.

{to_markdown(pd.DataFrame(alarms))}
## False discoveries

Benjamini-Hochberg on {BATCHES} batches of test images for each fit, normal and abnormal in the proportion of the test
set. *At most* is the nominal rate times the share of normal images: what the procedure promises. Mean over fits ±
standard error.

{to_markdown(pd.DataFrame(discoveries))}
{chr(10).join(facts)}

Written by `benchmarks/false_alarm_rate.py`; the p-value of each test image and the recipe are in `runs/`.
"""
    write_atomically(folder / "results.md", text.encode())


def alarm_cells(records: Sequence[dict[str, Any]], rate: float) -> dict[str, str]:
    """Show what was counted at a nominal rate."""
    found, everyone = (false_alarms(records, rate, new=new) for new in (True, False))
    of_all = f"{everyone['mean']:.1%}" if everyone["groups"] else "–"
    if not found["groups"]:
        return {"realised": "–", "fits": "–", "if it holds": "–", "fits above": "–", "all test normals": of_all}
    low, high = found["expected"]
    return {
        "realised": f"{found['mean']:.1%} [{found['low']:.1%}, {found['high']:.1%}]",
        "fits": f"{min(found['by_fit']):.1%} to {max(found['by_fit']):.1%}",
        "if it holds": f"{low:.1%} to {high:.1%}",
        "fits above": f"{found['fits_above']} of {len(records)}",
        "all test normals": of_all,
    }


def discovery_cells(found: dict[str, Any]) -> dict[str, str]:
    """Show what Benjamini-Hochberg took."""
    if not found:
        return dict.fromkeys(("at most", "realised", "abnormal found", "batches with any", "a batch"), "–")
    return {
        "at most": f"{found['bound']:.1%}",
        "realised": f"{found['mean']:.1%} ± {found['standard_error']:.1%}",
        "abnormal found": f"{found['abnormal_found']:.0%}",
        "batches with any": f"{found['batches_with_any']:.0%}",
        "a batch": f"{found['batch'][0]} normal, {found['batch'][1]} abnormal",
    }


if __name__ == "__main__":
    main()
