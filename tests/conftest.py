from __future__ import annotations

import os
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
