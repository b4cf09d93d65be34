"""How long an audit of 20,000 images takes: grey JPEG files of 512×512, every fiftieth one a changed copy.

    python benchmarks/audit_speed.py [COUNT]

Writes `benchmarks/results/audit/speed.json`. Needs 1 GB of disk for a while.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ddad.audit import audit_cohort
from ddad.cohorts import Cohort
from ddad.experiments.peak_memory import peak_memory

SIDE, EVERY = 512, 50
OUT = Path(__file__).parent / "results" / "audit" / "speed.json"
FOLDERS = {0: "normal", 1: "normal", 2: "unlabeled", 3: "test_normal", 4: "test_abnormal"}


def write(folder: Path, number: int) -> None:
    """Write image `number`; a copy is an earlier image mirrored, in another contrast, and every other one cut."""
    copied = number % EVERY == EVERY - 1
    rng = np.random.default_rng(number - 1 if copied else number)
    picture = np.zeros((SIDE, SIDE))
    for cells, strength in ((8, 30), (32, 18), (128, 8)):
        coarse = Image.fromarray(rng.normal(0, strength, (cells, cells)).astype(np.float32))
        picture += np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    picture = 110 + (0.7 * picture[:, ::-1] if copied else picture)
    if copied and number // EVERY % 2:
        top, bottom, left, right = np.random.default_rng(number).integers(0, SIDE // 10, 4)
        picture = picture[top : SIDE - bottom, left : SIDE - right]
    levels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    Image.fromarray(levels).save(folder / FOLDERS[number % 5] / f"{number:06d}.jpg", quality=90)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in set(FOLDERS.values()):
            (folder / part).mkdir()
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(write, folder), range(count), chunksize=100))
        load = os.getloadavg()[0]
        start, used = time.perf_counter(), time.process_time()
        with peak_memory() as memory:
            cohort = Cohort.from_folders(**{part: folder / part for part in set(FOLDERS.values())})
            found = audit_cohort(cohort)
        seconds, cpu = time.perf_counter() - start, time.process_time() - used
    planted = {number for number in range(count) if number % EVERY == EVERY - 1}
    pairs = {
        tuple(sorted((int(Path(found.paths[one]).stem), int(Path(found.paths[other]).stem))))
        for one, other in zip(found.pairs.first, found.pairs.second, strict=True)
    }
    wanted = {(number - 1, number) for number in planted}
    result = {
        "images": count,
        "size": [SIDE, SIDE],
        "seconds": round(seconds, 1),
        "processor_seconds": round(cpu, 1),
        "cores": len(os.sched_getaffinity(0)),
        "load_average_before": round(load, 2),
        "peak_memory_mb": round(memory.peak_bytes / 2**20),
        "copies_planted": len(wanted),
        "copies_found": len(wanted & pairs),
        "pairs_beside_them": len(pairs - wanted),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
