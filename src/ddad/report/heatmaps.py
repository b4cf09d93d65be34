"""Score maps as pictures: a heat map and an overlay on the image, on one scale for all images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from ddad.errors import ImageError, writing_to
from ddad.experiments.drawing import HEAT_COLOURS, STRONGEST_OVERLAY, relative_to_scale
from ddad.images import Address, Placement, normalise, read_image
from ddad.model import Finding

_SHORTEST_SIDE = 256  # small images are enlarged, so that a person sees something


def picture_name(number: int, path: str) -> str:
    """Return a file name that is unique by `number` and recognisable by the image's own name."""
    address = Address.parse(path)
    own_name = re.sub(r"[^\w.-]+", "_", Path(address.label.removesuffix(".gz")).stem)[:80]
    frame = "" if address.frame is None else f"_{address.frame.number}"
    return f"{number:06d}_{own_name}{frame}"


def write_pictures(finding: Finding, name: str, scale: tuple[float, float], heat: Path, overlay: Path) -> None:
    """Write one map of a finding as a heat map and as an overlay on the image.

    Args:
        finding: with its maps; its file is read once more.
        name: of the map to draw.
        scale: values at the dark and the bright end of the colours, the same for all images.
        heat: PNG file to write.
        overlay: PNG file to write.
    """
    height, width = finding.source_size
    factor = max(1.0, _SHORTEST_SIDE / min(height, width))
    size = (round(width * factor), round(height * factor))
    colours, blend = draw(finding, name, scale, (size[1], size[0]))
    _write_png(heat, colours)
    _write_png(overlay, blend)


def draw(
    finding: Finding, name: str, scale: tuple[float, float], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a map in colours, and over the image: both (rows, columns, 3) in [0, 1], of `size`.

    The image has the channels and intensities that the network saw, in the resolution of its file. Where the file is
    gone or shows something else by now, it is the network's input.
    """
    placement = Placement.of(size, finding.preprocessing.aspect)
    strength = placement.to_source(relative_to_scale(finding.maps[name], scale), fill=0)
    colours = colormaps[HEAT_COLOURS](strength)[..., :3]
    source = _source(finding)
    image = _from_input(finding.pixels, placement) if source is None else _resized(source, size)
    opacity = (STRONGEST_OVERLAY * strength)[..., None]
    return colours, (1 - opacity) * image + opacity * colours


def _source(finding: Finding) -> NDArray[np.float32] | None:
    try:
        image = read_image(finding.path)
    except (ImageError, OSError):
        return None
    if (image.height, image.width) != finding.source_size:
        return None
    return normalise(image, finding.preprocessing)


def _resized(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    levels = (255 * image).round().astype(np.uint8)
    picture = Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0]).convert("RGB")
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float64) / 255


def _from_input(pixels: NDArray[np.float32], placement: Placement) -> NDArray[np.float64]:
    channels = [placement.to_source((channel + 1) / 2, fill=0) for channel in pixels]
    image = np.stack(channels if len(channels) == 3 else channels * 3, axis=-1)
    clipped: NDArray[np.float64] = np.clip(image, 0, 1).astype(np.float64)
    return clipped


def _write_png(path: Path, colours: NDArray[np.float64]) -> None:
    with writing_to(path):
        Image.fromarray((colours * 255).round().astype(np.uint8)).save(path, "PNG")
