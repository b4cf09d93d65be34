"""What several tests share: tiny recipes, images and jobs, and the command line in this process."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ddad.errors import DdadError, DivergenceError, OutputError
from ddad.recipe import Recipe

TESTS = Path(__file__).parent

TINY: dict[str, Any] = {
    "images.image_size": 16,
    "reconstruction.members": 2,
    "reconstruction.ndm_epochs": 2,
    "reconstruction.udm_epochs": 2,
    "reconstruction.batch_size": 8,
    "refinement.epochs": 1,
    "refinement.width": 8,
    "precision": "fp32",
    "holdout": 0.2,
}
"""Settings under which a fit takes a second."""


TINY_RIVALS: dict[str, Any] = {
    "classification.epochs": 2,
    "classification.width": 4,
    "classification.batch_size": 8,
    "segmentation.epochs": 2,
    "segmentation.width": 4,
    "segmentation.batch_size": 4,
    "f_anogan.gan_epochs": 3,
    "f_anogan.encoder_epochs": 3,
    "f_anogan.width": 4,
    "f_anogan.latent_size": 6,
    "f_anogan.batch_size": 4,
    "f_anogan.least_steps": 1,
    "ganomaly.epochs": 3,
    "ganomaly.width": 4,
    "ganomaly.latent_size": 6,
    "ganomaly.batch_size": 4,
    "ganomaly.least_steps": 1,
    "igd.epochs": 3,
    "igd.width": 4,
    "igd.latent_size": 6,
    "igd.batch_size": 4,
    "igd.least_steps": 1,
    "igd.estimation_epochs": 2,
    "cutpaste.epochs": 3,
    "cutpaste.width": 4,
    "cutpaste.batch_size": 4,
    "cutpaste.least_steps": 1,
    "fusion.folds": 2,
}
"""The same for rivals."""


def tiny_recipe(**changes: Any) -> Recipe:
    """Return a recipe for quick fits; `__` stands for the dot in a field's name."""
    return Recipe().changed(TINY | {name.replace("__", "."): value for name, value in changes.items()})


def tiny_ddad_plus(**changes: Any) -> Recipe:
    """Return such a recipe of `ddad+`, all of whose networks are small."""
    small = {"segmentation__epochs": 2, "segmentation__width": 4, "segmentation__least_steps": 1}
    return tiny_recipe(detector="ddad+", classification__width=4, **(small | changes))


def tiny_options(**changes: Any) -> list[str]:
    """Return the same as options of the command line."""
    settings = TINY | {name.replace("__", "."): value for name, value in changes.items()}
    return [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def random_images(count: int, channels: int = 1, size: int = 16, seed: int = 0) -> Tensor:
    """Return smooth random images (N, C, S, S) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def write_images(
    folder: Path, count: int, *, seed: int = 0, size: int = 20, colour: bool = False, name: str = "image"
) -> list[Path]:
    """Write grey or colour PNG files, each different, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(random_images(count, 3 if colour else 1, size, seed)):
        levels = np.rint((image.numpy() + 1) * 127.5).astype(np.uint8)
        path = folder / f"{name}-{seed}-{number:03d}.png"
        Image.fromarray(np.moveaxis(levels, 0, -1) if colour else levels[0]).save(path)
        paths.append(path)
    return paths


def write_slice(path: Path, patient: str | None, study: str | None) -> Path:
    """Write a DICOM file of 16 x 16 pixels of a patient and a study."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    if patient is not None:
        data.PatientID = patient
    if study is not None:
        data.StudyInstanceUID = study
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = 16
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 255, 256, np.uint8).tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder, hidden ones too, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass
class Outcome:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON object."""
        return json.loads(self.out)


def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Outcome:
    """Run `ddad` in this process, as the installed command does."""
    from ddad.cli import main

    monkeypatch.setattr(sys, "argv", ["ddad", *(str(argument) for argument in arguments)])
    capsys.readouterr()
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    captured = capsys.readouterr()
    return Outcome(code, captured.out, captured.err)


@dataclass
class RecordedTask:
    title: str
    total: int
    done: int = 0
    notes: list[str] = field(default_factory=list)

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        self.done += steps
        self.notes.append(note)


class RecordedProgress:
    """Keeps what a fit or a scoring run reports."""

    def __init__(self) -> None:
        self.tasks: list[RecordedTask] = []
        self.messages: list[str] = []

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[RecordedTask]:
        self.tasks.append(RecordedTask(title, total))
        yield self.tasks[-1]

    def message(self, text: str) -> None:
        self.messages.append(text)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a disk of this size on `folder`; skip the test where that is not permitted."""
    import subprocess

    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a full disk cannot be made here: there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"a full disk cannot be made here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# Jobs for ddad.training.jobs: worker processes find them as "support:...".


def write_job(*, into: str, text: str, steps: int = 1, report: Callable[[str], None]) -> None:
    """Report, and write the output last, with a line for every run of it in `<output>.runs`."""
    with Path(f"{into}.runs").open("a") as runs:
        runs.write(f"{os.getpid()}\n")
    for step in range(steps):
        report(f"step {step}")
    Path(into).write_text(text)


def threads_job(*, into: str, report: Callable[[str], None]) -> None:
    report("counting")
    Path(into).write_text(str(torch.get_num_threads()))


def chatty_job(*, into: str, report: Callable[[str], None]) -> None:
    """Print, as libraries do."""
    print("loading something")
    print("progress 50 %", file=sys.stderr)
    report("step 0")
    Path(into).write_text("done")


def printing_from_c_job(*, into: str, report: Callable[[str], None]) -> None:
    """Write to standard output beneath Python, as compiled libraries do."""
    os.write(1, b"warning: from a compiled library\n")
    report("step 0")
    Path(into).write_text("done")


def failing_job(*, into: str, kind: str, report: Callable[[str], None]) -> None:
    report("step 0")
    match kind:
        case "ddad":
            raise DdadError(f"{into}: the reason of the failure")
        case "output":
            raise OutputError(f"{into}: the disk is full")
        case "diverged":
            raise DivergenceError("training diverged: loss is nan")
        case "crash":
            raise ZeroDivisionError("a mistake in the program")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)


def starving_job(*, into: str, report: Callable[[str], None]) -> None:  # noqa: ARG001
    """Fail as torch does where a device's memory does not suffice."""
    raise RuntimeError("CUDA out of memory")


def endless_job(*, into: str, report: Callable[[str], None]) -> None:
    """Say who it is, then report until somebody stops it."""
    Path(f"{into}.pid").write_text(str(os.getpid()))
    for _ in range(3000):
        report("still here")
        time.sleep(0.02)


def silent_job(*, into: str, report: Callable[[str], None]) -> None:  # noqa: ARG001
    """Say who it is, then work on without a word, as in a long epoch."""
    Path(f"{into}.pid").write_text(str(os.getpid()))
    time.sleep(60)


def is_alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_for(condition: Callable[[], object], seconds: float = 30) -> bool:
    """Wait until something is true, and say whether it became so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def same_tensors(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are the same to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def joined(arguments: Sequence[object]) -> str:
    return " ".join(str(argument) for argument in arguments)
