"""How the cost of a fit grows: with images, with K, with image size, with processes.

    python benchmarks/speed/growth.py --out benchmarks/results/growth

One factor is changed at a time. What is timed is a whole fit of phantoms with few epochs, decoding and statistics
included.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import machine
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

from ddad import Cohort, Recipe, __version__
from ddad.cohorts.phantom import draw_phantom, render_phantom
from ddad.experiments.drawing import MARKERS, PAGE_INCHES, save, style
from ddad.experiments.peak_memory import peak_memory
from ddad.experiments.tables import to_markdown
from ddad.fitting import fit

# Normal images; as many unlabeled ones are added.
USUAL = {"images": 300, "members": 3, "image size": 64, "processes": 2}
FACTORS = {
    "images": (150, 300, 600, 1200, 2400, 5000),
    "members": (1, 2, 3, 5),
    "image size": (32, 64, 128, 256),
    "processes": (1, 2, 3),
}
EPOCHS = {"reconstruction.ndm_epochs": 2, "reconstruction.udm_epochs": 2, "refinement.epochs": 1}
_SMALLEST = 48


def write_images(folder: Path, count: int, size: int) -> None:
    """Write `count` phantoms as PNG files of size x size pixels, no two alike."""
    folder.mkdir()
    for index in range(count):
        # Phantoms have a smallest size, and a smaller image costs what it costs.
        rendered = render_phantom(draw_phantom(0, index, abnormal=False), max(size, _SMALLEST))[0]
        Image.fromarray(rendered[:size, :size]).save(folder / f"{index:05d}.png")


def measure(setting: dict[str, int]) -> dict[str, float]:
    """Fit once with a setting and return seconds, and memory of all processes together in GB."""
    recipe = Recipe().changed(
        {**EPOCHS, "reconstruction.members": setting["members"], "images.image_size": setting["image size"]}
    )
    with tempfile.TemporaryDirectory() as scratch:
        folders = {role: Path(scratch) / role for role in ("normal", "unlabeled")}
        for folder in folders.values():
            write_images(folder, setting["images"], setting["image size"])
        cohort = Cohort.from_folders(normal=folders["normal"], unlabeled=folders["unlabeled"])
        started = time.perf_counter()
        with peak_memory() as memory:
            fit(cohort, recipe, out=Path(scratch) / "model", device="cpu", workers=setting["processes"])
    return {"seconds": time.perf_counter() - started, "memory_gb": memory.peak_bytes / 1e9}


def measure_alone(setting: dict[str, int]) -> dict[str, float]:
    """Do `measure` in a process of its own, which holds nothing of earlier fits."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, setting).result()


def draw(table: pd.DataFrame, out: Path) -> None:
    """Draw seconds over each factor, on two logarithmic axes, with what proportional growth would be."""
    with style():
        figure = Figure(figsize=(PAGE_INCHES, 2.1), layout="constrained")
        for axis, (factor, rows) in zip(
            figure.subplots(1, len(FACTORS), sharey=True), table.groupby("factor", sort=False), strict=True
        ):
            axis.plot(rows["value"], rows["seconds"], marker=MARKERS[0])
            usual = rows.loc[rows["value"] == USUAL[str(factor)], "seconds"].iloc[0]
            power = {"image size": 2, "processes": -1}.get(str(factor), 1)
            axis.plot(
                rows["value"], usual * (rows["value"] / USUAL[str(factor)]) ** power, ":", color="grey", linewidth=1
            )
            axis.set(xscale="log", yscale="log", xlabel=factor)
            axis.set_xticks(rows["value"], rows["value"])
            axis.minorticks_off()
            axis.tick_params(axis="x", rotation=45)
        figure.axes[0].set_ylabel("seconds")
        save(figure, out, "growth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/growth"))
    options = parser.parse_args()
    measure_alone({**USUAL, "images": 100})  # the first fit reads libraries from disk
    rows = []
    usual = measure_alone(USUAL)
    for factor, values in FACTORS.items():
        for value in values:
            found = usual if value == USUAL[factor] else measure_alone({**USUAL, factor: value})
            rows.append({"factor": factor, "value": value, **found})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    record = {
        "usual": USUAL,
        "epochs": EPOCHS,
        "rows": rows,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(),
        "commit": machine.commit(),
        "versions": {"ddad": __version__, "torch": torch.__version__},
        "command": shlex.join(["python", "benchmarks/speed/growth.py", *sys.argv[1:]]),
    }
    (options.out / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(table, options.out)
    shortened = ", ".join(f"{field}={value}" for field, value in EPOCHS.items())
    usual_setting = ", ".join(f"{value} {name}" for name, value in USUAL.items())
    shown = table.assign(
        seconds=table["seconds"].map("{:.1f}".format), memory=table["memory_gb"].map("{:.2f} GB".format)
    )
    (options.out / "results.md").write_text(
        f"""# How the cost of a fit grows

Seconds of a whole `ddad.fit` with {shortened}, from files on disk to a saved model, and peak memory of
all processes together, shared pages once. One factor at a time; else {usual_setting}.
`images` is the number of normal images; as many unlabeled ones are there, so that 5000 are 10,000 in all. An epoch of
stage 2 has at least {Recipe().refinement.least_steps} steps, which few images are repeated for.
Dotted in the figure: proportional growth (with the square of the image's side; with one over the processes).

{to_markdown(shown[["factor", "value", "seconds", "memory"]])}
- machine: {record["machine"]}; {record["date"]}; commit `{record["commit"]}`, ddad {__version__}, torch
  {torch.__version__}
- command: `{record["command"]}`

![Seconds over each factor](growth.svg)
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
