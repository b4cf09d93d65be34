"""What lies in a model's folder: weights, recipe, card and their checksums. Text and tensors, nothing that runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ddad.detectors import DETECTORS, Detector
from ddad.errors import ModelError, SettingError
from ddad.files import sha256, write_atomically
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors, save_tensors

FORMAT = "ddad-model"
FORMAT_VERSION = 1
_FILES = ("weights.safetensors", "recipe.json", "model_card.json")
_CHECKSUMS = "checksums.json"


def write_model(folder: Path, detector: Detector, card: dict[str, Any]) -> None:
    """Write weights, recipe, card and checksums into a folder that is not yet at its final place.

    Raises:
        OutputError: the disk is full.
    """
    save_tensors(folder / "weights.safetensors", detector.state_dict())
    write_atomically(folder / "recipe.json", detector.recipe.to_json().encode())
    headed = {"format": FORMAT, "format_version": FORMAT_VERSION, "detector": detector.name, **card}
    write_atomically(folder / "model_card.json", (json.dumps(headed, indent=2) + "\n").encode())
    if "unsupervised" in card:
        write_atomically(folder / "trusted.csv", _trusted_table(card["unsupervised"]["images"]))
    checksums = {name: sha256(folder / name) for name in _FILES}
    write_atomically(folder / _CHECKSUMS, (json.dumps(checksums, indent=2) + "\n").encode())


def read_model(folder: Path) -> tuple[Detector, dict[str, Any]]:
    """Read the detector and the card that `write_model` wrote.

    Raises:
        ModelError: the folder is missing, is no ddad model, was altered, or is of a later version.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such model folder. Give the --out folder of 'ddad fit'.")
    missing = [name for name in (*_FILES, _CHECKSUMS) if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder}: not a ddad model ({', '.join(missing)} missing).")
    checksums = _read_json(folder / _CHECKSUMS)
    for name in _FILES:
        if checksums.get(name) != sha256(folder / name):
            raise ModelError(
                f"{folder / name}: was altered after the model was saved, so its scores cannot be trusted. "
                "Take the original folder again, or fit the model anew."
            )
    card = _read_json(folder / "model_card.json")
    if card.get("format") != FORMAT or not isinstance(card.get("format_version"), int):
        raise ModelError(f"{folder}: not a ddad model (its card is of another format).")
    if card["format_version"] > FORMAT_VERSION:
        raise ModelError(f"{folder}: written by a later version of ddad; update ddad to load it.")
    if str(card.get("detector")) not in DETECTORS or "held_out_normals" not in card or "cohort" not in card:
        raise ModelError(f"{folder}: its card is incomplete, or names a detector that this version lacks.")
    try:
        recipe = Recipe.from_file(folder / "recipe.json")
    except SettingError as error:
        raise ModelError(f"{folder}: its recipe is not one of this version of ddad. {error}") from error
    detector = DETECTORS[card["detector"]](recipe)
    detector.load_state_dict(load_tensors(folder / "weights.safetensors")[0])
    for network in detector.modules().values():
        network.eval()
    own = ("format", "format_version", "detector")
    return detector, {key: value for key, value in card.items() if key not in own}


def _trusted_table(images: Sequence[Sequence[Any]]) -> bytes:
    """Return CSV: of each image of an unsupervised fit, whether it stood for a normal one, and why."""
    table = pd.DataFrame(images, columns=["path", "score", "fold", "trusted"])
    return table.sort_values(["trusted", "path"], ascending=[False, True]).to_csv(index=False).encode()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: damaged ({error}).") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: damaged (not a JSON object).")
    return content
