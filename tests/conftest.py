from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Tests run side by side: with more threads than cores, torch's threads spin while they wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def datasets_folder() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "datasets"
    folder = Path(os.environ.get("DDAD_DATASETS", default))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}: set DDAD_DATASETS")
    return folder


@pytest.fixture
def networks_compute_exactly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make sure that every layer computes within `Compute.exactly`, which only a GPU would show in the numbers."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    from ddad.training.device import Compute

    within = threading.local()

    @contextmanager
    def exactly(_: Compute) -> Iterator[None]:
        before = getattr(within, "exactly", False)
        within.exactly = True
        yield
        within.exactly = before

    def check(layer: object, _: object) -> None:
        assert getattr(within, "exactly", False), f"{layer} computes as roughly as its device likes"

    monkeypatch.setattr(Compute, "exactly", exactly)
    hook = register_module_forward_pre_hook(check)
    yield
    hook.remove()
