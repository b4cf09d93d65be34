"""Judge the networks of stage 2 without a label: held-out normals against held-out unlabeled images.

The AUC of that comparison is AUC' = (1 - ρ)·AUC + ρ/2, ρ the share of normals among the unlabeled images, so it ranks
scores as the true AUC does: `ddad fit --select` chooses by it. Near copies are held out together, or a network's memory
would pass for knowledge. Test images are neither trained on nor scored, and no label is read.

    python benchmarks/label_free_guide.py ../shared/datasets/brain_tumor --split data.leakfree.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from stored_runs import command

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts import Role, decode
from ddad.detectors import FitContext
from ddad.detectors.ddad import DDAD, SCORES
from ddad.evaluation import image_metrics
from ddad.experiments.tables import to_markdown
from ddad.machine import processor_cores
from ddad.selecting import divide
from ddad.training.device import Compute

PUBLISHED_RATE = {"learning_rate": 1e-4, "schedule": "constant", "momentum": 0.5}
STAGE_2: dict[str, dict[str, Any]] = {
    "anchored, 3 epochs (fast)": {},
    "published, 3 epochs at 1e-3": {"network": "published"},
    "published, 10 epochs at 1e-4": {"network": "published", "epochs": 10, **PUBLISHED_RATE},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="benchmark folder")
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--backbone", default="ae-u")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="recipe field, NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/label-free-guide"))
    options = parser.parse_args()

    changes = dict(text.split("=", 1) for text in options.set)
    recipe = Recipe().changed(
        {"reconstruction.backbone": options.backbone, "seed": options.seed, "holdout": 0.0, **changes}
    )
    cohort = Cohort.from_benchmark(options.data, split=options.split)
    compute = Compute.choose("auto", recipe.precision)
    with tempfile.TemporaryDirectory() as folder, terminal_progress() as progress:
        workspace = Path(folder)
        roles = (Role.NORMAL, Role.UNLABELED)
        pixels = [
            decode(cohort.paths(role), recipe.images, progress=progress, title=f"reading {role}") for role in roles
        ]
        normal, unlabeled = (decoded.pixels for decoded in pixels)
        groups = [
            cohort.of(role)["group"].iloc[decoded.kept].tolist() for role, decoded in zip(roles, pixels, strict=True)
        ]
        division = divide(normal, unlabeled, (groups[0], groups[1]), recipe.seed)
        np.save(workspace / "normal.npy", normal[division.kept_normal])
        np.save(workspace / "unlabeled.npy", unlabeled[division.kept_unlabeled])
        held = torch.from_numpy(np.concatenate([normal[division.held_normal], unlabeled[division.held_unlabeled]]))
        is_unlabeled = np.repeat([0, 1], [len(division.held_normal), len(division.held_unlabeled)])

        found: dict[str, dict[str, list[float]]] = {}
        for name, stage_2 in STAGE_2.items():
            for stale in workspace.glob("r_*.safetensors"):
                stale.unlink()  # stage 1 stays and is the same for all
            detector = DDAD(recipe.changed({f"refinement.{field}": value for field, value in stage_2.items()}))
            context = FitContext(workspace, compute, processor_cores(), progress)
            detector.fit(workspace / "normal.npy", workspace / "unlabeled.npy", context)
            scored = detector.score(held, compute)
            found[name] = {}
            for score in SCORES:
                auc = image_metrics(is_unlabeled, scored.scores[score].numpy()).auc
                found[name][score] = [round(100 * value, 2) for value in (auc.estimate, auc.low, auc.high)]

    record = {
        "data": options.data.name,
        "split": options.split,
        "backbone": options.backbone,
        "seed": options.seed,
        "recipe": recipe.model_dump(mode="json"),
        "cohort": cohort.fingerprint(),
        "held_out": {"normal": len(division.held_normal), "unlabeled": len(division.held_unlabeled)},
        "versions": {"ddad": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "command": command(),
        "guide": found,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = f"{options.data.name}-{Path(options.split).stem}-{options.backbone}-seed{options.seed}"
    (options.out / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_table(options.out)


def write_table(folder: Path) -> None:
    """Write one table of all records in the folder."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        for name, scores in record["guide"].items():
            cells = {score: f"{value:.1f} [{low:.1f}, {high:.1f}]" for score, (value, low, high) in scores.items()}
            setting = {"data": f"{record['data']}, {record['split']}", "backbone": record["backbone"]}
            rows.append({**setting, "seed": record["seed"], "stage 2": name, **cells})
    text = (
        "# The label-free guide\n\nAUC in percent, with 95 % bootstrap intervals, of held-out normals against held-out "
        "unlabeled images; a fifth of the near-copy groups is held out of both stages. No test image is scored and no "
        "label is read. Written by `benchmarks/label_free_guide.py`; command, recipe and fingerprint of each run are "
        f"in its JSON file.\n\n{to_markdown(pd.DataFrame(rows))}"
    )
    (folder / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
