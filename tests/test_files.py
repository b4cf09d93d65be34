"""How long work took that was interrupted, and files that were read."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ddad.errors import OutputError, writing_to
from ddad.files import Stopwatch, Workspace, let_go, output_file, output_folder, write_atomically


def killed_after(workspace: Path, seconds: float) -> None:
    """Leave what a start leaves that wrote its last checkpoint `seconds` after it began, an hour ago."""
    file = workspace / "stopwatch.json"
    start = json.loads(file.read_text())
    start["since"] = time.time() - 3600
    file.write_text(json.dumps(start))
    checkpoint = workspace / "ndm-0.checkpoint"
    checkpoint.touch()
    os.utime(checkpoint, (start["since"] + seconds,) * 2)


def test_the_seconds_of_all_starts_add_up(tmp_path: Path) -> None:
    assert Stopwatch(tmp_path).seconds() == pytest.approx(0, abs=0.5)
    killed_after(tmp_path, 100)
    for written_now in ("plan.json", "lock"):
        (tmp_path / written_now).touch()
    assert Stopwatch(tmp_path).seconds() == pytest.approx(100, abs=0.5)
    killed_after(tmp_path, 40)
    assert Stopwatch(tmp_path).seconds() == pytest.approx(140, abs=0.5)


def test_a_start_that_wrote_nothing_counts_nothing(tmp_path: Path) -> None:
    Stopwatch(tmp_path)
    killed_after(tmp_path, -50)
    assert Stopwatch(tmp_path).seconds() == pytest.approx(0, abs=0.5)


def test_a_mapped_file_that_was_let_go_of_reads_as_before(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.arange(5000.0))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    total = mapped.sum()
    let_go(mapped)
    assert mapped.sum() == total


def test_what_was_written_to_an_array_is_not_lost_when_it_is_let_go_of(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros(5000))
    for array in (np.load(tmp_path / "images.npy", mmap_mode="c"), np.zeros(5000)):
        array[:] = 1
        let_go(array)
        assert (array == 1).all()


def test_other_work_is_dropped_only_on_request(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    with workspace.claimed({"work": 1}, overwrite=False) as folder:
        (folder / "networks").mkdir()
        (folder / "pixels.npy").touch()
    with pytest.raises(OutputError, match="other settings"), workspace.claimed({"work": 2}, overwrite=False):
        pass
    assert (tmp_path / "w" / "pixels.npy").exists()
    with workspace.claimed({"work": 2}, overwrite=True) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["lock", "plan.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked on this system")
def test_work_that_another_process_is_at_is_never_dropped(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    with workspace.claimed({"work": 1}, overwrite=False) as folder:
        (folder / "pixels.npy").touch()
        with pytest.raises(OutputError, match="another process"), workspace.claimed({"work": 2}, overwrite=True):
            pass
        assert (folder / "pixels.npy").exists()
        assert workspace.holds({"work": 1})


@pytest.mark.parametrize("name", ["missing/split.json", "folder", "a" * 300, "file/split.json"])
def test_what_cannot_be_written_is_an_error_for_a_user(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder" / "full").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written \(.+\)\. Choose another place"):
        write_atomically(tmp_path / name, b"content")
    with pytest.raises(OutputError):
        output_file(tmp_path / name, "--out")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), OSError("encoder error")])
def test_any_refusal_while_writing_names_the_file(error: OSError) -> None:
    with (
        pytest.raises(OutputError, match=rf"^map\.png: cannot be written \(.*{error.strerror or error}\)"),
        writing_to("map.png"),
    ):
        raise error


def test_a_folder_of_a_name_that_is_too_long_is_an_error_for_a_user(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        output_folder(tmp_path / ("a" * 300), overwrite=False)
    with pytest.raises(OutputError, match="cannot be written"):
        Workspace.beside(tmp_path / ("a" * 300)).holds({})
