"""Time the published procedure, the `fast` recipe and the `paper` recipe side by side, on the same images.

    python benchmarks/speed/bench.py ../shared/datasets/brain_tumor --out benchmarks/results/speed

The published procedure and the `paper` recipe are run for a while in each part and extrapolated to their epochs;
`fast` is run to its end and evaluated; all on the processor. Ratios are of one run on one machine; absolute times are
that machine's.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine
import numpy as np
import published_procedure as published
import torch
from speed_report import report

from ddad import Cohort, Model, Recipe, __version__
from ddad.cli.terminal import say
from ddad.cohorts import Role, decode
from ddad.experiments.evaluation import evaluate
from ddad.experiments.peak_memory import peak_memory
from ddad.fitting import fit
from ddad.machine import processor_cores
from ddad.progress import SilentProgress, Task
from ddad.training.device import Compute

EPOCHS = ("reconstruction.ndm_epochs", "reconstruction.udm_epochs", "refinement.epochs")


class StageClock(SilentProgress):
    """Keeps the seconds between opening and closing each bar, by its title."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Time one stage."""
        started = time.perf_counter()
        with super().task(title, total) as task:
            yield task
        self.seconds[title] = self.seconds.get(title, 0.0) + time.perf_counter() - started


def rate_of(scoring: Callable[[], Iterable[object]]) -> float:
    """Return how many findings come a second."""
    started = time.perf_counter()
    count = sum(1 for _ in scoring())
    return count / (time.perf_counter() - started)


def measure(data: Path, seconds: float, changes: dict[str, str]) -> dict[str, Any]:
    """Measure everything; `seconds` is spent on each part of the published procedure, `changes` are made to `fast`."""
    paper, fast = Recipe.preset("paper"), Recipe().changed({"holdout": 0.0, **changes})
    cohort = Cohort.from_benchmark(data, anomaly_rate=0.6)
    # (b) comes first: its memory would else include what the others leave behind in this process.
    return {
        "data": data.name,
        "cohort": cohort.fingerprint(),
        "images": {str(role): len(cohort.paths(role)) for role in (Role.NORMAL, Role.UNLABELED, Role.TEST)},
        "fast": measure_fast(cohort, fast),
        "paper": measure_paper(cohort, paper),
        "published": measure_published(cohort, paper, seconds),
        "matrix_peak_gflops": {"fp32": machine.matrix_peak(torch.float32), "bf16": machine.matrix_peak(torch.bfloat16)},
        "asr_net_gflops": machine.asr_net_gflops(fast, Compute.choose("cpu", fast.precision), seconds),
    }


def measure_fast(cohort: Cohort, recipe: Recipe) -> dict[str, Any]:
    """Run a recipe to its end, and score the test files."""
    say("(b) the fast recipe, to its end")
    clock = StageClock()
    started = time.perf_counter()
    with peak_memory() as memory:
        model = fit(cohort, recipe, device="cpu", progress=clock)
    fit_seconds = time.perf_counter() - started
    evaluation = evaluate(model, cohort, device="cpu")
    total = time.perf_counter() - started
    return {
        "seconds": clock.seconds,
        "fit": fit_seconds,
        "total": total,
        "peak_memory_gb": memory.peak_bytes / 1e9,
        "auc_r_dual": 100 * evaluation.images["r_dual"].auc.estimate,
        "scoring": scoring_rates(model, cohort.paths(Role.TEST)),
    }


def scoring_rates(model: Model, files: Sequence[Path]) -> dict[str, float]:
    """Return images a second of decoding, of the networks, and of both together, without maps and with all of them."""
    started = time.perf_counter()
    pixels = decode(files, model.recipe.images, workers=processor_cores()).pixels
    decoding = len(files) / (time.perf_counter() - started)
    compute = Compute.choose("cpu", model.recipe.precision)
    return {
        "decoding": decoding,
        "networks": rate_of(lambda: model.score_pixels(pixels, compute, maps=False)),
        "networks, maps": rate_of(lambda: model.score_pixels(pixels, compute)),
        "files": rate_of(lambda: model.score(files, device="cpu", maps=False)),
        "files, maps": rate_of(lambda: model.score(files, device="cpu")),
    }


def measure_paper(cohort: Cohort, recipe: Recipe) -> dict[str, Any]:
    """Run the paper's recipe through the engine for two lengths, and go on in a line from there."""
    say("(c) the paper recipe through the engine, a few epochs")
    clocks = {}
    for length, epochs in (("short", 1), ("long", 3)):
        clocks[length] = StageClock()
        model = fit(cohort, recipe.changed(dict.fromkeys(EPOCHS, epochs)), device="cpu", progress=clocks[length])
    whole = {
        "reconstruction networks, epochs": recipe.reconstruction.ndm_epochs,
        "refinement networks, epochs": recipe.refinement.epochs,
    }
    seconds = {}
    for stage, epochs in whole.items():
        short, long = (clocks[length].seconds[stage] for length in ("short", "long"))
        seconds[stage] = short + (epochs - 1) * (long - short) / 2
    return {
        "seconds": seconds,
        "total": sum(seconds.values()),
        "scoring": scoring_rates(model, cohort.paths(Role.TEST)),
    }


def measure_published(cohort: Cohort, recipe: Recipe, seconds: float) -> dict[str, Any]:
    """Run each part of the published procedure for a while, and extrapolate to its epochs."""
    say("(a) the published procedure")
    images = torch.from_numpy(np.array(decode(cohort.paths(Role.NORMAL), recipe.images).pixels))
    normals, unlabeled = len(images), len(cohort.paths(Role.UNLABELED))
    modules = published.untrained_modules(recipe)
    settings, refinement = recipe.reconstruction, recipe.refinement
    ndm, udm = (published.images_in_epoch(count, published.STAGE_1_BATCH) for count in (normals, normals + unlabeled))
    shown = settings.members * (settings.ndm_epochs * ndm + settings.udm_epochs * udm)
    refined = refinement.epochs * published.images_in_epoch(normals, published.STAGE_2_BATCH)
    rates = {"stage 1": published.stage_1_rate(recipe, images, seconds)}
    found = {"stage 1": shown / rates["stage 1"]}
    for score, own in (("R_intra", modules[:1]), ("R_dual", modules)):
        rates[f"stage 2, {score}"] = published.stage_2_rate(recipe, own, images, seconds)
        rates[f"scoring, {score}"] = published.scoring_rate(recipe, own, images, seconds)
        found[f"stage 2, {score}"] = refined / rates[f"stage 2, {score}"]
        found[f"test passes, {score}"] = refinement.epochs * len(cohort.paths(Role.TEST)) / rates[f"scoring, {score}"]
    return {"images_per_second": rates, "seconds": found, "total": sum(found.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="benchmark folder")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each part of the published procedure")
    parser.add_argument("--set", action="append", default=[], help="recipe field of (b), NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch
        found = measure(options.data, options.seconds, dict(text.split("=", 1) for text in options.set))
    found |= {
        "seconds_each": options.seconds,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(),
        "commit": machine.commit(),
        "versions": {"ddad": __version__, "torch": torch.__version__},
        "command": shlex.join(["python", "benchmarks/speed/bench.py", *sys.argv[1:]]),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.out / "results.md").write_text(report(found), encoding="utf-8")
    print((options.out / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
