"""Which changed copies `ddad audit` finds: crops, shifts, turns, contrast.

    python benchmarks/copies_found.py DATA... [--images 1000] [--each 60]

Of images of each folder, drawn at random, some are changed, given 1 % noise and audited beside all of them. Writes
`benchmarks/results/audit/copies-found.md` and `.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from stored_runs import command

from ddad import __version__
from ddad.audit import audit_cohort
from ddad.cohorts import Cohort
from ddad.experiments.tables import to_markdown

OUT = Path(__file__).parent / "results" / "audit"
NOISE = 0.01
Levels = NDArray[np.float32]
Change = Callable[[Levels, Generator], Levels]


def cut(levels: Levels, top: float, left: float, bottom: float, right: float) -> Levels:
    """Cut shares of the sides off."""
    rows, columns = levels.shape
    return levels[
        round(top * rows) : rows - round(bottom * rows), round(left * columns) : columns - round(right * columns)
    ]


def one_side(share: float) -> Change:
    """Cut a share off one side, drawn at random."""
    return lambda levels, rng: cut(levels, *np.roll([share, 0, 0, 0], rng.integers(4)))


def square(smallest: float, largest: float) -> Change:
    """Keep a share of each side, anywhere."""

    def change(levels: Levels, rng: Generator) -> Levels:
        off = 1 - rng.uniform(smallest, largest)
        top, left = rng.uniform(0, off, 2)
        return cut(levels, top, left, off - top, off - left)

    return change


def shifted(share: float, mode: str) -> Change:
    """Move the image down and right within its frame."""

    def change(levels: Levels, _: Generator) -> Levels:
        rows, columns = levels.shape
        moved = np.pad(levels, ((round(share * rows), 0), (round(share * columns), 0)), mode=mode)
        return moved[:rows, :columns]

    return change


def turned(levels: Levels, _: Generator) -> Levels:
    """Turn by 3°."""
    return np.asarray(Image.fromarray(levels).rotate(3, Image.Resampling.BILINEAR))


CHANGES: dict[str, Change] = {
    "mirrored, in another gamma": lambda levels, rng: levels[:, ::-1] ** rng.uniform(0.7, 1.4),
    "negative": lambda levels, _: 1 - levels,
    "6 % cut off one side": one_side(0.06),
    "12 % cut off one side": one_side(0.12),
    "18 % cut off one side": one_side(0.18),
    "0.8 to 1 of each side, anywhere": square(0.8, 1),
    "0.85 of each side, anywhere": square(0.85, 0.85),
    "0.8 of each side, in a corner": lambda levels, rng: cut(levels, *np.roll([0.2, 0.2, 0, 0], rng.integers(4))),
    "0 to 10 % cut off each of four sides": lambda levels, rng: cut(levels, *rng.uniform(0, 0.1, 4)),
    "the same, mirrored, in another gamma": lambda levels, rng: (
        cut(levels, *rng.uniform(0, 0.1, 4))[:, ::-1] ** rng.uniform(0.7, 1.4)
    ),
    "shifted by 3 %, black border": shifted(0.03, "constant"),
    "shifted by 3 %, smeared border": shifted(0.03, "edge"),
    "shifted by 8 %, black border": shifted(0.08, "constant"),
    "0.7 of each side, anywhere": square(0.7, 0.7),
    "turned by 3°": turned,
}


def write(levels: Levels, file: Path) -> None:
    """Write grey levels in [0, 1]."""
    Image.fromarray(np.clip(levels * 255, 0, 255).round().astype(np.uint8)).save(file)


def measure(data: Path, images: int, each: int) -> dict[str, Any]:
    """Return the share found of each change, and how many originals are linked only through changed copies."""
    rng = np.random.default_rng(0)
    files = sorted(file for file in (data / "images").rglob("*") if file.is_file())
    chosen = [files[place] for place in rng.permutation(len(files))[:images]]
    with tempfile.TemporaryDirectory() as name:
        folders = {part: Path(name) / part for part in ("original", "changed")}
        for folder in folders.values():
            folder.mkdir()
        for number, file in enumerate(chosen):
            write(grey(file), folders["original"] / f"{number:05d}.png")
        alone = groups_of(Cohort.from_folders(normal=folders["original"]))
        for place, change in enumerate(CHANGES.values()):
            for number in rng.permutation(len(chosen))[:each]:
                levels = np.ascontiguousarray(change(grey(chosen[number]), rng), np.float32)
                noisy = levels + rng.normal(0, NOISE, levels.shape)
                write(noisy, folders["changed"] / f"{place:02d}-{number:05d}.png")
        groups = groups_of(Cohort.from_folders(normal=folders["original"], unlabeled=folders["changed"]))
    found: dict[str, float] = {}
    for place, title in enumerate(CHANGES):
        own = {stem: group for stem, group in groups.items() if stem.startswith(f"{place:02d}-")}
        found[title] = float(np.mean([group == groups[stem.split("-")[1]] for stem, group in own.items()]))
    originals = pd.DataFrame({"alone": alone, "beside": {stem: groups[stem] for stem in alone}})
    linked = len(originals["alone"].unique()) - len(originals["beside"].unique())
    return {"images": len(chosen), "found": found, "originals linked through changed copies": linked}


def grey(file: Path) -> Levels:
    """Read an image as grey levels in [0, 1]."""
    return np.asarray(Image.open(file).convert("L"), np.float32) / 255


def groups_of(cohort: Cohort) -> dict[str, int]:
    """Audit a cohort and return the group of copies that each file is in, by its stem."""
    audit = audit_cohort(cohort)
    return {Path(path).stem: int(group) for path, group in zip(audit.paths, audit.groups, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--each", type=int, default=60)
    options = parser.parse_args()
    results = {data.name: measure(data, options.images, options.each) for data in options.data}
    table = pd.DataFrame({name: result["found"] for name, result in results.items()})
    table = table.map(lambda share: f"{100 * share:.0f} %").rename_axis("change").reset_index()
    linked = ", ".join(
        f"{result['originals linked through changed copies']} of {result['images']} ({name})"
        for name, result in results.items()
    )
    text = f"""# Changed copies that `ddad audit` finds

Of {options.each} images of each data set and change, with {100 * NOISE:.0f} % noise, beside {options.images} unchanged
ones: the share that is in one group of copies with its original.

{to_markdown(table)}
Originals that changed copies link with other originals, and that are not linked without them: {linked}.

- ddad {__version__}, {platform.machine()}, seed 0
- command: `{command()}`
"""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "copies-found.md").write_text(text, encoding="utf-8")
    (OUT / "copies-found.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
