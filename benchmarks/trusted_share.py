"""How many images of a contaminated pile to trust, where nobody knows which of them are normal?

A pile holds the known normal images of a benchmark and 20 % abnormal ones from its unlabeled list. For each share of it
that trimming trusts, DDAD is fitted on the trusted images, and its R_intra judged on the unlabeled images that are in
no pile, by their labels; beside it stand the clean normal images alone, and the whole pile taken for normal. Training
images only; no test image is read. Each fit is stored when it is done, and not repeated.

    python benchmarks/trusted_share.py ../shared/datasets/chest_xray
    python benchmarks/trusted_share.py ../shared/datasets/brain_tumor --split data.leakfree.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from modes import cases
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from stored_runs import fields_read, file_of, store

from ddad import Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts import decode
from ddad.cohorts.benchmark_folder import read_split
from ddad.detectors import DDAD, FitContext, score_held_out
from ddad.experiments.tables import to_markdown
from ddad.training.device import Compute
from ddad.trimming import trust_likely_normals

SHARES = ("0.5", "0.65", "0.8", "0.9")
CLEAN, ALL = "clean", "all"


@dataclass(frozen=True)
class Images:
    """Decoded images with what is known of them; of the pile, and of those that judge."""

    pixels: NDArray[np.float32]
    is_abnormal: NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="benchmark folder")
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=Recipe().trimming.rounds, help="of trimming")
    parser.add_argument("--set", action="append", default=[], help="recipe field, NAME=VALUE")
    parser.add_argument("--limit", type=int, help="take only so many known normal images")
    parser.add_argument("--share", action="append", choices=SHARES, help=f"trusted; default: {', '.join(SHARES)}")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/trusted-share"))
    options = parser.parse_args()

    changes = {name: json.loads(value) for name, value in (text.split("=", 1) for text in options.set)}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            try_all(Recipe(seed=seed).changed({**changes, "trimming.rounds": options.rounds}), options, Path(folder))


def try_all(recipe: Recipe, options: argparse.Namespace, folder: Path) -> None:
    """Measure every case that is not stored."""
    pile, judges = dealt_out(options, recipe)
    for case in (CLEAN, ALL, *(options.share or SHARES)):
        identity: dict[str, Any] = {
            "data": options.data.name,
            "split": options.split,
            "limit": options.limit,
            "case": case,
            "recipe": fields_read(recipe, has_normals=case in (CLEAN, ALL)),
            "ddad": __version__,
        }
        stem = f"{options.data.name}-{Path(options.split).stem}-{case}-seed{recipe.seed}"
        file = file_of(options.out, stem, identity)
        if not file.exists():
            with terminal_progress() as progress:
                context = FitContext(folder, Compute.choose("auto", recipe.precision), options.workers, progress)
                computed = {"compute": context.compute.described()}
                store(file, identity | computed | measured(case, pile, judges, recipe, context))
            write_table(options.out)


def dealt_out(options: argparse.Namespace, recipe: Recipe) -> tuple[Images, Images]:
    """Return the pile, and the unlabeled images that are not in it."""
    lists = read_split(options.data / options.split)
    lists["train.0"] = lists["train.0"][: options.limit]
    of_pile = next(case for case in cases(lists, None, None, recipe.seed) if case.name == "pile").lists
    piled = {*of_pile["train.unlabeled.0"], *of_pile["train.unlabeled.1"]}

    def read(normal: Sequence[str], abnormal: Sequence[str]) -> Images:
        paths = [options.data / "images" / name for name in (*normal, *abnormal)]
        is_abnormal = np.repeat([False, True], [len(normal), len(abnormal)])
        decoded = decode(paths, recipe.images)
        return Images(decoded.pixels, is_abnormal[decoded.kept])

    left = ([name for name in lists[f"train.unlabeled.{label}"] if name not in piled] for label in (0, 1))
    return read(of_pile["train.unlabeled.0"], of_pile["train.unlabeled.1"]), read(*left)


def measured(case: str, pile: Images, judges: Images, recipe: Recipe, context: FitContext) -> dict[str, Any]:
    """Fit DDAD on what is trusted, and judge it."""
    chosen, within = trusted(case, pile, recipe, context)
    own = context.workspace / case
    own.mkdir()
    np.save(own / "trusted.npy", pile.pixels[chosen])
    scores = score_held_out(DDAD(recipe), own / "trusted.npy", None, judges.pixels, replace(context, workspace=own))
    return {
        "pile": counts(pile),
        "judges": counts(judges),
        "trusted": int(chosen.sum()),
        "abnormal_percent": round(100 * float(pile.is_abnormal[chosen].mean()), 1),
        "auc_in_pile": within,
        "auc": round(100 * float(roc_auc_score(judges.is_abnormal, scores)), 1),
    }


def trusted(case: str, pile: Images, recipe: Recipe, context: FitContext) -> tuple[NDArray[np.bool_], float | None]:
    """Return which images of the pile are taken for normal ones, (N,), and the AUC of what they are trusted by."""
    if case == CLEAN:
        return ~pile.is_abnormal, None
    if case == ALL:
        return np.ones(len(pile.pixels), bool), None
    for judged in context.workspace.glob("trimming-[1-9]*"):  # by images that another share trusted
        judged.unlink()
    np.save(context.workspace / "pile.npy", pile.pixels)
    recipe = recipe.changed({"trimming.trusted": float(case)})
    names = [str(place) for place in range(len(pile.pixels))]  # files of no known patient
    found = trust_likely_normals(context.workspace / "pile.npy", names, recipe, context)
    by_fold = [
        roc_auc_score(pile.is_abnormal[found.folds == fold], found.scores[found.folds == fold])
        for fold in np.unique(found.folds)
    ]
    return found.trusted, round(100 * float(np.mean(by_fold)), 1)


def counts(images: Images) -> dict[str, int]:
    return {"normal": int((~images.is_abnormal).sum()), "abnormal": int(images.is_abnormal.sum())}


def write_table(folder: Path) -> None:
    """Write one table of everything that is stored in the folder."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / "runs").glob("*.json"))]
    order = (CLEAN, *SHARES[::-1], ALL)
    records.sort(key=lambda r: (r["data"], str(r["limit"]), r["recipe"]["seed"], order.index(r["case"])))
    rows = pd.DataFrame(
        {
            "data": f"{r['data']}, {r['split']}" + (f", {r['limit']} known normal images" if r["limit"] else ""),
            "seed": r["recipe"]["seed"],
            "trusted": r["case"],
            "rounds": "" if r["case"] in (CLEAN, ALL) else str(r["recipe"]["trimming"]["rounds"]),
            "images": r["trusted"],
            "abnormal (%)": r["abnormal_percent"],
            "AUC in the pile": "" if r["auc_in_pile"] is None else f"{r['auc_in_pile']:.1f}",
            "AUC": r["auc"],
        }
        for r in records
    )
    text = (
        "# How many images of a pile to trust\n\nPiles of the known normal images with 20 % abnormal ones. Clean: the "
        "normal ones alone, as if they were known; all: the whole pile taken for normal; else the share that trimming "
        "trusts. AUC of R_intra, in percent: in the pile, of networks that have not seen an image, in the last round "
        "of trimming; else on unlabeled images that are in no pile. Both by their labels; no test image. "
        f"Written by `benchmarks/trusted_share.py`; the commands are in the JSON files.\n\n{to_markdown(rows)}"
    )
    (folder / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
