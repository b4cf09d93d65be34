"""Files and folders that appear whole or not at all, whatever was killed when, and files that were read."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddad import files
from ddad.errors import OutputError, writing_to
from ddad.files import let_go, output_file, output_folder, take_place, whole_folder, write_atomically
from support import contents


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


def folder_of(path: Path, content: str) -> Path:
    path.mkdir(parents=True)
    (path / "a.txt").write_text(content)
    (path / ".ddad").touch()
    return path


NEW = {".ddad": b"", "a.txt": b"new"}


def test_a_kill_while_the_old_folder_is_removed_leaves_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folder_of(tmp_path / "out", "old")

    def killed(folder: Path, **_: object) -> None:
        if folder.exists():
            (folder / ".ddad").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        take_place(folder_of(tmp_path / "work", "new"), target)
    monkeypatch.undo()
    assert contents(target) == NEW


def test_a_kill_between_the_renames_leaves_both_folders_whole_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, work = folder_of(tmp_path / "out", "old"), folder_of(tmp_path / "work", "new")
    rename = Path.rename

    dead = []

    def killed(path: Path, to: Path) -> Path:
        if path == work or dead:
            dead.append(path)
            raise KeyboardInterrupt
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        take_place(work, target)
    monkeypatch.undo()
    (aside,) = (path for path in tmp_path.iterdir() if path != work)
    assert (contents(aside)["a.txt"], contents(work)) == (b"old", NEW)
    take_place(work, target)
    assert contents(target) == NEW


@pytest.mark.parametrize("reason", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_what_stood_there_is_there_again_if_the_new_folder_cannot_be_put_in_its_place(
    reason: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, work = folder_of(tmp_path / "out", "old"), folder_of(tmp_path / "work", "new")
    rename = Path.rename

    def refuse(path: Path, to: Path) -> Path:
        if path == work:
            raise reason
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        take_place(work, target)
    assert contents(target)["a.txt"] == b"old"
    assert contents(work) == NEW


def test_what_somebody_else_put_there_meanwhile_is_left_alone(tmp_path: Path) -> None:
    work, target = folder_of(tmp_path / "work", "new"), tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("hours of reading")
    with pytest.raises(OutputError, match="was not written by ddad"):
        take_place(work, target)
    assert contents(target) == {"notes.txt": b"hours of reading"}
    assert contents(work) == NEW
    with pytest.raises(OutputError, match="exists already"), whole_folder(tmp_path / "other"):
        folder_of(tmp_path / "other", "of another command")
    assert contents(tmp_path / "other")["a.txt"] == b"of another command"


def test_a_mount_point_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of docker run -v: nothing can take its place."""
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "out")
    with pytest.raises(OutputError, match="mount point"):
        output_folder(tmp_path / "out", overwrite=False)
    assert output_folder(tmp_path / "out" / "model", overwrite=False) == tmp_path / "out" / "model"


@pytest.mark.parametrize("killed_at", [None, "copytree", "remove_folder"])
def test_a_place_on_another_disk_gets_a_copy(
    killed_at: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, work = folder_of(tmp_path / "disk" / "out", "old"), folder_of(tmp_path / "work", "new")
    rename = Path.rename

    def on_one_disk(path: Path, to: Path) -> Path:
        if path.parent != to.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, to)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", on_one_disk)
    if killed_at is not None:
        with monkeypatch.context() as patch:
            patch.setattr(files.shutil if killed_at == "copytree" else files, killed_at, killed)
            with pytest.raises(KeyboardInterrupt):
                take_place(work, target)
        assert contents(work) == NEW
        assert contents(target)["a.txt"] == (b"old" if killed_at == "copytree" else b"new")
    take_place(work, target)
    assert contents(tmp_path) == {f"disk/out/{name}": content for name, content in NEW.items()}


def test_what_killed_processes_left_is_removed_by_the_next_run_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    for name in ("partial", "replaced"):
        folder_of(tmp_path / f".out.{done.pid}.{name}", "left")
    at_work = folder_of(tmp_path / f".out.{os.getppid()}.partial", "of a process that works")
    another = folder_of(tmp_path / f".out.b.{done.pid}.partial", "of another output")
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == {"out", at_work.name, another.name}
    assert contents(tmp_path / "out") == NEW


@pytest.mark.parametrize(("first", "second"), [("out", "out"), ("out", "out/dicom"), ("out/scores", "out")])
def test_an_output_in_another_output_is_refused(first: str, second: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is read or written too\. Choose another place"):
        output_folder(tmp_path / second, overwrite=True, apart_from=[tmp_path / first])
