"""What `bench.py` found, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ddad.experiments.published import BENCHMARKS
from ddad.experiments.tables import to_markdown

STAGES = {"reconstruction networks, epochs": "stage 1", "refinement networks, epochs": "stage 2"}


def report(found: dict[str, Any]) -> str:
    """Write the measurements as Markdown."""
    plain, fast, paper = found["published"], found["fast"], found["paper"]
    rates, peaks, asr_net = plain["images_per_second"], found["matrix_peak_gflops"], found["asr_net_gflops"]
    figure = BENCHMARKS["brain-tumor"].auc["r_dual", "ae-u"]
    reached = "reached" if fast["auc_r_dual"] >= figure else "NOT reached"
    dual = of_r_dual(plain["seconds"])
    whole_ratio, dual_ratio = plain["total"] / fast["total"], dual / fast["total"]
    shares = {part: f"{value:.0f} GFLOP/s, {100 * value / peaks['bf16']:.0f} %" for part, value in asr_net.items()}
    plain_rates = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items() if "R_intra" not in name)
    images = ", ".join(f"{count} {role}" for role, count in found["images"].items())
    return f"""# Speed: the published procedure, `fast`, and `paper` through the engine

{to_markdown(_minutes(plain, fast, paper))}
In brackets: how many times faster than (a).

- **R_dual AUC of (b): {fast["auc_r_dual"]:.1f}** (the paper's {figure} is {reached}), after
  {in_minutes(fast["total"])} minutes, decoding and evaluation included. In that time (b) fits and evaluates both
  scores, R_intra and R_dual: {whole_ratio:.1f} times shorter than (a). Who wants R_dual alone needs one ASR-Net less of
  (a), {in_minutes(dual)} minutes: {dual_ratio:.1f} times as long as (b) with both
- **extrapolated**: (a) from images/s over {found["seconds_each"]:g} s of each part, (c) in a line from fits of one
  epoch and of three, its two stages alone; a whole run of `paper` is
  [published](../brain-tumor-paper/results.md). (b) was run to its end
- images/s of (a): {plain_rates}
- matrix product of this machine: {peaks["fp32"]:.0f} GFLOP/s in fp32, {peaks["bf16"]:.0f} in bf16;
  in scoring with maps, ASR-Net's wide convolution (97 % of its work): {shares["wide convolution"]} of the latter; the
  whole network, with normalisation, activation and exact output: {shares["network"]}
- peak memory of fitting (b): {fast["peak_memory_gb"]:.2f} GB, all processes together, shared pages once
- images: {images}; data fingerprint `{found["cohort"]}`
- machine: {found["machine"]}; {found["date"]}; commit `{found["commit"]}`, ddad {found["versions"]["ddad"]}, torch
  {found["versions"]["torch"]}
- command: `{found["command"]}`

## Scoring, images/s

{to_markdown(_scoring({"fast": fast["scoring"], "paper": paper["scoring"]}, rates["scoring, R_dual"]))}
In brackets: how many times (a), which scores decoded images one at a time and computes R_dual alone. *Files* is
`Model.score` on JPEG files, all six scores, which decodes and computes at the same time. *One after the other* is what
it would be if it first decoded and then computed. The anchored ASR-Net of `fast` keeps the image score of its input, so
that scores alone need no convolution; that of `paper` does.
"""


def _minutes(plain: dict[str, Any], fast: dict[str, Any], paper: dict[str, Any]) -> pd.DataFrame:
    engine = {
        title: {STAGES[name]: run["seconds"][name] for name in STAGES} for title, run in (("b", fast), ("c", paper))
    }
    spent = {
        stage: sum(value for name, value in plain["seconds"].items() if name.startswith(stage))
        for stage in ("stage 1", "stage 2", "test passes")
    }
    rows = [
        ("stage 1", spent["stage 1"], engine["b"]["stage 1"], engine["c"]["stage 1"]),
        ("stage 2, both ASR-Nets", spent["stage 2"], engine["b"]["stage 2"], engine["c"]["stage 2"]),
        ("a test pass after each epoch of stage 2", spent["test passes"], None, None),
        ("whole", plain["total"], fast["total"], paper["total"]),
    ]
    columns = ["minutes", "(a) published procedure", "(b) `fast`", "(c) `paper` through the engine"]
    return pd.DataFrame([(name, in_minutes(a), _times(a, b), _times(a, c)) for name, a, b, c in rows], columns=columns)


def of_r_dual(seconds: Mapping[str, float]) -> float:
    """Return how long the published procedure takes where R_dual alone is wanted."""
    return sum(value for name, value in seconds.items() if "R_intra" not in name)


def in_minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


def _times(plain: float, own: float | None) -> str:
    return "–" if own is None else f"{in_minutes(own)} ({plain / own:.1f}×)"


def _scoring(recipes: Mapping[str, Mapping[str, float]], plain: float) -> pd.DataFrame:
    rows = []
    for recipe, rates in recipes.items():
        for what, kind in (("scores alone", ""), ("with all six maps", ", maps")):
            networks, files = rates[f"networks{kind}"], rates[f"files{kind}"]
            rows.append(
                {
                    "recipe": f"`{recipe}`, {what}",
                    "decoding": f"{rates['decoding']:.0f}",
                    "networks": f"{networks:.0f}",
                    "one after the other": f"{1 / (1 / rates['decoding'] + 1 / networks):.0f}",
                    "files": f"{files:.0f} ({files / plain:.1f}×)",
                }
            )
    return pd.DataFrame(rows)
