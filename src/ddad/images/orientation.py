"""The plane of the body in which an image lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_PLANES = ("sagittal", "coronal", "axial")
# cos 18°: beyond, an image is called oblique.
_STRAIGHT = 0.95


def plane_of(directions: Sequence[Any] | None) -> str | None:
    """Name the plane spanned by two direction cosines, six numbers as in ImageOrientationPatient.

    Returns:
        `axial`, `coronal`, `sagittal` or `oblique`; None if unknown.
    """
    if directions is None or len(directions) != 6:
        return None
    numbers = np.array([float(number) for number in directions])
    normal = np.abs(np.cross(numbers[:3], numbers[3:]))
    length = float(np.linalg.norm(normal))
    if not 0.5 < length < 2:
        return None
    axis = int(normal.argmax())
    return _PLANES[axis] if normal[axis] / length >= _STRAIGHT else "oblique"
