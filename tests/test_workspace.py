"""Unfinished work: whose it is, who is at it, how long it took, and what of it comes along."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path

import pytest

from ddad.errors import CohortError, DivergenceError, OutputError
from ddad.workspace import Stopwatch, Workspace, check_begun_with, locked, publish
from support import contents


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


def test_what_a_kill_left_of_dropped_work_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "w")
    with workspace.claimed({"work": 1}, overwrite=False) as folder:
        for name in ("a.npy", "b.npy"):
            (folder / name).touch()
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".npy":
            raise KeyError
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyError), workspace.claimed({"work": 2}, overwrite=True):
        pass
    monkeypatch.undo()
    for plan in ({"work": 1}, {"work": 2}):
        assert not workspace.holds(plan)
    with workspace.claimed({"work": 1}, overwrite=False) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["lock", "plan.json"]


def test_a_kill_while_work_is_dropped_leaves_a_folder_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "w")
    with workspace.claimed({}, overwrite=False) as folder:
        for name in ("a.npy", "z.npy"):
            (folder / name).touch()
    unlink, dropped = Path.unlink, []

    def killed(path: Path, missing_ok: bool = False) -> None:
        if len(dropped) == 2:
            raise KeyError
        dropped.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyError):
        workspace.remove()
    monkeypatch.undo()
    assert "lock" not in dropped
    with workspace.claimed({}, overwrite=False):
        pass


def test_a_folder_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "scores.unfinished" / "thesis.txt"
    own.parent.mkdir()
    own.write_text("two years")
    work = Workspace.beside(tmp_path / "scores").claimed({}, overwrite=True)
    with pytest.raises(OutputError, match="did not write"), work:
        pass
    assert contents(tmp_path) == {"scores.unfinished/thesis.txt": b"two years"}


def test_work_on_images_of_which_nothing_can_be_made_is_dropped(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    with pytest.raises(CohortError), workspace.claimed({}, overwrite=False):
        raise CohortError("no image can be read")
    assert list(tmp_path.iterdir()) == []


def test_work_that_goes_on_is_kept_where_images_cannot_be_read(tmp_path: Path) -> None:
    """A share that is away for a moment, or a full disk for temporary files, must not cost hours of training."""
    workspace = Workspace(tmp_path / "w")
    with workspace.claimed({}, overwrite=False) as folder:
        (folder / "parts").mkdir()
        (folder / "parts" / ".pixels.npy.123.partial").touch()
    with pytest.raises(CohortError), workspace.claimed({}, overwrite=False):
        raise CohortError("no image can be read")
    assert contents(folder / "parts") == {}  # what a killed process left of a file is gone
    assert (folder / "plan.json").exists()
    with pytest.raises(DivergenceError), workspace.claimed({}, overwrite=False):
        raise DivergenceError("no network learns")
    assert list(tmp_path.iterdir()) == []


def test_work_goes_on_with_the_images_that_it_began_with(tmp_path: Path) -> None:
    (tmp_path / "normal.npy").write_bytes(b"images")
    (tmp_path / "other.npy").write_bytes(b"more")
    for _ in range(2):
        check_begun_with(tmp_path, {"normal": tmp_path / "normal.npy"})
        check_begun_with(tmp_path, {"other": tmp_path / "other.npy"})
    (tmp_path / "normal.npy").write_bytes(b"others")
    with pytest.raises(CohortError, match=f"normal: what .* unfinished work in {tmp_path} began with"):
        check_begun_with(tmp_path, {"normal": tmp_path / "normal.npy"})


def test_the_root_of_the_file_system_is_no_output() -> None:
    with pytest.raises(OutputError, match="root of the file system"):
        Workspace.beside(Path("/"))


def test_what_only_the_work_needed_does_not_come_along(tmp_path: Path) -> None:
    with Workspace.beside(tmp_path / "out").claimed({"work": 1}, overwrite=False) as folder:
        (folder / "a.txt").touch()
        (folder / ".a.txt.123.partial").touch()
        (folder / ".dicom.123.replaced").mkdir()
        publish(folder, tmp_path / "out")
    assert contents(tmp_path) == {"out/.ddad": b"", "out/a.txt": b""}
    assert not (tmp_path / "out" / ".dicom.123.replaced").exists()


def test_a_plan_is_known_whatever_it_holds(tmp_path: Path) -> None:
    plan = {"not a number": float("nan"), "a pair": (1, 2)}
    workspace = Workspace(tmp_path / "w")
    with workspace.claimed(plan, overwrite=False):
        assert workspace.holds(plan)
        assert not workspace.holds({**plan, "a pair": (1, 3)})


def test_a_name_that_is_too_long_is_an_error_for_a_user(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Workspace.beside(tmp_path / ("a" * 300)).holds({})


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked on this system")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_work_goes_on_where_the_file_system_has_no_locks(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr("ddad.workspace.fcntl.flock", flock)
    with locked(tmp_path / "lock") as mine:
        assert mine


def test_a_lock_is_had_by_one(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as first, locked(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with locked(tmp_path / "lock") as again:
        assert again
