"""The training of a network on normal images alone, as a job."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddad.recipe import Recipe
from ddad.training.device import Compute
from ddad.training.pixels import ImagePool


def train_job(
    *, train: str, recipe: dict[str, Any], normal: str, into: str, compute: dict[str, Any],
    report: Callable[[str], None], **more: Any,
) -> None:  # fmt: skip
    """Call `train`, a `module:function` within `ddad.training`, with arguments that travel as JSON.

    The function takes a recipe, D_n, the file to write, the device, a function to report to, and `more`.
    """
    module, _, name = train.partition(":")
    function = getattr(importlib.import_module(f"ddad.training.{module}"), name)
    pool = ImagePool.open([normal])
    function(Recipe.model_validate(recipe), pool, Path(into), Compute(**compute), report, **more)
