"""Write `results.md` and `results.csv` of every folder under `benchmarks/results` anew from its stored runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from ddad.experiments.benchmark import write_results
from ddad.experiments.published import benchmark_named

RESULTS = Path(__file__).resolve().parent / "results"
FOLDERS = {  # where each was measured, below ../shared/datasets
    "brain-tumor": "brain-tumor --data ../shared/datasets/brain_tumor",
    "brain-tumor-leakfree": "brain-tumor --data ../shared/datasets/brain_tumor --split data.leakfree.json",
    "chest-xray": "custom --data ../shared/datasets/chest_xray",
}


def main() -> None:
    for name, arguments in FOLDERS.items():
        files = sorted((RESULTS / name / "runs").glob("*-fast-*.json"))
        if not files:
            continue
        records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        seeds: Counter[str] = Counter()
        for record in records:
            method, backbone = record["cells"][0]["method"], record["cells"][0]["backbone"]
            seeds[f"--backbone {backbone}" if backbone else f"--methods {method}"] += 1
        commands = [
            f"ddad benchmark {arguments} {what} --seeds {count} --out benchmarks/results/{name}"
            for what, count in sorted(seeds.items())
        ]
        write_results(records, benchmark_named(arguments.split()[0]), "` and `".join(commands), RESULTS / name)


if __name__ == "__main__":
    main()
