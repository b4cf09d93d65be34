from __future__ import annotations

from pathlib import Path

import pytest

from ddad.synthesis import PatchDraw, patch_weights
from ddad.training import patch_regression
from ddad.training.device import Compute
from ddad.training.pixels import ImagePool
from support import random_images, tiny_recipe


@pytest.mark.parametrize("method", ["fpi", "pii"])
def test_the_label_of_pii_leaves_the_rim_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Gradients can be mixed in only where a pixel of the image's own lies around."""
    labelled: list[PatchDraw] = []

    def record(draw: PatchDraw, size: int):  # type: ignore[no-untyped-def]
        labelled.append(draw)
        return patch_weights(draw, size)

    monkeypatch.setattr(patch_regression, "patch_weights", record)
    recipe = tiny_recipe(segmentation__epochs=1, segmentation__width=4, synthesis__half_width=[0.3, 0.5])
    pool = ImagePool([random_images(16).numpy()])
    compute = Compute("cpu", "fp32")

    patch_regression.train_patch_regression(
        recipe, pool, tmp_path / "network.safetensors", compute, lambda _: None, method=method
    )

    first = min(int(draw.rows[:, 0].min()) for draw in labelled)
    last = max(int(draw.columns[:, 1].max()) for draw in labelled)
    assert (first, last) == ((1, 15) if method == "pii" else (0, 16))
