from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ddad.detectors import FitContext
from ddad.errors import DdadError
from ddad.evaluation.prevalence import STEPS
from ddad.normals import Stored
from ddad.training.device import Compute
from ddad.unlabeled_share import share_estimate
from support import RecordedProgress


def stored(folder: Path, name: str, count: int, brighter: int = 0) -> Stored:
    """Images of noise; the last `brighter` ones have a bright square."""
    random = np.random.default_rng(len(name))
    images = random.uniform(-1, 0, (count, 1, 32, 32)).astype(np.float32)
    images[count - brighter :, :, 8:24, 8:24] += 0.9
    np.save(folder / f"{name}.npy", images)
    return Stored(folder / f"{name}.npy", [f"{name} {number}" for number in range(count)])


def context_on(device: str, workspace: Path, progress: RecordedProgress | None = None) -> FitContext:
    workspace.mkdir()
    return FitContext(workspace, Compute(device, "fp32"), progress=progress or RecordedProgress())


def test_beside_a_gpu_another_process_finds_the_same_share(tmp_path: Path) -> None:
    normal, unlabeled = stored(tmp_path, "normal", 100), stored(tmp_path, "unlabeled", 80, brighter=40)
    found = []
    for device in ("cpu", "cuda"):
        progress = RecordedProgress()
        with share_estimate(normal, unlabeled, 0, context_on(device, tmp_path / device, progress)) as share:
            found.append(share())
        # Beside the networks' bar there is no second one.
        assert [task.title for task in progress.tasks] == ["estimating the share of abnormal images"] * (
            device == "cpu"
        )
    on_cpu, on_gpu = found
    assert on_cpu is not None
    assert on_gpu == pytest.approx(on_cpu)
    assert on_cpu["low"] <= 0.5 <= on_cpu["high"]
    assert on_cpu["low"] > 0.2


def test_a_fit_that_goes_on_takes_the_share_that_it_had(tmp_path: Path) -> None:
    normal, unlabeled = stored(tmp_path, "normal", 50), stored(tmp_path, "unlabeled", 50)
    context = context_on("cpu", tmp_path / "workspace")
    (context.workspace / "prevalence.json").write_text(json.dumps({"estimate": 0.25}))
    with share_estimate(normal, unlabeled, 0, context) as share:
        assert share() == {"estimate": 0.25}


def test_of_few_images_there_is_no_estimate_and_the_bar_ends_all_the_same(tmp_path: Path) -> None:
    normal, unlabeled, progress = stored(tmp_path, "normal", 100), stored(tmp_path, "unlabeled", 5), RecordedProgress()
    with share_estimate(normal, unlabeled, 0, context_on("cpu", tmp_path / "w", progress)) as share:
        assert share() is None
    (bar,) = progress.tasks
    assert bar.done == bar.total == STEPS


def test_beside_a_gpu_an_error_of_the_other_process_is_told(tmp_path: Path) -> None:
    normal = stored(tmp_path, "normal", 100)
    gone = Stored(tmp_path / "gone.npy", ["a"] * 100)
    with (
        share_estimate(normal, gone, 0, context_on("cuda", tmp_path / "w")) as share,
        pytest.raises(DdadError, match=r"(?s)estimating the share of abnormal images: .*gone\.npy"),
    ):
        share()
