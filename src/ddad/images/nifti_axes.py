"""`CanonicalAxes`: how axial slices lie in the array of a NIfTI file, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class CanonicalAxes:
    """The closest canonical orientation of a volume.

    Attributes:
        axes: for right, anterior and superior, the axis of the file that runs so.
        ascending: for each, whether it does, or runs the other way.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    ascending: tuple[bool, bool, bool] = (True, True, True)

    @classmethod
    def of(cls, affine: Any) -> CanonicalAxes:
        """Find them by the affine; those of the file if it says nothing."""
        orientation = np.asarray(io_orientation(affine))  # type: ignore[no-untyped-call]
        if np.isnan(orientation).any():
            return cls()
        right, anterior, superior = (int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3))
        axes = (right, anterior, superior)
        return cls(axes, (orientation[right, 1] > 0, orientation[anterior, 1] > 0, orientation[superior, 1] > 0))

    @property
    def axial(self) -> int:
        """The axis across which axial slices lie."""
        return self.axes[2]

    def index(self, number: int, count: int) -> int:
        """Return the place of a slice, counted from 1 from the feet, on its axis with `count` slices."""
        return number - 1 if self.ascending[2] else count - number

    def shown(self, stored: NDArray[_Value]) -> NDArray[_Value]:
        """Turn a slice as it is stored, colours behind, to rows from anterior and columns from the patient's right."""
        values = stored if self.axes[0] > self.axes[1] else stored.swapaxes(0, 1)
        return self._flipped(values)

    def stored(self, shown: NDArray[_Value]) -> NDArray[_Value]:
        """Undo `shown`."""
        values = self._flipped(shown)
        return values if self.axes[0] > self.axes[1] else values.swapaxes(0, 1)

    def _flipped(self, values: NDArray[_Value]) -> NDArray[_Value]:
        return values[:: -1 if self.ascending[1] else 1, :: -1 if self.ascending[0] else 1]
