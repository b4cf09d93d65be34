"""Whether `paper` through the engine scores as the procedure as published does, within the noise of seeds.

    python benchmarks/speed/same_scores.py DATA [--split FILE] [--images N] [--share 1] [--seeds 3] [--device cuda]

The procedure takes an hour or so a seed on two cores, minutes on a GPU; with fewer images to train on, all of its
epochs take as much less (60 % of the unlabeled ones are abnormal then). A share of the epochs shows whether the script
runs, and says little of the scores: ASR-Net is then far from where it ends. Each fit is stored in
`benchmarks/results/same-scores/runs`, and not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import published_procedure as published
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import machine
from stored_runs import fields_read, file_of, store

from ddad import Cohort, Recipe, __version__, fit
from ddad.cohorts import Role, decode
from ddad.discrepancy import image_score
from ddad.experiments.evaluation import evaluate
from ddad.experiments.published import SCORE_TITLES
from ddad.experiments.tables import to_markdown
from ddad.networks.ensemble import discrepancy_maps
from ddad.training.device import DeviceName

OUT = Path(__file__).resolve().parents[1] / "results" / "same-scores"
ANOMALY_RATE = 0.6
SCORES = ("rec", "rec_ensemble", "a_intra", "a_inter", "r_intra", "r_dual")


def by_procedure(cohort: Cohort, recipe: Recipe, device: DeviceName) -> dict[str, float]:
    """Run the published procedure, in fp32 on a GPU too, and return the AUC of each score."""
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.allow_tf32 = False
    normal, unlabeled = (pixels(cohort.paths(role), recipe).to(device) for role in (Role.NORMAL, Role.UNLABELED))
    ndm, udm, refiners = published.fitted(recipe, normal, unlabeled)
    tested = [cohort.paths(Role.TEST, label) for label in (0, 1)]
    images = torch.cat([pixels(paths, recipe) for paths in tested]).to(device)
    labels = np.repeat([0, 1], [len(paths) for paths in tested])
    with torch.no_grad():
        maps = [discrepancy_maps(ndm, udm, batch) for batch in torch.split(images, published.STAGE_1_BATCH)]
    scores = {name: torch.cat([image_score(each[name]) for each in maps]).tolist() for name in maps[0]}
    for score, modules in (("r_intra", (ndm,)), ("r_dual", (ndm, udm))):
        scores[score] = published.scored(modules, refiners[score], images)
    return {score: float(roc_auc_score(labels, scores[score])) for score in SCORES}


def by_engine(cohort: Cohort, recipe: Recipe, device: DeviceName) -> dict[str, float]:
    """Fit and evaluate as `ddad` does."""
    evaluation = evaluate(fit(cohort, recipe, device=device), cohort, device=device)
    return {score: evaluation.images[score].auc.estimate for score in SCORES}


WAYS: dict[str, Callable[[Cohort, Recipe, DeviceName], dict[str, float]]] = {
    "procedure": by_procedure,
    "engine": by_engine,
}


def pixels(paths: list[Path], recipe: Recipe) -> torch.Tensor:
    """Decode images to (N, C, S, S)."""
    return torch.from_numpy(np.array(decode(paths, recipe.images).pixels))


def shortened(share: float, seed: int) -> Recipe:
    """Return `paper` with a share of its epochs, each of one pass over the images, however few, as published."""
    recipe = Recipe.preset("paper")
    epochs = {
        "reconstruction.ndm_epochs": recipe.reconstruction.ndm_epochs,
        "reconstruction.udm_epochs": recipe.reconstruction.udm_epochs,
        "refinement.epochs": recipe.refinement.epochs,
    }
    once = {"reconstruction.least_steps": 1, "refinement.least_steps": 1}
    shares = {name: max(1, round(share * count)) for name, count in epochs.items()}
    return recipe.changed({**shares, **once, "seed": seed})


def row(score: str, runs: list[dict[str, Any]]) -> dict[str, str]:
    """Compare one score, in percent."""
    first, second = (
        100 * np.array([run["auc"][score] for run in runs if run["identity"]["way"] == way]) for way in WAYS
    )
    test = stats.ttest_ind(second, first, equal_var=False)
    low, high = test.confidence_interval()
    return {
        "score": SCORE_TITLES[score],
        "procedure": f"{first.mean():.1f} ± {first.std(ddof=1):.1f}",
        "engine": f"{second.mean():.1f} ± {second.std(ddof=1):.1f}",
        "engine less procedure": f"{second.mean() - first.mean():+.1f} [{low:+.1f}, {high:+.1f}]",
        "p": f"{test.pvalue:.2g}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="data.json")
    parser.add_argument("--images", type=int, help="so many normal and so many unlabeled ones; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the published epochs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of the procedure")
    options = parser.parse_args()
    cohort = Cohort.from_benchmark(
        options.data,
        split=options.split,
        anomaly_rate=ANOMALY_RATE if options.images else None,
        unlabeled_total=options.images,
        normals=(options.images, 0) if options.images else None,
    )
    runs = []
    for seed in range(options.seeds):
        for way, device in (("procedure", options.device), ("engine", "cpu")):
            runs.append(stored_run(way, cohort, shortened(options.share, seed), device))
            print(way, seed, runs[-1]["auc"], f"{runs[-1]['seconds']:.0f} s", flush=True)
    write(options.data.name + (f"-{options.images}-images" if options.images else ""), options.share, runs)


def stored_run(way: str, cohort: Cohort, recipe: Recipe, device: DeviceName) -> dict[str, Any]:
    """Return the stored run of a way; it is made first where there is none."""
    identity = {
        "way": way,
        "device": device,
        "cohort": cohort.fingerprint(),
        "recipe": fields_read(recipe),
    }
    file = file_of(OUT, f"{cohort.name}-{way}-seed{recipe.seed}", identity)
    if not file.exists():
        started = time.perf_counter()
        found = WAYS[way](cohort, recipe, device)
        record = {
            "identity": identity,
            "counts": cohort.counts(),
            "auc": found,
            "seconds": time.perf_counter() - started,
            "computed_on": torch.cuda.get_device_name() if device == "cuda" else machine.described(),
            "torch": torch.__version__,
        }
        store(file, record)
    return dict(json.loads(file.read_text(encoding="utf-8")))


def write(name: str, share: float, runs: list[dict[str, Any]]) -> None:
    """Write the table."""
    seconds = {way: np.mean([run["seconds"] for run in runs if run["identity"]["way"] == way]) for way in WAYS}
    counts = runs[0]["counts"]
    taken = " and ".join(f"{value:.0f}" for value in seconds.values())
    precisions = {"procedure": "fp32", "engine": "bf16 where it can"}
    ways = dict.fromkeys((run["identity"]["way"], run["computed_on"], run["torch"]) for run in runs)
    computed = "".join(
        f"- the {way} computes in {precisions[way]} on {machine_of}, torch {version}\n"
        for way, machine_of, version in ways
    )
    text = f"""# `paper` through the engine, and the procedure as published: {name}

AUC in percent, mean ± standard deviation over {len(runs) // 2} seeds, with {100 * share:g} % of the published epochs on
{counts["normal"]} normal and {counts["unlabeled"]} unlabeled images, tested on {counts["test"]};
the two draw different random numbers from the same seed. Interval and p-value are Welch's, over seeds.

{to_markdown(pd.DataFrame([row(score, runs) for score in SCORES]))}
{computed}- seconds a fit with its evaluation: {taken}; other work may have shared the machine
- ddad {__version__}
- cohort `{runs[0]["identity"]["cohort"]}`
- command: `{runs[0]["command"]}`
"""
    (OUT / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
