"""Score a large archive: rate and memory over time, and going on after a kill.

    python benchmarks/speed/archive.py --images 100000 --out benchmarks/results/archive

The files are made by program: phantoms with noise of their own, as JPEG of the network's size. `ddad score` runs in a
process of its own, is killed when half of the images are done, and is started again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pandas as pd
import psutil
import torch
from matplotlib.figure import Figure
from PIL import Image

from ddad import Cohort, Recipe, __version__
from ddad.cohorts.phantom import draw_phantom, render_phantom
from ddad.cohorts.phantom_cohort import write_phantom
from ddad.experiments.drawing import PAGE_INCHES, save, style
from ddad.experiments.tables import to_markdown
from ddad.fitting import fit

_PHANTOMS = 200
_FILES_A_FOLDER = 1000
_SECONDS_BETWEEN_SAMPLES = 2.0
# How long a network was trained changes nothing in how fast it scores.
_SHORT = {"reconstruction.ndm_epochs": 1, "reconstruction.udm_epochs": 1, "refinement.epochs": 1}


def write_archive(folder: Path, count: int, size: int) -> None:
    """Write `count` JPEG files of size x size pixels, no two alike."""
    phantoms = [render_phantom(draw_phantom(0, index, abnormal=index % 2 == 1), size)[0] for index in range(_PHANTOMS)]
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // _FILES_A_FOLDER:04d}"
        place.mkdir(parents=True, exist_ok=True)
        noise = random.normal(0, 4, (size, size))
        pixels = np.clip(phantoms[number % _PHANTOMS] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number:06d}.jpg", quality=92)


def write_model(folder: Path) -> None:
    """Fit a model for as short as can be."""
    images = folder.with_name("phantoms")
    write_phantom(images)
    model = fit(Cohort.from_manifest(images / "manifest.csv"), Recipe().changed(_SHORT))
    model.save(folder)


def watch(command: list[str], table: Path, stop_at: int | None) -> list[dict[str, float]]:
    """Run a command; note seconds, rows written and resident memory. Kill it once `stop_at` rows are there."""
    started, samples = time.monotonic(), []
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = position = 0
    while process.poll() is None:
        time.sleep(_SECONDS_BETWEEN_SAMPLES)
        if table.exists():
            with table.open("rb") as file:
                file.seek(position)
                content = file.read()
            position += len(content)
            rows += content.count(b"\n")
        try:
            family = [process, *process.children(recursive=True)]
            memory = sum(member.memory_info().rss for member in family)
        except psutil.Error:
            break
        samples.append({"seconds": time.monotonic() - started, "rows": rows, "memory_gb": memory / 1e9})
        if stop_at is not None and rows >= stop_at:
            process.kill()
            process.wait()
            return samples
    if process.wait() != 0:
        raise SystemExit(f"{shlex.join(command)} ended with {process.returncode}")
    return samples


def rate(samples: list[dict[str, float]], share: float) -> float:
    """Return rows a second in the first (share > 0) or the last (share < 0) part of the rows."""
    rows = np.array([sample["rows"] for sample in samples])
    seconds = np.array([sample["seconds"] for sample in samples])
    under_way = np.flatnonzero((rows > rows[0]) & (rows < rows[-1]))
    count = max(2, int(abs(share) * len(under_way)))
    part = under_way[:count] if share > 0 else under_way[-count:]
    return float((rows[part[-1]] - rows[part[0]]) / (seconds[part[-1]] - seconds[part[0]]))


def draw(runs: list[list[dict[str, float]]], out: Path) -> None:
    """Draw images done and memory over time, the run that was killed and the one that went on."""
    with style():
        figure = Figure(figsize=(PAGE_INCHES, 2.4), layout="constrained")
        axes = figure.subplots(1, 2)
        for name, samples in zip(("until the kill", "gone on"), runs, strict=True):
            minutes = [sample["seconds"] / 60 for sample in samples]
            axes[0].plot(minutes, [sample["rows"] for sample in samples], label=name)
            axes[1].plot(minutes, [sample["memory_gb"] for sample in samples], label=name)
        for axis, label in zip(axes, ("images scored", "resident memory, GB"), strict=True):
            axis.set(xlabel="minutes", ylabel=label)
            axis.set_ylim(bottom=0)
        axes[0].legend()
        save(figure, out, "archive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64, help="side of the files, in pixels")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/archive"))
    options = parser.parse_args()
    if options.images < 5000:
        parser.error("--images: fewer than 5000 are scored before a rate can be seen")
    with tempfile.TemporaryDirectory() as scratch:
        archive, model, scores = (Path(scratch) / name for name in ("archive", "brain.ddad", "scores"))
        write_model(model)
        started = time.monotonic()
        write_archive(archive, options.images, options.size)
        print(f"{options.images} files written in {time.monotonic() - started:.0f} s", flush=True)
        command = [sys.executable, "-m", "ddad", "score", str(model), str(archive), "--out", str(scores)]
        growing = scores.with_name("scores.unfinished") / "findings.csv"
        runs = [watch(command, growing, options.images // 2), watch(command, growing, None)]
        findings = pd.read_parquet(scores / "findings.parquet")
    found: dict[str, Any] = {
        "images": options.images,
        "size": options.size,
        "rows": len(findings),
        "distinct_paths": int(findings["path"].nunique()),
        "peak_memory_gb": max(sample["memory_gb"] for run in runs for sample in run),
        "images_per_second": {
            "the first fifth before the kill": rate(runs[0], 0.2),
            "before the kill": rate(runs[0], 1.0),
            "after it": rate(runs[1], 1.0),
            "the last fifth after it": rate(runs[1], -0.2),
        },
        "seconds": [run[-1]["seconds"] for run in runs],
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(),
        "commit": machine.commit(),
        "versions": {"ddad": __version__, "torch": torch.__version__},
        "command": shlex.join(["python", "benchmarks/speed/archive.py", *sys.argv[1:]]),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(runs, options.out)
    speeds = pd.DataFrame([(name, f"{value:.0f}") for name, value in found["images_per_second"].items()])
    speeds.columns = ["part", "images/s"]
    (options.out / "results.md").write_text(
        f"""# Scoring an archive

`ddad score` on {options.images} JPEG files of {options.size}×{options.size} pixels, made by program;
killed after half of them, and started again.

{to_markdown(speeds)}
- from start to end, with start-up and the listing of the files, twice: {options.images / sum(found["seconds"]):.0f}
  images/s
- rows in the end: {found["rows"]}, of as many different files: {found["distinct_paths"]}
- peak resident memory: {found["peak_memory_gb"]:.2f} GB
- machine: {found["machine"]}; {found["date"]}; commit `{found["commit"]}`, ddad {__version__}, torch
  {torch.__version__}
- command: `{found["command"]}`

![Images scored and memory over time](archive.svg)
""",
        encoding="utf-8",
    )
    print((options.out / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
