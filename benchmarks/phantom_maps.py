"""Do the maps point at the lesion? Detectors on phantoms, whose lesions are known to the pixel.

For each seed new phantoms are made and each method is fitted on them with the `fast` recipe. Pixel AP is the average
precision over all pixels of all test images, against the masks. Every run is stored when it is done, and not
repeated. Beside them stands what the error of a perfect reconstruction would show.

    python benchmarks/phantom_maps.py
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from stored_runs import fields_read, file_of, store

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import terminal_progress
from ddad.cohorts.phantom import draw_phantom, render_phantom
from ddad.cohorts.phantom_cohort import write_phantom
from ddad.evaluation import pixel_metrics
from ddad.evaluation.mask_grid import mask_on_grid
from ddad.experiments.run import run_once
from ddad.experiments.tables import to_markdown
from ddad.progress import Progress

COUNTS = {
    "normals": 300,
    "unlabeled_normals": 120,
    "unlabeled_abnormals": 180,
    "test_normals": 150,
    "test_abnormals": 150,
}
METHODS = ("ddad", "normal-vs-unlabeled", "ddad+")
SIZE = Recipe().images.image_size
FIRST_TEST_IMAGES = (3_000_000, 4_000_000)  # normal and abnormal, as `phantom_cohort` numbers them
FIRST_SEED = 10  # the map of ddad+ was designed on phantoms of the seeds 0 and 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", action="append", help="default: " + ", ".join(METHODS))
    parser.add_argument("--set", action="append", default=[], help="recipe field, NAME=VALUE")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/phantom-maps"))
    options = parser.parse_args()

    changes = {name: json.loads(value) for name, value in (text.split("=", 1) for text in options.set)}
    files = []
    with terminal_progress() as progress:
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                images = Path(folder) / "phantoms"
                write_phantom(images, **COUNTS, seed=seed)
                cohort = Cohort.from_manifest(images / "manifest.csv")
                for method in options.method or METHODS:
                    recipe = Recipe(seed=seed, holdout=0.0, detector=method).changed(changes)
                    files.append(run(cohort, recipe, options, progress))
    write_table(options.out, files)


def run(cohort: Cohort, recipe: Recipe, options: argparse.Namespace, progress: Progress) -> Path:
    """Fit and evaluate, unless that is stored, and return the file of the record."""
    identity: dict[str, Any] = {
        "phantoms": COUNTS,
        "recipe": fields_read(recipe),
        "cohort": cohort.fingerprint(),
        "ddad": __version__,
    }
    file = file_of(options.out, f"phantoms-{recipe.detector}-seed{recipe.seed}", identity)
    if file.exists():
        return file
    progress.message(f"{recipe.detector}, seed {recipe.seed}")
    model = file.with_suffix(".model")
    found = run_once(cohort, recipe, model, "auto", options.workers, progress)
    store(file, identity | found)
    shutil.rmtree(model)
    return file


def write_table(folder: Path, files: list[Path]) -> None:
    """Write one table of these records."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    rows = pd.DataFrame(
        {
            "method": record["recipe"]["detector"],
            "score": score,
            "seed": record["recipe"]["seed"],
            "image AUC": 100 * record["evaluation"]["images"][score]["auc"]["estimate"],
            "pixel AP": 100 * record["evaluation"]["pixels"][score]["ap"],
        }
        for record in records
        for score in record["evaluation"]["images"]
    )
    plain = rows[rows["score"] == "rec"].set_index("seed")["pixel AP"]
    rows["times A_rec"] = rows["pixel AP"] / rows["seed"].map(plain)
    perfect = pd.DataFrame({"seed": plain.index, "pixel AP": [perfect_error(seed) for seed in plain.index]})
    perfect["times A_rec"] = perfect["pixel AP"] / perfect["seed"].map(plain)
    rows = pd.concat([rows, perfect.assign(method="perfect reconstruction", score="error")])
    columns = ["image AUC", "pixel AP", "times A_rec"]
    groups = rows.groupby(["method", "score"], sort=False)
    table = pd.DataFrame(
        {"method": method, "score": score, "seeds": len(group)} | {name: spread(group[name]) for name in columns}
        for (method, score), group in groups
    )
    counts = ", ".join(f"{count} {name}" for name, count in COUNTS.items()).replace("_", " ")
    text = (
        "# Maps on phantoms\n\nImage AUC and pixel AP (over all pixels of all test images) in percent, mean ± standard "
        f"deviation over seeds; each seed has phantoms of its own: {counts}. The last column is the pixel AP over that "
        "of A_rec (the score `rec` of `ddad`) on the same phantoms. Perfect reconstruction: the smoothed difference "
        "to the same slices, drawn without lesion and without noise. Written by "
        "`benchmarks/phantom_maps.py`.\n\n"
        f"{to_markdown(table)}\nddad {records[0]['ddad']}, torch {records[0]['versions']['torch']}, "
        f"{records[0]['compute']['precision']}; recipe, fingerprint and command of each run are in its file.\n"
    )
    (folder / "results.md").write_text(text, encoding="utf-8")


def perfect_error(seed: int) -> float:
    """Return the pixel AP, in percent, of the error of a network that knew the slice without its lesion."""
    maps, masks = [], []
    counts = (COUNTS["test_normals"], COUNTS["test_abnormals"])
    for abnormal, first, count in zip((False, True), FIRST_TEST_IMAGES, counts, strict=True):
        for index in range(first, first + count):
            phantom = draw_phantom(seed, index, abnormal=abnormal)
            image, mask = render_phantom(phantom)
            healthy = replace(phantom, lesion=None, pose=replace(phantom.pose, noise=0.0))
            difference = small(image) - small(render_phantom(healthy)[0])
            maps.append(np.abs(gaussian_filter(difference, 1.0)))
            masks.append(mask_on_grid(mask, SIZE))
    return 100 * pixel_metrics(masks, maps).ap


def small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)


def spread(values: pd.Series[float]) -> str:
    if values.isna().all():
        return ""
    return f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
