"""The findings of a page with their pictures, small enough that ten thousand fit into one file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ddad.progress import Progress, Task
from ddad.report.map_strip import read_strip
from ddad.report.results import Results
from ddad.report.source_image import read_visible

PER_PAGE = 24
"""Findings of one page of the gallery, and of one block of pictures in the file."""

_SIZES = ((300, 384, 96, 85), (2000, 224, 64, 75), (math.inf, 128, 48, 60))
"""Up to how many findings: longest side of an image, side of a map, WebP quality."""
_BLOCK_OF_WORK = 2048
PICTURE_LIMIT = 96 * 2**20
"""Characters of pictures in one file; findings of lower score stand without a picture once it is reached."""


@dataclass
class Gallery:
    """What the page's script draws.

    Attributes:
        items: one a finding, by falling score.
        blocks: pictures of `PER_PAGE` findings each, in the same order: [image, strip of maps], each base64 or null.
        map_names: tiles of a strip.
        image_side: longest side of an image.
        from_source: images that were read from their own file.
        from_network: images drawn as the network saw them, because their file could not be read.
        left_out: findings without pictures, because the file would grow too large.
        damaged_maps: findings whose strip of maps is there, and cannot be read.
    """

    items: list[dict[str, Any]]
    blocks: list[list[list[str | None]]]
    map_names: list[str]
    image_side: int
    from_source: int = 0
    from_network: int = 0
    left_out: int = 0
    damaged_maps: int = 0

    @property
    def pictured(self) -> int:
        """How many findings have an image."""
        return self.from_source + self.from_network


def make_gallery(results: Results, progress: Progress) -> Gallery | None:
    """Sort the findings by their score and make the pictures; None where no single image is known."""
    if results.findings is None:
        return None
    table = results.findings.sort_values("score", ascending=False, kind="stable")
    image_side, map_side, quality = next(
        (image, tile, quality) for limit, image, tile, quality in _SIZES if len(table) <= limit
    )
    items = [_item(row, results.score_names) for row in table.to_dict("records")]
    gallery = Gallery(items, [], list(results.model.get("map_scales", {})), image_side)
    jobs = [(str(path), results.strips.get(str(path)), image_side, map_side, quality) for path in table["path"]]
    pictures: list[list[str | None]] = []
    size = 0
    with progress.task("pictures", len(jobs)) as bar:
        for job, (own, from_source) in zip(jobs, _made(jobs, bar), strict=False):
            size += sum(len(picture) for picture in own if picture)
            if size > PICTURE_LIMIT:
                break
            gallery.from_source += from_source
            gallery.from_network += own[0] is not None and not from_source
            gallery.damaged_maps += job[1] is not None and own[1] is None
            pictures.append(own)
    gallery.left_out = len(jobs) - len(pictures)
    pictures += [[None, None] for _ in range(gallery.left_out)]
    gallery.blocks = [pictures[start : start + PER_PAGE] for start in range(0, len(pictures), PER_PAGE)]
    return gallery


def _made(jobs: Sequence[tuple[str, Path | None, int, int, int]], bar: Task) -> Iterator[tuple[list[str | None], bool]]:
    """Yield the pictures in the order of the jobs; within a block of them, files are read one after the other.

    By falling score, slices of all volumes alternate, and a packed volume would be unpacked for each.
    """
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(jobs), _BLOCK_OF_WORK):
            block = jobs[start : start + _BLOCK_OF_WORK]
            by_path = sorted(range(len(block)), key=lambda place: block[place][0])
            made = {}
            each = pool.map(lambda job: _pictures(*job), [block[place] for place in by_path])
            for place, pictures in zip(by_path, each, strict=True):
                made[place] = pictures
                bar.advance()
            yield from (made[place] for place in range(len(block)))


def _item(row: dict[Any, Any], names: Sequence[str]) -> dict[str, Any]:
    def known(name: str) -> Any:
        value = row.get(name)
        return None if value is None or pd.isna(value) else value

    flagged, p_value, label = known("flagged"), known("p_value"), known("label")
    return {
        "path": str(row["path"]),
        "score": _rounded(row["score"]),
        "p": None if p_value is None else _rounded(p_value),
        "flagged": None if flagged is None else str(flagged).lower() in ("true", "1", "1.0"),
        "label": None if label is None else int(label),
        "warnings": str(known("warnings") or ""),
        "size": [int(known("rows") or 0), int(known("columns") or 0)],
        "scores": [_rounded(row[name]) for name in names],
    }


def _rounded(value: Any) -> float | None:
    number = float(value)
    return float(f"{number:.5g}") if math.isfinite(number) else None


def _pictures(
    path: str, strip: Path | None, image_side: int, map_side: int, quality: int
) -> tuple[list[str | None], bool]:
    """Return image and maps of one finding, as far as there are any, and whether the image is the file's own."""
    seen, maps = None, None
    if strip is not None:
        try:
            seen, tiles = read_strip(strip)
        except (OSError, ValueError):
            tiles = []
        if tiles:
            small = [Image.fromarray(tile).resize((map_side, map_side), Image.Resampling.BILINEAR) for tile in tiles]
            maps = webp(np.concatenate([np.asarray(tile) for tile in small], axis=1), quality)
    source = read_visible(path)
    shown = source if source is not None else seen
    image = None if shown is None else webp(shown, quality, image_side)
    return [image, maps], source is not None


def webp(levels: NDArray[np.uint8], quality: int, longest: int | None = None) -> str:
    """Return a picture as WebP in base64, shrunk to a longest side."""
    picture = Image.fromarray(levels)
    if longest is not None:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality)
    return base64.b64encode(file.getvalue()).decode()
