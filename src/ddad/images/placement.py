"""`Placement`: which part of an image the network's square shows, and the way of a map back to the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddad.recipe_sections import Aspect

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class Placement:
    """A rectangle of an image, in its own pixels, that becomes the whole of the network's input.

    Attributes:
        source: rows and columns of the image.
        top: first row of the rectangle; negative where black is added above.
        left: first column; negative where black is added on the left.
        height: rows of the rectangle.
        width: columns of the rectangle.
    """

    source: tuple[int, int]
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def of(cls, source: tuple[int, int], aspect: Aspect) -> Placement:
        """Place an image of some rows and columns.

        `squash` takes all of it; `pad` the smallest square around it, and `crop` the largest square within it,
        both centred, half a pixel up and to the left where it does not come out even.
        """
        height, width = source
        if aspect == "squash":
            return cls(source, 0, 0, height, width)
        side = max(source) if aspect == "pad" else min(source)
        return cls(source, math.floor((height - side) / 2), math.floor((width - side) / 2), side, side)

    def cut(self, pixels: NDArray[_Value]) -> NDArray[_Value]:
        """Return the rectangle of an image (H, W) or (H, W, C), zero where it lies beyond the image.

        Where it is the whole image, that is the array itself.
        """
        if (self.height, self.width) == self.source:
            return pixels
        rows, columns = self._inside()
        rectangle: NDArray[Any] = np.zeros((self.height, self.width, *pixels.shape[2:]), pixels.dtype)
        rectangle[_moved(rows, -self.top), _moved(columns, -self.left)] = pixels[rows, columns]
        return rectangle

    def to_source(self, score_map: NDArray[np.float32], fill: float = math.nan) -> NDArray[np.float32]:
        """Return a map (S, S) of the network's input at the size of the image, (H, W).

        Each pixel of the map covers the part of the image that it was made of; between centres it is interpolated.

        Args:
            score_map: of any size.
            fill: the value where the network saw nothing: beyond the square that `crop` takes.
        """
        picture = Image.fromarray(np.ascontiguousarray(score_map, np.float32))
        resized = np.asarray(picture.resize((self.width, self.height), Image.Resampling.BILINEAR))
        rows, columns = self._inside()
        whole = np.full(self.source, fill, np.float32)
        whole[rows, columns] = resized[_moved(rows, -self.top), _moved(columns, -self.left)]
        return whole

    def _inside(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the rectangle covers."""
        rows = slice(max(self.top, 0), min(self.top + self.height, self.source[0]))
        return rows, slice(max(self.left, 0), min(self.left + self.width, self.source[1]))


def _moved(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)
