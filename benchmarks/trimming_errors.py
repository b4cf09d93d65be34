"""By which error does a network that has not seen an image tell the images of a contaminated pile apart?

A pile holds the known normal images of a benchmark and 20 % abnormal ones from its unlabeled list. Three networks are
trained on each half and judge the other. For each error: its AUC against the pile's labels, and how many percent of the
half with the smallest error are abnormal. Training images only; no test image is read.

    python benchmarks/trimming_errors.py ../shared/datasets/chest_xray
    python benchmarks/trimming_errors.py ../shared/datasets/brain_tumor --split data.leakfree.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from modes import cases
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from stored_runs import command

from ddad import Recipe
from ddad.cohorts import decode
from ddad.cohorts.benchmark_folder import read_split
from ddad.experiments.tables import to_markdown
from ddad.networks.ensemble import discrepancy_maps
from ddad.training.device import Compute
from ddad.training.pixels import ImagePool
from ddad.training.reconstruction import train_members
from ddad.training.refinement import load_ensemble

SETTINGS = {"images.image_size": 32, "reconstruction.ndm_epochs": 40}
TITLES = {
    "squared": "squared",
    "rec": "squared over the predicted variance",
    "a_intra": "spread of three networks (A_intra)",
    "unexplained": "unexplained share of the variance",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="benchmark folder")
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/trimming-errors"))
    options = parser.parse_args()

    lists = read_split(options.data / options.split)
    pile = next(case for case in cases(lists, None, None, seed=0) if case.name == "pile").lists
    normal, abnormal = pile["train.unlabeled.0"], pile["train.unlabeled.1"]
    is_abnormal = np.repeat([0, 1], [len(normal), len(abnormal)])
    paths = [options.data / "images" / name for name in [*normal, *abnormal]]
    images = decode(paths, Recipe().changed(SETTINGS).images).pixels
    rows = []
    for backbone in ("ae", "ae-u"):
        recipe = Recipe().changed({**SETTINGS, "reconstruction.backbone": backbone})
        for name, values in errors(recipe, images).items():
            smallest = np.argsort(values, kind="stable")[: len(values) // 2]
            rows.append(
                {
                    "backbone": backbone,
                    "error": name,
                    "auc": round(100 * float(roc_auc_score(is_abnormal, values)), 1),
                    "abnormal_percent": round(100 * float(is_abnormal[smallest].mean()), 1),
                }
            )
    record = {
        "data": options.data.name,
        "split": options.split,
        "pile": {"normal": len(normal), "abnormal": len(abnormal)},
        "settings": SETTINGS,
        "command": command(),
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.data.name}-{Path(options.split).stem}.json"
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_table(options.out)


def errors(recipe: Recipe, images: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Return every kind of error of every image, by networks that were trained on the other half."""
    half = np.random.default_rng(0).permutation(len(images)) % 2
    compute = Compute("cpu", "fp32")
    found: dict[str, NDArray[np.float64]] = {}
    for side in (0, 1):
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{member}.safetensors" for member in range(3)]
            for member, file in enumerate(files):
                number = 2 * member + side
                train_members(
                    recipe, "trim", [number], ImagePool([images[half != side]]), [file], compute, lambda _: None
                )
            ensemble = load_ensemble(recipe, files)
        own = np.flatnonzero(half == side)
        block = torch.from_numpy(images[own])
        with torch.inference_mode():
            squared = (block - ensemble(block)[0].mean(dim=0)).square().flatten(1).mean(dim=1)
            maps = discrepancy_maps(ensemble, None, block)
        values = {
            "squared": squared,
            "rec": maps["rec"].flatten(1).mean(dim=1),
            "a_intra": maps["a_intra"].flatten(1).mean(dim=1),
            "unexplained": squared / block.flatten(1).var(dim=1, correction=0),
        }
        for name, value in values.items():
            found.setdefault(name, np.empty(len(images)))[own] = value.numpy()
    return found


def write_table(folder: Path) -> None:
    """Write one table of all records in the folder."""
    cells = []
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        for row in record["rows"]:
            cells.append(
                {
                    "data": f"{record['data']}, {record['split']}",
                    "backbone": row["backbone"],
                    "error": TITLES[row["error"]],
                    "AUC": row["auc"],
                    "abnormal among the half with the smallest error (%)": row["abnormal_percent"],
                }
            )
    text = (
        "# Errors to trim by\n\nPiles with 20 % abnormal images, at 32×32 pixels, networks of 40 epochs, one round. "
        "Written by `benchmarks/trimming_errors.py`; the commands are in the JSON files.\n\n"
        f"{to_markdown(pd.DataFrame(cells))}"
    )
    (folder / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
