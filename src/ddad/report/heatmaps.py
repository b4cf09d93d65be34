"""Score maps as pictures: a heat map and an overlay on the image, on one scale for all images."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from ddad.errors import ImageError, writing_to
from ddad.experiments.drawing import HEAT_COLOURS, STRONGEST_OVERLAY, relative_to_scale
from ddad.images import Address, Placement, normalise, read_image
from ddad.model import Finding
from ddad.report.source_image import bands

_LONGEST_NAME = 80  # bytes: file systems take 255, and number, frame and kind follow
_SHORTEST_SIDE = 256  # small images are enlarged, so that a person sees something
_MOST_ENLARGED = 2**24  # pixels: a strip of one row would become a picture of many gigabytes


def picture_name(number: int, path: str) -> str:
    """Return a file name that is unique by `number` and recognisable by the image's own name."""
    address = Address.parse(path)
    own_name = re.sub(r"[^\w.-]+", "_", Path(address.label.removesuffix(".gz")).stem)
    own_name = own_name.encode()[:_LONGEST_NAME].decode(errors="ignore")
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
    enlarged = min(_SHORTEST_SIDE / min(height, width), math.sqrt(_MOST_ENLARGED / (height * width)))
    factor = max(1.0, enlarged)
    layers = _Layers.of(finding, name, scale, (round(height * factor), round(width * factor)))
    pictures = [Image.new("RGB", (layers.width, layers.height)) for _ in range(2)]
    for band, *drawn in layers.blended():
        for picture, colours in zip(pictures, drawn, strict=True):
            picture.paste(Image.fromarray((colours * 255).round().astype(np.uint8)), (0, band.start))
    for picture, path in zip(pictures, (heat, overlay), strict=True):
        with writing_to(path):
            picture.save(path, "PNG")


def draw(
    finding: Finding, name: str, scale: tuple[float, float], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a map in colours, and over the image: both (rows, columns, 3) in [0, 1], of `size`.

    The image has the channels and intensities that the network saw, in the resolution of its file. Where the file is
    gone or shows something else by now, it is the network's input.
    """
    colours, blend = np.empty((*size, 3)), np.empty((*size, 3))
    for band, heat, over in _Layers.of(finding, name, scale, size).blended():
        colours[band], blend[band] = heat, over
    return colours, blend


@dataclass(frozen=True)
class _Layers:
    """A map and the image beneath it, at the size of a picture.

    Attributes:
        strength: of the map, (H, W) in [0, 1].
        image: (H, W, 1 or 3), from 0 to 255 if it is uint8, else from 0 to 1.
    """

    strength: NDArray[np.float32]
    image: NDArray[np.uint8] | NDArray[np.float32]

    @classmethod
    def of(cls, finding: Finding, name: str, scale: tuple[float, float], size: tuple[int, int]) -> _Layers:
        """Bring a map of a finding, and its image, to a size."""
        placement = Placement.of(size, finding.preprocessing.aspect)
        source = _source(finding)
        image = _from_input(finding.pixels, placement) if source is None else _resized(source, size)
        return cls(placement.to_source(relative_to_scale(finding.maps[name], scale), fill=0), image)

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return len(self.strength)

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return int(self.strength.shape[1])

    def blended(self) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
        """Yield band by band its rows, the map in colours, and these over the image, both (rows, W, 3) in [0, 1]."""
        for band in bands(self.height, self.width):
            strength, image = self.strength[band], self.image[band].astype(np.float64)
            colours = colormaps[HEAT_COLOURS](strength)[..., :3]
            opacity = (STRONGEST_OVERLAY * strength)[..., None]
            lightness = image / 255 if self.image.dtype == np.uint8 else image
            yield band, colours, (1 - opacity) * lightness + opacity * colours


def _source(finding: Finding) -> NDArray[np.uint8] | None:
    """Return the image of a file as the network saw its intensities, (H, W, 1 or 3); None if it is not there."""
    try:
        image = read_image(finding.path)
    except (ImageError, OSError):
        return None
    if (image.height, image.width) != finding.source_size:
        return None
    normalised = normalise(image, finding.preprocessing)
    levels: NDArray[np.uint8] = np.empty(normalised.shape, np.uint8)
    for band in bands(image.height, image.width):
        levels[band] = (255 * normalised[band]).round()
    return levels


def _resized(levels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if levels.shape[:2] == size:
        return levels
    picture = Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0])
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)).reshape(*size, levels.shape[2])


def _from_input(pixels: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    channels = [placement.to_source((channel + 1) / 2, fill=0) for channel in pixels]
    image = np.stack(channels, axis=-1)
    return np.clip(image, 0, 1, out=image)
