"""A cohort of phantoms on disk, with masks and a manifest."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ddad.cohorts.phantom import SLICES_A_PATIENT, draw_phantom, render_phantom
from ddad.errors import OutputError, SettingError, writing_to

# Each role draws from its own block of indices: more normals never change the test images.
_BLOCK = 1_000_000


def write_phantom(
    folder: Path,
    *,
    normals: int = 64,
    unlabeled_normals: int = 32,
    unlabeled_abnormals: int = 32,
    test_normals: int = 32,
    test_abnormals: int = 32,
    size: int = 96,
    seed: int = 0,
) -> None:
    """Write a cohort of phantoms: PNG images, masks, and a manifest with path, role, label, group and mask.

    The same seed gives the same bytes. No patient stands in two roles, and neither the name nor the
    patient of an unlabeled image tells whether it is abnormal.

    Raises:
        SettingError: a count or the seed is negative, or the images would be too small.
        OutputError: the folder is not empty, or cannot be written.
    """
    counts = (normals, unlabeled_normals, unlabeled_abnormals, test_normals, test_abnormals)
    if min(*counts, seed) < 0:
        raise SettingError(f"counts of phantoms are {counts} and the seed {seed}; none may be negative.")
    # Refuses a bad size before anything is written.
    render_phantom(draw_phantom(seed, 0, abnormal=False), size)
    with writing_to(folder):
        if folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{folder}: is not empty. Name a new folder for the phantoms.")
        for name in ("normal", "unlabeled", "test_normal", "test_abnormal", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            manifest = csv.writer(file, lineterminator="\n")
            manifest.writerow(("path", "role", "label", "group", "mask"))
            manifest.writerows(_written(folder, counts, size, seed))


def _written(folder: Path, counts: tuple[int, ...], size: int, seed: int) -> Iterator[tuple[str, ...]]:
    blocks = [range(block * _BLOCK, block * _BLOCK + count) for block, count in enumerate(counts)]
    unlabeled = np.random.default_rng(seed).permutation([*blocks[1], *blocks[2]]).tolist()
    plan = {"normal": blocks[0], "unlabeled": unlabeled, "test_normal": blocks[3], "test_abnormal": blocks[4]}
    patients: dict[int, str] = {}
    for name, indices in plan.items():
        role, _, state = name.partition("_")
        label = {"": "", "normal": "0", "abnormal": "1"}[state]
        for position, index in enumerate(indices):
            # Numbered as they come: the block that an index is from must not show.
            patient = patients.setdefault(index // SLICES_A_PATIENT, f"patient-{len(patients):05d}")
            image, mask = render_phantom(draw_phantom(seed, index, abnormal=index // _BLOCK in (2, 4)), size)
            path, mask_path = f"{name}/{position:05d}.png", ""
            Image.fromarray(image).save(folder / path)
            if label == "1":
                mask_path = f"masks/{position:05d}.png"
                Image.fromarray(mask.astype(np.uint8) * 255).save(folder / mask_path)
            yield path, role, label, patient, mask_path
