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
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from stored_runs import computed_on, fields_read, file_of, store

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts import Role
from ddad.cohorts.benchmark_folder import read_split
from ddad.evaluation import PairedTest, delong_test
from ddad.experiments.run import run_once
from ddad.experiments.tables import to_markdown
from ddad.progress import Progress

CONTAMINATION = 0.2
FEW = (50, 20, 10)
KNOWN_ABNORMAL = 20
PILE_RATE = 0.05
HALF_WIDTH = 1.96
ORDER = ("clean normals", "pile", "all", *map(str, FEW), "none known", f"{KNOWN_ABNORMAL} known")
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
    parser.add_argument("--case", action="append", choices=ORDER, help="default: all of a study")
    parser.add_argument("--method", action="append", help="ddad, ddad+; default: both, where they can be had")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="take only so many names of each list, for a quick look")
    parser.add_argument("--set", action="append", default=[], help="recipe field, NAME=VALUE")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/modes"))
    options = parser.parse_args()

    changes = {name: json.loads(value) for name, value in (text.split("=", 1) for text in options.set)}
    lists = {key: names[: options.limit] for key, names in read_split(options.data / options.split).items()}
    met = False
    with terminal_progress() as progress:
        for seed in range(options.seeds):
            recipe = Recipe(seed=seed, holdout=0.0).changed(changes)
            for case in cases(lists, options.seen, options.unseen, seed):
                for method in case.methods:
                    asked = ((options.study, case.study), (options.case, case.name), (options.method, method))
                    if any(chosen and own not in chosen for chosen, own in asked):
                        continue
                    met = True
                    run(case, recipe.changed({"detector": method}), options, progress)
    if not met:
        parser.error("no study has that case and method, on these data and patterns")
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
        "recipe": fields_read(recipe, has_normals=bool(case.lists["train.0"])),
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
    labels, scores = found["labels"], found["scores"][main_score(recipe.detector, found["counts"])]
    tested_on = {"all": [True] * len(labels)}
    if case.study == "open-set" and not found["skipped"]:
        names = [*[""] * labels.count(0), *(path.name for path in cohort.paths(Role.TEST, 1))]
        for kind, pattern in (("seen", options.seen), ("unseen", options.unseen)):
            tested_on[kind] = [not name or fnmatchcase(name, pattern) for name in names]
    kept = ("versions", "compute", "counts", "skipped", "warnings", "seconds", "contamination")
    if "trusted" in found:
        abnormal = set(case.lists["train.unlabeled.1"])
        found["contamination"] = float(np.mean([Path(name).name in abnormal for name in found["trusted"]]))
    record = identity | {
        "reference": case.reference,
        "allowed_loss": case.allowed_loss,
        "auc": {kind: auc(labels, scores, own) for kind, own in tested_on.items()},
        "tested_on": tested_on,
        **{name: found[name] for name in kept if name in found},
        **{name: found[name] for name in ("labels", "groups", "scores") if name in found},
    }
    store(file, record)
    shutil.rmtree(model)


def auc(labels: Sequence[int], scores: Sequence[float], own: Sequence[bool]) -> float:
    return round(100 * float(roc_auc_score(np.array(labels)[own], np.array(scores)[own])), 2)


def nested(lists: Lists) -> dict[str, Any]:
    """Return the lists in the form of a split file."""
    train: dict[str, Any] = {"0": lists["train.0"], "1": lists.get("train.1", [])}
    train["unlabeled"] = {"0": lists["train.unlabeled.0"], "1": lists["train.unlabeled.1"]}
    return {"train": train, "test": {"0": lists["test.0"], "1": lists["test.1"]}}


@dataclass(frozen=True)
class Row:
    """A row of the table: the runs of a case by a method, one a seed, on test images of one kind."""

    runs: dict[int, dict[str, Any]]
    tested_on: str

    @property
    def first(self) -> dict[str, Any]:
        """One of the runs, for what all of them share."""
        return next(iter(self.runs.values()))

    def scores(self, seeds: Sequence[int]) -> tuple[list[int], NDArray[np.float64]]:
        """Return the labels, and the main score by seed."""
        own = np.array(self.first["tested_on"][self.tested_on])
        score = main_score(self.first["recipe"]["detector"], self.first["counts"])
        fits = [np.array(self.runs[seed]["scores"][score])[own] for seed in seeds]
        return np.array(self.first["labels"])[own].tolist(), np.array(fits)

    @property
    def groups(self) -> NDArray[np.str_] | None:
        """The patient of each of these test images, where the source names patients."""
        groups = self.first.get("groups")
        return None if groups is None else np.array(groups)[np.array(self.first["tested_on"][self.tested_on])]

    def loss_to(self, reference: Row) -> PairedTest | None:
        """Return how much better the reference is, over the seeds that both have, on the same test images."""
        seeds = sorted(set(self.runs) & set(reference.runs))
        (labels, own), (others, better) = self.scores(seeds), reference.scores(seeds)
        return delong_test(labels, better, own, self.groups) if seeds and labels == others else None


def rows_of(folder: Path) -> dict[tuple[str, ...], Row]:
    """Return the rows by data, split, limit, study, case, method and kind of test image, in the table's order."""
    rows: dict[tuple[str, ...], Row] = {}
    for file in sorted((folder / "runs").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        for kind in record["auc"]:
            if record["study"] != "open-set" or kind != "all" or len(record["auc"]) == 1:
                key = tuple(str(record[name]) for name in ("data", "split", "limit", "study", "case"))
                row = rows.setdefault((*key, record["recipe"]["detector"], kind), Row({}, kind))
                seed = record["recipe"]["seed"]
                if seed in row.runs:
                    raise SystemExit(f"{file}: another run of this case has seed {seed}, too. Keep one of them.")
                row.runs[seed] = record
    return dict(sorted(rows.items(), key=lambda item: (*item[0][:4], ORDER.index(item[0][4]), *item[0][5:])))


def write_table(folder: Path) -> None:
    """Write one table of everything that is stored in the folder."""
    rows = rows_of(folder)
    cells = []
    for (*setting, case, method, kind), row in rows.items():
        reference = next(
            (rows[key] for one in (method, "ddad") if (key := (*setting, row.first["reference"], one, kind)) in rows),
            None,
        )
        loss, allowed = row.loss_to(reference) if reference else None, row.first["allowed_loss"]
        limit = row.first["limit"]
        cells.append(
            {
                "study": row.first["study"],
                "data": f"{row.first['data']}, {row.first['split']}"
                + (f", {limit} names of each list" if limit else ""),
                "case": case,
                "method": method,
                "normal": f"{row.first['counts']['normal']}" + impurity(row),
                "unlabeled": row.first["counts"]["unlabeled"],
                "tested on": kind,
                "seeds": len(row.runs),
                "computed on": computed_on([*row.runs.values()]),
                "AUC": mean_auc(row),
                "loss": "" if loss is None else f"{100 * loss.difference:.1f} {reach(loss)}",
                "allowed": "" if allowed is None else f"{allowed:g}",
                "met": "" if loss is None or allowed is None else "yes" if 100 * loss.difference <= allowed else "no",
            }
        )
    text = (
        "# The three modes\n\nAUC of the main score on the test images, in percent, mean ± standard deviation over "
        "seeds. Loss: how much less than the first case of the study, over the same seeds, of the same method (of "
        "`ddad`, where the first case has only that), with the 95 % interval of DeLong et al. (1988), which asks about "
        "other test images and takes the fits as they are. Normal: images that were trained on as normal ones; in the "
        "pile, those that were trusted, of which so many percent are abnormal. Written by `benchmarks/modes.py`, which "
        f"says what the cases are; recipe, fingerprint and command of each run are in its file.\n\n"
        f"{to_markdown(pd.DataFrame(cells))}"
    )
    (folder / "results.md").write_text(text, encoding="utf-8")


def main_score(detector: str, counts: dict[str, int]) -> str:
    if detector != "ddad":
        return "image"
    return "r_dual" if counts["unlabeled"] else "r_intra"


def mean_auc(row: Row) -> str:
    aucs = np.array([run["auc"][row.tested_on] for run in row.runs.values()])
    return f"{aucs.mean():.1f}" + (f" ± {aucs.std(ddof=1):.1f}" if len(aucs) > 1 else "")


def reach(loss: PairedTest) -> str:
    half = 100 * HALF_WIDTH * loss.standard_error
    return f"[{100 * loss.difference - half:.1f}, {100 * loss.difference + half:.1f}]"


def impurity(row: Row) -> str:
    shares = [run["contamination"] for run in row.runs.values() if "contamination" in run]
    return f" ({100 * np.mean(shares):.1f} % abnormal)" if shares else ""


if __name__ == "__main__":
    main()
