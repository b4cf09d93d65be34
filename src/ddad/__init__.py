"""Anomaly detection in medical images without annotated abnormalities.

The public face: `Cohort`, `Recipe`, `fit`, `Model`, `read_image`, `discrepancy`, `detectors`. Each is loaded when
it is first used, so that importing `ddad` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddad import detectors, discrepancy
    from ddad.cohorts import Cohort
    from ddad.fitting import fit
    from ddad.images import read_image
    from ddad.model import Model
    from ddad.recipe import Recipe

__version__ = "0.1.0"
__all__ = ["Cohort", "Model", "Recipe", "detectors", "discrepancy", "fit", "read_image"]

_PLACES = {
    "Cohort": "ddad.cohorts",
    "Model": "ddad.model",
    "Recipe": "ddad.recipe",
    "fit": "ddad.fitting",
    "read_image": "ddad.images",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name in ("detectors", "discrepancy"):
        return importlib.import_module(f"ddad.{name}")
    raise AttributeError(f"module 'ddad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
