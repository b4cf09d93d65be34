"""Every DICOM file that pydicom and pydicom-data ship, against pydicom, SimpleITK and dcm2pnm."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reader_agreement.py"
_spec = importlib.util.spec_from_file_location("reader_agreement", _SCRIPT)
assert _spec is not None
assert _spec.loader is not None
reader_agreement = importlib.util.module_from_spec(_spec)
sys.modules["reader_agreement"] = reader_agreement
_spec.loader.exec_module(reader_agreement)

FILES: dict[str, Path] = reader_agreement.test_files()
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "its compressed image 3722445056×1024",
    "MR_truncated.dcm": "truncated or damaged",
    "badVR.dcm": "NumberOfFrames",
    "no_meta.dcm": "not an image",
}
"""The files of pydicom that are made to be damaged, and what is said of them."""


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_trusted_readers_read_it_or_gives_its_reason(name: str) -> None:
    row = reader_agreement.compare(name, FILES[name])
    if name in REFUSED:
        assert row.status == "refused"
        assert REFUSED[name] in row.reason
    elif row.status == "read":
        assert row.agrees, row
    else:
        assert row.status == "no image", row


def test_the_published_table_names_every_file() -> None:
    published = (_SCRIPT.parent / "results" / "readers" / "results.md").read_text()
    assert "**no**" not in published
    assert all(f"| {name} |" in published for name in FILES)


def test_the_files_of_pydicom_data_are_here() -> None:
    if not any(name == "emri_small.dcm" for name in FILES):
        pytest.skip("pydicom-data is not installed: pip install '.[dev]'")
    assert len(FILES) > 180
