from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def datasets_folder() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "datasets"
    folder = Path(os.environ.get("DDAD_DATASETS", default))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}: set DDAD_DATASETS")
    return folder
