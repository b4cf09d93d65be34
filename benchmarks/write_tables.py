"""Write the tables of every folder of runs under `benchmarks/results` anew from its stored runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stored_runs import check_for_doubles

from ddad.experiments.benchmark import write_results
from ddad.experiments.published import benchmark_named
from ddad.experiments.run import settings_of
from ddad.experiments.sweep_results import write_sweep
from ddad.recipe import Recipe

RESULTS = Path(__file__).resolve().parent / "results"
DATA = "../shared/datasets"
FOLDERS = {  # what measured each
    "brain-tumor": f"benchmark brain-tumor --data {DATA}/brain_tumor",
    "brain-tumor-grid": f"benchmark brain-tumor --data {DATA}/brain_tumor --jobs 2",
    "brain-tumor-memae-250": f"benchmark brain-tumor --data {DATA}/brain_tumor",
    "brain-tumor-image": f"benchmark brain-tumor --data {DATA}/brain_tumor",
    "brain-tumor-leakfree": f"benchmark brain-tumor --data {DATA}/brain_tumor --split data.leakfree.json",
    "brain-tumor-leakfree-image": f"benchmark brain-tumor --data {DATA}/brain_tumor --split data.leakfree.json",
    "brain-tumor-gpu": f"benchmark brain-tumor --data {DATA}/brain_tumor --device cuda",
    "brain-tumor-paper-gpu": f"benchmark brain-tumor --data {DATA}/brain_tumor --device cuda --recipe paper",
    "chest-xray": f"benchmark custom --data {DATA}/chest_xray",
    "chest-xray-image": f"benchmark custom --data {DATA}/chest_xray",
    "unseen-meningioma": f"benchmark brain-tumor --data {DATA}/brain_tumor --unseen 'meningioma=*-me*'",
    "unseen-glioma": f"benchmark brain-tumor --data {DATA}/brain_tumor --unseen 'glioma=*-gl*'",
    "unseen-meningioma-leakfree": (
        f"benchmark brain-tumor --data {DATA}/brain_tumor --split data.leakfree.json --unseen 'meningioma=*-me*'"
    ),
    "unseen-glioma-leakfree": (
        f"benchmark brain-tumor --data {DATA}/brain_tumor --split data.leakfree.json --unseen 'glioma=*-gl*'"
    ),
    "anomaly-rate-brain-tumor": f"sweep anomaly-rate --dataset brain-tumor --data {DATA}/brain_tumor",
    "anomaly-rate-brain-tumor-leakfree": (
        f"sweep anomaly-rate --dataset brain-tumor --data {DATA}/brain_tumor --split data.leakfree.json"
    ),
    "anomaly-rate-chest-xray-image": f"sweep anomaly-rate --data {DATA}/chest_xray",
    "anomaly-rate-chest-xray": f"sweep anomaly-rate --data {DATA}/chest_xray",
}


def main() -> None:
    for name, arguments in FOLDERS.items():
        preset = "paper" if "--recipe paper" in arguments else "fast"
        files = sorted((RESULTS / name / "runs").glob(f"*-{preset}-*.json"))
        if not files:
            continue
        records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        check_for_doubles(records, name)
        out = RESULTS / name
        command = "` and `".join(
            f"ddad {arguments} {what} --out benchmarks/results/{name}" for what in commands(records, arguments)
        )
        if arguments.startswith("sweep"):
            records.sort(key=lambda record: (record["anomaly_rate"], record["recipe"]["seed"]))
            write_sweep("anomaly-rate", [record["anomaly_rate"] for record in records], records, command, out)
        else:
            write_results(records, benchmark_named(arguments.split()[1]), command, out)


def commands(records: Iterable[dict[str, Any]], arguments: str) -> list[str]:
    """Return the options that make the runs again: methods with the same seeds, rates and settings share a command."""
    seeds: dict[tuple[str, str, str], dict[float, set[int]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        cell, recipe = record["cells"][0], Recipe.model_validate(record["recipe"])
        changes = "".join(f" --set {name}={value}" for name, value in settings_of(record).items())
        key = cell["method"], cell["backbone"] or "", changes
        seeds[key][record["anomaly_rate"] or 0.0].add(recipe.seed)
    shared: dict[tuple[str, str, int], list[tuple[str, str]]] = defaultdict(list)
    for (method, backbone, changes), own in sorted(seeds.items()):
        for count in sorted({len(found) for found in own.values()}, reverse=True):
            # With the lower rates beside, the number of unlabeled images stays theirs.
            rates = ",".join(f"{rate:g}" for rate in sorted(own) if len(own[rate]) >= count)
            values = f" --value {rates}" if arguments.startswith("sweep") else ""
            shared[values, changes, count].append((method, backbone))
    options = []
    for (values, changes, count), methods in sorted(shared.items(), key=lambda item: item[1]):
        names = ",".join(dict.fromkeys(method for method, _ in methods))
        backbones = ",".join(backbone for _, backbone in methods if backbone)
        given = f" --backbones {backbones}" if backbones else ""
        options.append(f"--methods {names}{given}{values}{changes} --seeds {count}")
    return options


if __name__ == "__main__":
    main()
