"""Time the published procedure, the `fast` recipe and the `paper` recipe side by side, on the same images.

    python benchmarks/speed/bench.py ../shared/datasets/brain_tumor --out benchmarks/results/speed

The published procedure and the `paper` recipe are run for a while in each part and extrapolated to their epochs;
`fast` is run to its end and evaluated. Ratios are of one run on one machine; absolute times are that machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import published_procedure as published
import torch
from torch import nn

from ddad import Cohort, Recipe, __version__
from ddad.cli.terminal import say
from ddad.cohorts import Role, decode
from ddad.cores import processor_cores
from ddad.detectors.ddad import REFINED_AT_ONCE
from ddad.experiments.evaluation import evaluate
from ddad.experiments.peak_memory import peak_memory
from ddad.experiments.published import BENCHMARKS
from ddad.experiments.tables import to_markdown
from ddad.fitting import fit
from ddad.networks.factory import build_asr_net
from ddad.progress import SilentProgress, Task
from ddad.training.device import Compute

PAPER_EPOCHS_RUN = {"reconstruction.ndm_epochs": 4, "reconstruction.udm_epochs": 4, "refinement.epochs": 1}


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


def matrix_peak(dtype: torch.dtype, seconds: float = 3.0) -> float:
    """Return GFLOP/s of a large matrix product on all cores."""
    size = 2048
    left, right = torch.randn(2, size, size).to(dtype)
    products = published.images_per_second(lambda: (left @ right, 1)[1], seconds)
    return products * 2 * size**3 / 1e9


def asr_net_gflop(recipe: Recipe, inputs: int = 2) -> float:
    """Return the multiplications and additions of ASR-Net's convolutions for one image, in 10^9."""
    width, pixels = recipe.refinement.width, recipe.images.image_size**2
    return 2 * 9 * pixels * (inputs * width + width * width + width * 2) / 1e9


def asr_net_gflops(recipe: Recipe, seconds: float) -> dict[str, float]:
    """Return GFLOP/s of ASR-Net as the engine scores, and of its wide convolution, padding included."""
    compute = Compute.choose("auto", recipe.precision)
    network = compute.place(build_asr_net(recipe, ["a_intra", "a_inter"]).eval())
    size, width = recipe.images.image_size, recipe.refinement.width
    maps = compute.send(torch.rand(REFINED_AT_ONCE, 2, size, size))
    hidden = compute.send(torch.rand(REFINED_AT_ONCE, width, size, size))
    if compute.precision == "bf16":
        hidden = hidden.bfloat16()
    wide_gflop = 2 * 9 * size**2 * width * width / 1e9

    def rate(part: nn.Module, images: torch.Tensor) -> float:
        def step() -> int:
            with torch.inference_mode(), compute.autocast():
                part(images)
            return len(images)

        return published.images_per_second(step, seconds)

    return {
        "network": rate(network, maps) * asr_net_gflop(recipe),
        "wide convolution": rate(network.layers[3], hidden) * wide_gflop,
    }


def rate_of(scoring: Callable[[], Iterable[object]]) -> float:
    """Return how many findings come a second."""
    started = time.perf_counter()
    count = sum(1 for _ in scoring())
    return count / (time.perf_counter() - started)


def measure(data: Path, seconds: float, changes: dict[str, str]) -> dict[str, Any]:
    """Measure everything; `seconds` is spent on each part of the published procedure, `changes` are made to `fast`."""
    paper, fast = Recipe.preset("paper"), Recipe().changed({"holdout": 0.0, **changes})
    cohort = Cohort.from_benchmark(data, anomaly_rate=0.6)
    counts = {role: len(cohort.paths(role)) for role in (Role.NORMAL, Role.UNLABELED, Role.TEST)}
    normals, both = counts[Role.NORMAL], counts[Role.NORMAL] + counts[Role.UNLABELED]
    images = torch.from_numpy(np.array(decode(cohort.paths(Role.NORMAL), paper.images).pixels))
    settings, refinement = paper.reconstruction, paper.refinement

    say("(a) the published procedure")
    modules = published.untrained_modules(paper)
    rates = {
        "stage 1": published.stage_1_rate(paper, images, seconds),
        "stage 2": published.stage_2_rate(paper, modules, images, seconds),
        "scoring": published.scoring_rate(paper, modules, images, seconds),
    }
    shown = settings.members * (settings.ndm_epochs * normals + settings.udm_epochs * both)
    plain = {
        "stage 1": shown / rates["stage 1"],
        "stage 2": 2 * refinement.epochs * normals / rates["stage 2"],
        "test passes": 2 * refinement.epochs * counts[Role.TEST] / rates["scoring"],
    }

    say("(b) the fast recipe, to its end")
    clock = StageClock()
    started = time.perf_counter()
    with peak_memory() as memory:
        model = fit(cohort, fast, progress=clock)
    fit_seconds = time.perf_counter() - started
    evaluation = evaluate(model, cohort)
    fast_total = time.perf_counter() - started
    test = cohort.paths(Role.TEST)
    score_rates = {
        "scores alone": rate_of(lambda: model.score(test, maps=False)),
        "with all six maps": rate_of(lambda: model.score(test)),
    }
    started = time.perf_counter()
    decode(test, fast.images, workers=processor_cores())
    decode_rate = len(test) / (time.perf_counter() - started)

    say("(c) the paper recipe through the engine, a few epochs")
    paper_clock = StageClock()
    fit(cohort, paper.changed(PAPER_EPOCHS_RUN), progress=paper_clock)
    engine = {
        "stage 1": paper_clock.seconds["reconstruction networks"]
        * settings.ndm_epochs
        / PAPER_EPOCHS_RUN["reconstruction.ndm_epochs"],
        "stage 2": paper_clock.seconds["refinement networks"]
        * refinement.epochs
        / PAPER_EPOCHS_RUN["refinement.epochs"],
    }

    peaks = {"fp32": matrix_peak(torch.float32), "bf16": matrix_peak(torch.bfloat16)}
    return {
        "data": data.name,
        "cohort": cohort.fingerprint(),
        "images": {str(role): count for role, count in counts.items()},
        "published": {"images_per_second": rates, "seconds": plain, "total": sum(plain.values())},
        "fast": {
            "seconds": clock.seconds,
            "fit": fit_seconds,
            "total": fast_total,
            "score_images_per_second": score_rates,
            "decode_images_per_second": decode_rate,
            "auc_r_dual": 100 * evaluation.images["r_dual"].auc.estimate,
        },
        "paper": {"epochs_run": PAPER_EPOCHS_RUN, "seconds": engine, "total": sum(engine.values())},
        "matrix_peak_gflops": peaks,
        "asr_net_gflops": asr_net_gflops(fast, seconds),
        "peak_memory_gb": memory.peak_bytes / 1e9,
    }


def report(found: dict[str, Any]) -> str:
    """Write the measurements as Markdown."""
    plain, fast, paper = found["published"], found["fast"], found["paper"]
    stage_1, stage_2 = fast["seconds"]["reconstruction networks"], fast["seconds"]["refinement networks"]

    def minutes(value: float) -> str:
        return f"{value / 60:.1f}"

    rows = [
        ("stage 1", plain["seconds"]["stage 1"], stage_1, paper["seconds"]["stage 1"]),
        ("stage 2", plain["seconds"]["stage 2"], stage_2, paper["seconds"]["stage 2"]),
        ("test pass after each epoch of stage 2", plain["seconds"]["test passes"], None, None),
        ("whole", plain["total"], fast["total"], paper["total"]),
    ]
    table = pd.DataFrame(
        [
            (
                name,
                minutes(a),
                "–" if b is None else f"{minutes(b)} ({a / b:.1f}×)",
                "–" if c is None else f"{minutes(c)} ({a / c:.1f}×)",
            )
            for name, a, b, c in rows
        ],
        columns=["minutes", "(a) published procedure", "(b) `fast`", "(c) `paper` through the engine"],
    )
    rates, peaks = plain["images_per_second"], found["matrix_peak_gflops"]
    figure, asr_net = BENCHMARKS["brain-tumor"].auc["r_dual", "ae-u"], found["asr_net_gflops"]
    scoring = ", ".join(
        f"{what} {rate:.0f} images/s ({rate / rates['scoring']:.1f} times (a))"
        for what, rate in fast["score_images_per_second"].items()
    )
    shares = {part: f"{value:.0f} GFLOP/s, {100 * value / peaks['bf16']:.0f} %" for part, value in asr_net.items()}
    return f"""# Speed: the published procedure, `fast`, and `paper` through the engine

{to_markdown(table)}
In brackets: how many times faster than (a).

- **extrapolated**: (a) from images/s over {found["seconds_each"]:g} s of each part, (c) from {paper["epochs_run"]};
  (b) was run to its end
- R_dual AUC of (b) in this run: {fast["auc_r_dual"]:.1f} (paper: {figure}), in {minutes(fast["total"])} minutes:
  {plain["total"] / fast["total"]:.1f} times shorter than (a)
- images/s of (a): stage 1 {rates["stage 1"]:.0f}, stage 2 {rates["stage 2"]:.0f}, scoring {rates["scoring"]:.0f}
- `Model.score` on the test files, decoding included: {scoring}; (a) scores decoded images.
  Decoding alone: {fast["decode_images_per_second"]:.0f} images/s
- matrix product of this machine: {peaks["fp32"]:.0f} GFLOP/s in fp32, {peaks["bf16"]:.0f} in bf16;
  in scoring with maps, ASR-Net's wide convolution (97 % of its work): {shares["wide convolution"]} of the latter; the
  whole network, with normalisation, activation and exact output: {shares["network"]}
- peak memory of fitting (b): {found["peak_memory_gb"]:.2f} GB, all processes together, shared pages once
- images: {found["images"]}; data fingerprint `{found["cohort"]}`
- machine: {found["machine"]}; {found["date"]}; ddad {found["versions"]["ddad"]}, torch {found["versions"]["torch"]}
- command: `{found["command"]}`
"""


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
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {"ddad": __version__, "torch": torch.__version__},
        "command": shlex.join(["python", "benchmarks/speed/bench.py", *sys.argv[1:]]),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.out / "results.md").write_text(report(found), encoding="utf-8")
    print((options.out / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
