"""Runs of a script: each is stored when it is done, and not repeated."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ddad.files import write_atomically
from ddad.planning import sections_read
from ddad.recipe import Recipe


def fields_read(recipe: Recipe, *, has_normals: bool = True) -> dict[str, Any]:
    """Return the sections that a fit reads, and fields outside of sections; the rest makes no other run."""
    read = sections_read(recipe, has_normals=has_normals)
    fields = recipe.model_dump(mode="json").items()
    return {name: value for name, value in fields if not isinstance(value, dict) or name in read}


def file_of(out: Path, stem: str, identity: dict[str, Any]) -> Path:
    """Return where the run of this identity is stored, in a folder that is made."""
    (out / "runs").mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return out / "runs" / f"{stem}-{key}.json"


def store(file: Path, record: dict[str, Any]) -> None:
    """Write the record of a run with the command that makes it again."""
    write_atomically(file, (json.dumps({**record, "command": command()}) + "\n").encode())


def computed_on(records: Sequence[dict[str, Any]]) -> str:
    """Say what computed the runs, with the seeds of each where it is not the same for all."""
    seeds: dict[str, list[int]] = {}
    for record in records:
        compute = record.get("compute", {})
        where = compute.get("gpu") or {"cpu": "processor"}.get(compute.get("device"), "not kept")
        seeds.setdefault(where, []).append(record["seed"] if "seed" in record else record["recipe"]["seed"])
    if len(seeds) == 1:
        return next(iter(seeds))
    return "; ".join(f"{where}: {', '.join(map(str, sorted(set(own))))}" for where, own in sorted(seeds.items()))


def check_for_doubles(records: Iterable[dict[str, Any]], folder: str) -> None:
    """Stop where a folder has two runs of a method, seed and rate, as by other settings: means would mix them."""
    seen = set()
    for record in records:
        cell = record["cells"][0]
        key = cell["method"], cell["backbone"], cell["seed"], record.get("anomaly_rate"), record.get("unseen")
        if key in seen:
            raise SystemExit(f"benchmarks/results/{folder}: two runs of {key}. Keep one.")
        seen.add(key)


def command() -> str:
    """Return the command line of the script that runs."""
    script = Path(sys.argv[0]).resolve().relative_to(Path(__file__).resolve().parents[1])
    return shlex.join(["python", script.as_posix(), *sys.argv[1:]])
