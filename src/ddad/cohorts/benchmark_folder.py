"""Cohorts from a benchmark folder as the paper's authors publish it: `images/` and `data.json`."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ddad.cohorts.rows import Role, Row, listed
from ddad.errors import CohortError
from ddad.wording import counted

LISTS = ("train.0", "train.unlabeled.0", "train.unlabeled.1", "test.0", "test.1", "train.1")
"""The lists of a split; the last, images known to be abnormal, may be missing."""

_ROLES = {"train.0": Role.NORMAL, "train.1": Role.ABNORMAL}
_OPTIONAL = LISTS[-1:]


def read_benchmark(
    folder: Path,
    split: Path,
    anomaly_rate: float | None,
    unlabeled_total: int | None,
    unseen: str | None = None,
    normals: tuple[int, int] | None = None,
) -> tuple[list[Row], list[str]]:
    """Read the rows of a benchmark's split, and what is to be noted about it.

    Args:
        folder: with `images/` and the split.
        split: the JSON file.
        anomaly_rate: of the unlabeled images, or as listed.
        unlabeled_total: how many unlabeled images, or all.
        unseen: pattern of names of abnormal images; they are not among the unlabeled, and alone in the test set. The
            anomaly rate as listed is that before they are taken out.
        normals: how many normal images, and the seed that draws them; or all.

    Raises:
        CohortError: a folder or file is missing, the split is malformed, or names an image twice or leads out of
            `images/`, two images have one mask, or the anomaly rate, the unseen class or the normal images cannot be
            had.
    """
    images = folder / "images"
    for place in (folder, images):
        if not place.is_dir():
            raise CohortError(
                f"{place}: there is no such folder. A benchmark folder holds images/ and a split such as data.json."
            )
    file = split if split.is_absolute() else folder / split
    names = read_split(file)
    notes = []
    if unseen is not None:
        if anomaly_rate is None:
            anomaly_rate = _listed_rate(names)
        _set_apart(names, unseen, file)
        _check_some_abnormal(names, unseen, anomaly_rate, file)
    if normals is not None:
        names["train.0"] = _drawn(names["train.0"], *normals, file)
    if anomaly_rate is None and unlabeled_total is not None:
        anomaly_rate = _listed_rate(names) or 0.0
    if anomaly_rate is not None:
        healthy, abnormal = names["train.unlabeled.0"], names["train.unlabeled.1"]
        wanted = len(healthy) + len(abnormal) if unlabeled_total is None else unlabeled_total
        counts = unlabeled_counts(len(healthy), len(abnormal), anomaly_rate, wanted)
        names["train.unlabeled.0"] = healthy[: counts[0]]
        names["train.unlabeled.1"] = abnormal[: counts[1]]
        if sum(counts) < wanted:
            notes.append(
                f"{file.name}: {counted(sum(counts), 'unlabeled image')} instead of {wanted}: the lists hold no more "
                f"at an anomaly rate of {anomaly_rate:g}."
            )
    rows = []
    for key in LISTS:
        role = _ROLES.get(key, Role.TEST if key.startswith("test") else Role.UNLABELED)
        # The labels of unlabeled images serve only to set the anomaly rate: they end here.
        label = int(key[-1]) if role == Role.TEST else None
        origin = f"{file.name}, {'train.unlabeled' if role == Role.UNLABELED else key}"
        masks = _masks(folder / "masks", names[key], file) if key == "test.1" else {}
        rows += [Row(images / name, role, origin, label, mask=masks.get(name)) for name in names[key]]
    return rows, notes


def _masks(folder: Path, names: list[str], file: Path) -> dict[str, Path]:
    """Find the masks of images by name: at the same place within their folder, else directly in it.

    Raises:
        CohortError: two images have the same one.
    """
    found: dict[str, Path] = {}
    image_of: dict[Path, str] = {}
    for name in names:
        # An absolute name has no place within the folder.
        places = [folder / f"{Path(name).stem}.png"]
        if not Path(name).is_absolute():
            places.insert(0, folder / Path(name).with_suffix(".png"))
        mask = next((place for place in places if place.is_file()), None)
        if mask is None:
            continue
        if mask in image_of:
            raise CohortError(
                f"{file}: it is unclear which image of test.1 has the mask {mask}: {image_of[mask]} or {name}. "
                "Put each mask where its image is: masks/a/1.png for a/1.jpg."
            )
        found[name], image_of[mask] = mask, name
    return found


def _listed_rate(names: dict[str, list[str]]) -> float | None:
    """Return the share of abnormal images among the unlabeled ones; None if there are none of these."""
    healthy, abnormal = len(names["train.unlabeled.0"]), len(names["train.unlabeled.1"])
    return abnormal / (healthy + abnormal) if healthy + abnormal else None


def _check_some_abnormal(names: dict[str, list[str]], unseen: str, rate: float | None, file: Path) -> None:
    if rate and not names["train.unlabeled.1"]:
        raise CohortError(
            f"{file}: without the unseen class {unseen!r} no name is left in train.unlabeled.1, so the anomaly rate "
            f"cannot be {rate:g}. Ask for an anomaly rate of 0, or choose another class."
        )


def _set_apart(names: dict[str, list[str]], unseen: str, file: Path) -> None:
    """Keep a class of anomaly out of the images to learn from, and test on it alone."""
    chosen = [name for name in names["test.1"] if fnmatchcase(name, unseen)]
    if not chosen:
        raise CohortError(
            f"{file}: no name in test.1 fits the unseen class {unseen!r}; they are, for example, "
            f"{listed(names['test.1'])}. A * stands for any letters."
        )
    names["test.1"] = chosen
    for key in ("train.unlabeled.1", "train.1"):
        names[key] = [name for name in names[key] if not fnmatchcase(name, unseen)]


def _drawn(names: list[str], count: int, seed: int, file: Path) -> list[str]:
    """Draw some names; of one seed, a smaller draw is part of a larger one."""
    if not 1 <= count <= len(names):
        raise CohortError(f"{file}: {count} normal images were asked for, but train.0 has {len(names)}.")
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return [names[index] for index in sorted(chosen)]


def unlabeled_counts(normals: int, abnormals: int, rate: float, total: int) -> tuple[int, int]:
    """Return how many normal and abnormal images make `total` images, or as many as there are, at a rate.

    Raises:
        CohortError: the rate is outside [0, 1], the total is no count, or no image is left.
    """
    if not 0 <= rate <= 1:
        raise CohortError(f"anomaly_rate is {rate:g}; it is a share between 0 and 1 (60 % is 0.6).")
    if total < 1:
        raise CohortError(f"unlabeled_total is {total}; take at least 1, or leave the unlabeled images out.")
    most = float(total)
    if rate < 1:
        most = min(most, normals / (1 - rate))
    if rate > 0:
        most = min(most, abnormals / rate)
    # 180 / 0.6 must not become 299 by rounding.
    size = int(most + 1e-6)
    abnormal = min(round(size * rate), abnormals)
    normal = min(size - abnormal, normals)
    if normal + abnormal == 0:
        raise CohortError(
            f"anomaly_rate is {rate:g}, but train.unlabeled.0 has {normals} names and train.unlabeled.1 has "
            f"{abnormals}. Choose a rate that they can give."
        )
    return normal, abnormal


def read_split(file: Path) -> dict[str, list[str]]:
    """Read the lists of names of a split.

    Raises:
        CohortError: the file is missing or malformed, or names an image twice or leads out of `images/`.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        others = ", ".join(sorted(path.name for path in file.parent.glob("*.json"))) or "none"
        raise CohortError(f"{file}: there is no such split. JSON files beside it: {others}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CohortError(f"{file}: is not JSON ({error}). Download it again.") from error
    except OSError as error:
        raise CohortError(f"{file}: cannot be read ({error.strerror}).") from error
    names = {key: _list_at(file, content, key) for key in LISTS}
    places: dict[str, str] = {}
    for key, listed_names in names.items():
        for name in listed_names:
            if name in places:
                where = f"twice in {key}" if places[name] == key else f"in both {places[name]} and {key}"
                raise CohortError(f"{file}: {name} is {where}. Leave it in one place.")
            places[name] = key
    return names


def _list_at(file: Path, content: Any, key: str) -> list[str]:
    value = content
    for part in key.split("."):
        if isinstance(value, dict) and part not in value and key in _OPTIONAL:
            return []
        if not isinstance(value, dict) or part not in value:
            raise CohortError(f"{file}: lacks {key}, a list of image names. An empty list [] will do.")
        value = value[part]
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise CohortError(f"{file}: {key} must be a list of image names.")
    for name in value:
        # Absolute paths are those of splits that an audit of folders or of a manifest wrote.
        if ".." in Path(name).parts:
            raise CohortError(
                f"{file}: {key} names {name}, which leads out of images/. Put the image there, and name it without .."
            )
    return value
