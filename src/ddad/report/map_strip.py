"""All maps of a finding in one small grey picture, so that a report can be made without the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddad.errors import writing_to
from ddad.experiments.drawing import relative_to_scale
from ddad.images import Placement
from ddad.model import Finding

MAPS = "maps"
"""Folder of the strips within a scoring folder; a strip is named as the finding's heat map."""
_LONGEST = 8192  # pixels that an image is drawn at before it is squashed; only those far longer than wide reach it


def write_strip(finding: Finding, scales: Mapping[str, tuple[float, float]], file: Path) -> None:
    """Write the network's input and, right of it, every map from 0 (lower end of its scale) to 255.

    Each tile is the whole source image squashed to a square, whatever the network saw of it.

    Args:
        finding: with its maps and the pixels that the network saw.
        scales: both ends of the scale by map, in the order of the tiles.
        file: PNG file to write.
    """
    tiles = [_whole_source(relative_to_scale(finding.maps[name], scale), finding) for name, scale in scales.items()]
    seen = [_whole_source(channel, finding) for channel in np.clip((finding.pixels + 1) / 2, 0, 1)]
    rows = [np.concatenate([channel, *tiles], axis=1) for channel in seen]
    levels = (np.stack(rows, axis=-1) * 255).round().astype(np.uint8)
    with writing_to(file):
        Image.fromarray(levels if levels.shape[-1] == 3 else levels[..., 0]).save(file, "PNG")


def _whole_source(tile: NDArray[np.float32], finding: Finding) -> NDArray[np.float32]:
    if finding.preprocessing.aspect == "squash":
        return tile
    side, (rows, columns) = len(tile), finding.source_size
    factor = min(2 * side / min(rows, columns), _LONGEST / max(rows, columns))
    size = (max(1, round(rows * factor)), max(1, round(columns * factor)))
    placement = Placement.of(size, finding.preprocessing.aspect)
    whole = Image.fromarray(placement.to_source(tile, fill=0)).resize((side, side), Image.Resampling.BOX)
    squashed: NDArray[np.float32] = np.asarray(whole, np.float32)
    return squashed


def read_strip(file: Path) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """Return the network's input, (S, S) or (S, S, 3), and the maps, (S, S) each.

    Raises:
        OSError: the file is missing or no picture.
        ValueError: the file is no strip.
    """
    with Image.open(file) as picture:
        levels = np.asarray(picture)
    side, width = levels.shape[:2]
    if width % side:
        raise ValueError(f"{file}: not a strip of square tiles.")
    tiles = np.split(levels, width // side, axis=1)
    return tiles[0], [tile if tile.ndim == 2 else tile[..., 0] for tile in tiles[1:]]
