"""What is drawn for each image of a batch: all randomness of what is then done to the images."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Tensors with a row for each of N images."""

    def beside(self, images: Tensor) -> Self:
        """Return the draw on the device of the images."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(self, **{name: part.to(images.device, non_blocking=True) for name, part in parts.items()})
