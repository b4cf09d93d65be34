"""Measure the three modes: without known normals, with few of them, and with a few known abnormal images.

Each study compares cases that differ in the training images alone, on the same test images:

- `unsupervised`: all known normal images, clean, against the same images in a pile with 20 % abnormal ones in which
  nobody knows which is which. No other unlabeled images are there in either case.
- `few-shot`: the unlabeled images of the benchmark with all, 50, 20 or 10 of the known normals, drawn by the seed.
- `open-set`: known normals and a pile at an anomaly rate of 5 % of one kind of anomaly, with and without 20 known
  abnormal images of that kind; tested on that kind, and on another that is nowhere in training.

The lists of a benchmark folder are dealt out anew for each case; training lists and test lists stay apart. Every run is
stored when it is done, and not repeated.

    python benchmarks/modes.py ../shared/datasets/brain_tumor --split data.leakfree.json --seen '*-gl*' --unseen '*-me*'
    python benchmarks/modes.py ../shared/datasets/chest_xray --seen '*bacteria*' --unseen '*virus*'
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from stored_runs import file_of, store

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts import Role
from ddad.cohorts.benchmark_folder import read_split
from ddad.experiments.run import run_once
from ddad.experiments.tables import to_markdown
from ddad.progress import Progress

CONTAMINATION = 0.2
FEW = (50, 20, 10)
KNOWN_ABNORMAL = 20
PILE_RATE = 0.05
Lists = dict[str, list[str]]


@dataclass(frozen=True)
class Case:
    """One way to deal out the lists of a split; `reference` is the case that it is compared with."""

    study: str
    name: str
    lists: Lists
    methods: tuple[str, ...]
    reference: str | None = None
    allowed_loss: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="benchmark folder")
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--seen", help="pattern of the files of the kind of anomaly that is known (open-set)")
    parser.add_argument("--unseen", help="pattern of the kind that is in no training image (open-set)")
    parser.add_argument("--study", action="append", choices=["unsupervised", "few-shot", "open-set"])
    parser.add_argument("--method", action="append", help="ddad, ddad+; default: both, where they can be had")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="take only so many names of each list, for a quick look")
    parser.add_argument("--set", action="append", default=[], help="recipe field, NAME=VALUE")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/modes"))
    options = parser.parse_args()

    changes = {name: json.loads(value) for name, value in (text.split("=", 1) for text in options.set)}
    lists = {key: names[: options.limit] for key, names in read_split(options.data / options.split).items()}
    with terminal_progress() as progress:
        for seed in range(options.seeds):
            recipe = Recipe(seed=seed, holdout=0.0).changed(changes)
            for case in cases(lists, options.seen, options.unseen, seed):
                for method in case.methods:
                    if (options.study and case.study not in options.study) or (
                        options.method and method not in options.method
                    ):
                        continue
                    run(case, recipe.changed({"detector": method}), options, progress)
    write_table(options.out)


def cases(lists: Lists, seen: str | None, unseen: str | None, seed: int) -> Iterator[Case]:
    """Deal the lists out; what is drawn is drawn by the seed."""
    healthy, abnormal = lists["train.0"], shuffled(lists["train.unlabeled.1"], seed)
    test = {key: lists[key] for key in ("test.0", "test.1")}
    nothing: Lists = {"train.unlabeled.0": [], "train.unlabeled.1": []}
    count = min(len(abnormal), round(len(healthy) * CONTAMINATION / (1 - CONTAMINATION)))
    yield Case("unsupervised", "clean normals", {**nothing, **test, "train.0": healthy}, ("ddad",))
    pile = {"train.unlabeled.0": healthy, "train.unlabeled.1": abnormal[:count], "train.0": []}
    yield Case("unsupervised", "pile", {**pile, **test}, ("ddad", "ddad+"), "clean normals", 3.0)

    yield Case("few-shot", "all", lists, ("ddad", "ddad+"))
    for few in FEW:
        chosen = {**lists, "train.0": shuffled(healthy, seed)[:few]}
        yield Case("few-shot", str(few), chosen, ("ddad", "ddad+"), "all", 5.0 if few == 50 else None)

    if seen and unseen:
        known = [name for name in abnormal if fnmatchcase(name, seen)]
        tested = [name for name in test["test.1"] if fnmatchcase(name, seen) or fnmatchcase(name, unseen)]
        normals = lists["train.unlabeled.0"]
        rest = known[KNOWN_ABNORMAL:][: max(1, round(len(normals) * PILE_RATE / (1 - PILE_RATE)))]
        base = {"train.0": healthy, "train.unlabeled.0": normals, "train.unlabeled.1": rest}
        base |= {"test.0": test["test.0"], "test.1": tested}
        yield Case("open-set", "none known", base, ("ddad+",))
        given = {**base, "train.1": known[:KNOWN_ABNORMAL]}
        yield Case("open-set", f"{KNOWN_ABNORMAL} known", given, ("ddad+",), "none known", 0.0)


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    return [names[index] for index in np.random.default_rng(seed).permutation(len(names))]


def run(case: Case, recipe: Recipe, options: argparse.Namespace, progress: Progress) -> None:
    """Fit and evaluate one case, unless that is stored."""
    with tempfile.TemporaryDirectory() as folder:
        split = Path(folder) / "split.json"
        split.write_text(json.dumps(nested(case.lists)), encoding="utf-8")
        cohort = Cohort.from_benchmark(options.data, split=split)
    identity: dict[str, Any] = {
        "data": options.data.name,
        "split": options.split,
        "study": case.study,
        "case": case.name,
        "limit": options.limit,
        "recipe": recipe.model_dump(mode="json"),
        "cohort": cohort.fingerprint(),
        "ddad": __version__,
    }
    words = [options.data.name, Path(options.split).stem, case.study, case.name.replace(" ", "-"), recipe.detector]
    file = file_of(options.out, f"{'-'.join(words)}-seed{recipe.seed}", identity)
    if file.exists():
        return
    progress.message(f"{case.study}, {case.name}, {recipe.detector}, seed {recipe.seed}")
    model = file.with_suffix(".model")
    found = run_once(cohort, recipe, model, "auto", options.workers, progress)
    labels, scores = np.array(found["labels"]), np.array(found["scores"][primary(recipe, cohort)])
    aucs = {"all": auc(labels, scores)}
    if case.study == "open-set" and not found["skipped"]:
        kinds = np.array([*[""] * int((labels == 0).sum()), *(p.name for p in cohort.paths(Role.TEST, 1))])
        for name, pattern in (("seen", options.seen), ("unseen", options.unseen)):
            own = (labels == 0) | np.array([fnmatchcase(kind, pattern) for kind in kinds])
            aucs[name] = auc(labels[own], scores[own])
    kept = ("versions", "compute", "counts", "skipped", "warnings", "seconds", "contamination")
    if "trusted" in found:
        abnormal = set(case.lists["train.unlabeled.1"])
        found["contamination"] = float(np.mean([Path(name).name in abnormal for name in found["trusted"]]))
    record = identity | {
        "reference": case.reference,
        "allowed_loss": case.allowed_loss,
        "auc": aucs,
        **{name: found[name] for name in kept if name in found},
        "labels": found["labels"],
        "scores": found["scores"],
    }
    store(file, record)
    shutil.rmtree(model)


def primary(recipe: Recipe, cohort: Cohort) -> str:
    if recipe.detector == "ddad":
        return "r_dual" if cohort.paths(Role.UNLABELED) else "r_intra"
    return "image"


def auc(labels: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> float:
    return round(100 * float(roc_auc_score(labels, scores)), 2)


def impurity(contamination: pd.Series[float]) -> str:
    return "" if contamination.isna().all() else f" ({100 * contamination.mean():.1f} % abnormal)"


def nested(lists: Lists) -> dict[str, Any]:
    """Return the lists in the form of a split file."""
    train: dict[str, Any] = {"0": lists["train.0"], "1": lists.get("train.1", [])}
    train["unlabeled"] = {"0": lists["train.unlabeled.0"], "1": lists["train.unlabeled.1"]}
    return {"train": train, "test": {"0": lists["test.0"], "1": lists["test.1"]}}


def write_table(folder: Path) -> None:
    """Write one table of everything that is stored in the folder."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / "runs").glob("*.json"))]
    rows = pd.DataFrame(
        {
            **{key: record[key] for key in ("study", "data", "split", "case", "reference", "allowed_loss")},
            "limit": record["limit"] or 0,
            "method": record["recipe"]["detector"],
            "seed": record["recipe"]["seed"],
            "tested on": tested,
            "auc": value,
            "normal": record["counts"]["normal"],
            "unlabeled": record["counts"]["unlabeled"],
            "contamination": record.get("contamination"),
        }
        for record in records
        for tested, value in record["auc"].items()
        if record["study"] != "open-set" or tested != "all"
    )
    order = {name: place for place, name in enumerate(("clean normals", "pile", "all", *map(str, FEW), "none known"))}
    keys = ["study", "data", "split", "limit", "case", "method", "tested on"]
    groups = sorted(rows.groupby(keys), key=lambda item: (*item[0][:4], order.get(item[0][4], 99), *item[0][5:]))
    means = {key: group.set_index("seed")["auc"] for key, group in groups}
    cells = []
    for key, group in groups:
        study, data, split, limit, case, method, tested = key
        reference, allowed = group["reference"].iloc[0], group["allowed_loss"].iloc[0]
        against = next(
            (
                means[other]
                for chosen in (method, "ddad")
                if (other := (study, data, split, limit, reference, chosen, tested)) in means
            ),
            None,
        )
        loss = None if against is None else (against - means[key]).dropna()
        cells.append(
            {
                "study": study,
                "data": f"{data}, {split}" + (f", {limit} names of each list" if limit else ""),
                "case": case,
                "method": method,
                "normal": f"{group['normal'].iloc[0]}" + impurity(group["contamination"]),
                "unlabeled": int(group["unlabeled"].iloc[0]),
                "tested on": tested,
                "seeds": len(group),
                "AUC": f"{group['auc'].mean():.1f}" + (f" ± {group['auc'].std():.1f}" if len(group) > 1 else ""),
                "loss": "" if loss is None or loss.empty else f"{loss.mean():.1f}",
                "allowed": "" if allowed is None or np.isnan(allowed) else f"{allowed:g}",
                "met": ""
                if loss is None or loss.empty or allowed is None or np.isnan(allowed)
                else ("yes" if loss.mean() <= allowed else "no"),
            }
        )
    table = to_markdown(pd.DataFrame(cells))
    text = (
        "# The three modes\n\nAUC of the main score on the test images, in percent, mean ± standard deviation over "
        "seeds. Loss: how much less than the first case of the study, over the same seeds, of the same method (of "
        "`ddad`, where the first case has only that). Normal: images that were trained on as normal ones; in the pile, "
        "those that were trusted, of which so many percent are abnormal. Written by `benchmarks/modes.py`, which says "
        f"what the cases are; recipe, fingerprint and command of each run are in its file.\n\n{table}"
    )
    (folder / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
