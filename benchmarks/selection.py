"""How often does selection without labels take the truly best candidate?

At each anomaly rate of the unlabeled images, every candidate of `ddad fit --select auto` is fitted without a fifth of
the images, as there; the guide is measured on that fifth, and the true AUC on the test images, which choose nothing.
Each candidate is stored when it is done, and not fitted again.

    python benchmarks/selection.py ../shared/datasets/brain_tumor --split data.leakfree.json
    python benchmarks/selection.py ../shared/datasets/chest_xray --epochs 0.1 --limit 100   # a quick look
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from stored_runs import computed_on, fields_read, file_of, store

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts import Role, decode
from ddad.cohorts.benchmark_folder import read_split
from ddad.detectors import DETECTORS, FitContext, score_held_out
from ddad.evaluation.selection import choose
from ddad.experiments.tables import to_markdown
from ddad.progress import Progress
from ddad.selecting import CANDIDATES, Division, divide
from ddad.selecting.candidates import Candidate, distinct_recipes
from ddad.training.device import Compute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="benchmark folder")
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--rate", type=float, action="append", help="anomaly rate; default: 0.05, 0.2 and 0.6")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1.0, help="factor of all numbers of epochs")
    parser.add_argument("--set", action="append", default=[], help="recipe field of all candidates, NAME=VALUE")
    parser.add_argument("--limit", type=int, help="take only so many images of each kind")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/selection"))
    options = parser.parse_args()

    rates = options.rate or [0.05, 0.2, 0.6]
    size = min(
        len(Cohort.from_benchmark(options.data, split=options.split, anomaly_rate=rate).of(Role.UNLABELED))
        for rate in rates
    )
    with terminal_progress() as progress:
        for rate in rates:
            cohort = Cohort.from_benchmark(options.data, split=options.split, anomaly_rate=rate, unlabeled_total=size)
            for seed in range(options.seeds):
                try_all(cohort, rate, seed, options, progress)
    write_table(options.out)


def try_all(cohort: Cohort, rate: float, seed: int, options: argparse.Namespace, progress: Progress) -> None:
    """Fit the candidates of one setting that are not stored."""
    changes = {name: json.loads(value) for name, value in (text.split("=", 1) for text in options.set)}
    given = Candidate("given", epochs=options.epochs).recipe(Recipe(seed=seed, holdout=0.0).changed(changes))
    identity = {
        "data": options.data.name,
        "split": options.split,
        "rate": rate,
        "seed": seed,
        "limit": options.limit,
        "cohort": cohort.fingerprint(),
        "ddad": __version__,
    }
    abnormal = set(read_split(options.data / options.split)["train.unlabeled.1"])
    files = {}
    for name, recipe in distinct_recipes(CANDIDATES, given).items():
        own = {**identity, "candidate": name, "recipe": fields_read(recipe)}
        stem = f"{options.data.name}-{Path(options.split).stem}-ar{100 * rate:g}-seed{seed}"
        files[name] = (file_of(options.out, stem, own), own, recipe)
    missing = {name: entry for name, entry in files.items() if not entry[0].exists()}
    if not missing:
        return
    pixels, groups, tables = {}, {}, {}
    for part, role, label in PARTS:
        pixels[part], tables[part] = read(cohort, role, label, given, options.limit, seed, progress)
        groups[part] = tables[part]["group"].tolist()
    division = divide(pixels["normal"], pixels["unlabeled"], (groups["normal"], groups["unlabeled"]), seed)
    held = tables["unlabeled"]["path"].iloc[division.held_unlabeled]
    folder = f"{options.data.resolve()}{os.sep}"  # a stored run says nothing of the machine it was made on
    facts = {
        "epochs": options.epochs,
        "set": options.set,
        "candidates": list(files),
        "unlabeled": len(pixels["unlabeled"]),
        "held_groups": [str(group).removeprefix(folder) for group in division.held_groups],
        "held_abnormal": sum(Path(path).name in abnormal for path in held),
    }
    for file, own, recipe in missing.values():
        progress.message(f"anomaly rate {rate:.0%}, seed {seed}: {own['candidate']}")
        record = own | facts | judge(recipe, pixels, division, options.workers, progress)
        record["versions"] = {"torch": torch.__version__, "numpy": np.__version__}
        record["compute"] = Compute.choose("auto", recipe.precision).described()
        store(file, record)


PARTS: tuple[tuple[str, Role, int | None], ...] = (
    ("normal", Role.NORMAL, None),
    ("unlabeled", Role.UNLABELED, None),
    ("test normal", Role.TEST, 0),
    ("test abnormal", Role.TEST, 1),
)


def read(
    cohort: Cohort, role: Role, label: int | None, recipe: Recipe, limit: int | None, seed: int, progress: Progress
) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Read the images of a role, or some of them, drawn by the seed."""
    table = cohort.of(role, label)
    if limit is not None:
        chosen = np.random.default_rng(seed).permutation(len(table))[:limit]
        table = table.iloc[np.sort(chosen)]
    decoded = decode(table["path"].tolist(), recipe.images, progress=progress, title=f"reading {role} images")
    return decoded.pixels, table.iloc[decoded.kept]


def judge(
    recipe: Recipe, pixels: dict[str, NDArray[np.float32]], division: Division, workers: int, progress: Progress
) -> dict[str, Any]:
    """Fit one candidate; return its scores of the images that judge and of the test images."""
    parts = [
        pixels["normal"][division.held_normal],
        pixels["unlabeled"][division.held_unlabeled],
        pixels["test normal"],
        pixels["test abnormal"],
    ]
    compute = Compute.choose("auto", recipe.precision)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        np.save(workspace / "d_n.npy", pixels["normal"][division.kept_normal])
        np.save(workspace / "d_u.npy", pixels["unlabeled"][division.kept_unlabeled])
        context = FitContext(workspace, compute, workers, progress)
        detector, files = DETECTORS[recipe.detector](recipe), (workspace / "d_n.npy", workspace / "d_u.npy")
        scores = score_held_out(detector, *files, np.concatenate(parts), context)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    names = ("normal", "unlabeled", "test_normal", "test_abnormal")
    return {"scores": {n: s.round(6).tolist() for n, s in zip(names, np.split(scores, ends), strict=True)}}


def write_table(folder: Path) -> None:
    """Write one table of everything that is stored in the folder."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / "runs").glob("*.json"))]
    rows = pd.DataFrame(summaries(records))
    cells = []
    keys = ["data", "split", "limit", "changes", "unlabeled", "epochs", "rate"]
    for (data, split, limit, changes, unlabeled, epochs, rate), group in rows.groupby(keys, sort=True):
        cells.append(
            {
                "data": f"{data}, {split}" + (f", {limit} images of each kind" if limit else "") + changes,
                "epochs": f"{epochs:g}",
                "anomaly rate": f"{rate:.0%}",
                "unlabeled": unlabeled,
                "held out": ", ".join(map(str, group["held"])),
                "abnormal": ", ".join(map(str, group["held_abnormal"])),
                "seeds": len(group),
                "computed on": computed_on(group["records"].sum()),
                "candidates": int(group["candidates"].iloc[0]),
                "truly best taken": f"{int(group['hit'].sum())} of {len(group)}",
                "highest guide is truly best": f"{int(group['top'].sum())} of {len(group)}",
                "AUC of the chosen": f"{100 * group['chosen_auc'].mean():.1f}",
                "of the highest guide": f"{100 * group['top_auc'].mean():.1f}",
                "of the truly best": f"{100 * group['best_auc'].mean():.1f}",
                "of the default": f"{100 * group['default_auc'].mean():.1f}",
                "rank correlation": f"{group['correlation'].mean():.2f}",
                "chosen": ", ".join(group["chosen"]),
                "truly best": ", ".join(group["best"]),
            }
        )
    text = (
        "# Selection without labels\n\nThe candidates of `ddad fit --select auto`, each fitted without a fifth of the "
        "normal and unlabeled images, for so many times the epochs of the recipe. The guide (AUC of held-out normal "
        "against held-out unlabeled images) chooses: the default, unless the best is significantly ahead of it. The "
        "AUC on test images, in percent, says who was truly best. Held out: unlabeled images that judge, and how many "
        "of them are abnormal, by seed. Rank correlation: Spearman's, of guide and test AUC over the candidates. "
        "Written by `benchmarks/selection.py`; recipe, fingerprint and command of each fit are in its JSON file.\n\n"
        f"{to_markdown(pd.DataFrame(cells))}"
    )
    (folder / "results.md").write_text(text, encoding="utf-8")


def summaries(records: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each setting of which every candidate is there: what was chosen, and what was truly best."""
    keys = ("data", "split", "rate", "seed", "limit", "changes", "epochs", "unlabeled", "held_abnormal", "cohort")
    settings: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        changes = "".join(f", {text}" for text in sorted(record["set"]))
        settings.setdefault(tuple({**record, "changes": changes}[key] for key in keys), []).append(record)
    for setting, found in settings.items():
        order = found[0]["candidates"]
        if len(found) > len(order):
            raise SystemExit(
                f"{dict(zip(keys, setting, strict=True))}: a candidate is there twice. Keep one of its runs."
            )
        if len(found) < len(order):
            continue
        found.sort(key=lambda record: order.index(record["candidate"]))
        held = found[0]["scores"]
        sides = np.repeat([0, 1], [len(held["normal"]), len(held["unlabeled"])])
        scores = {r["candidate"]: [*r["scores"]["normal"], *r["scores"]["unlabeled"]] for r in found}
        choice = choose(sides, scores, found[0]["held_groups"])
        labels = np.repeat([0, 1], [len(held["test_normal"]), len(held["test_abnormal"])])
        auc = {
            r["candidate"]: roc_auc_score(labels, [*r["scores"]["test_normal"], *r["scores"]["test_abnormal"]])
            for r in found
        }
        best = max(auc, key=lambda name: auc[name])
        guides = [judged.guide.estimate for judged in choice.judged]
        correlation = spearmanr(guides, list(auc.values())).statistic if len(found) > 2 else np.nan
        yield {
            **dict(zip(keys, setting, strict=True)),
            "limit": setting[keys.index("limit")] or 0,
            "records": found,
            "candidates": len(found),
            "held": len(held["unlabeled"]),
            "chosen": choice.chosen,
            "best": best,
            "hit": choice.chosen == best,
            "top": choice.best == best,
            "chosen_auc": auc[choice.chosen],
            "top_auc": auc[choice.best],
            "best_auc": auc[best],
            "default_auc": auc[found[0]["candidate"]],
            "correlation": correlation,
        }


if __name__ == "__main__":
    main()
