"""A grid of runs: each stored when it is done, side by side if wished, none done twice."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from ddad import __version__
from ddad.cohorts import Cohort, Role
from ddad.detectors import DETECTORS
from ddad.errors import DdadError, SettingError, writing_to
from ddad.experiments.evaluation import labelled_test_paths
from ddad.experiments.published import Benchmark, method_title
from ddad.experiments.run import own_settings, read_run, run_cells, run_once
from ddad.experiments.setting import Setting
from ddad.files import write_atomically
from ddad.machine import checked_workers, processor_cores
from ddad.networks.factory import refining_memory, training_memory
from ddad.planning import check_plan, settings_read
from ddad.progress import Progress, Task, listener
from ddad.recipe import Recipe
from ddad.training.device import DeviceName
from ddad.training.jobs import Job, run_jobs
from ddad.wording import counted, percent
from ddad.workspace import locked

_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Run:
    """One cell of a grid: a recipe to fit, and the images to fit and test it on."""

    setting: Setting
    recipe: Recipe


class UnfinishedGridError(DdadError):
    """A run of a grid failed; `records` are in the order of the runs, with None for those that are not finished."""

    def __init__(self, reason: str, records: list[dict[str, Any] | None]) -> None:
        super().__init__(reason)
        self.records = records


def run_grid(
    runs: Sequence[Run],
    out: Path,
    *,
    jobs: int = 1,
    device: DeviceName = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
    on_finished: Callable[[list[dict[str, Any] | None]], object] | None = None,
) -> list[dict[str, Any]]:
    """Do every run that is not stored in `out/runs` yet, and return the records of all, in the order of `runs`.

    A run that another process is at, in the same folder, is left to it and waited for at the end.

    Args:
        runs: recipes and settings.
        out: folder for the stored runs.
        jobs: runs side by side, each in a process of its own if more than 1.
        device: `auto`, `cpu` or `cuda`.
        workers: networks trained side by side in each run; default: one for each processor core; with several
            jobs, the cores shared among them.
        progress: told what is being done.
        on_finished: called after each run that was not the last with the records so far, in the order of the runs, None
            for those that are not finished.

    Raises:
        SettingError: `jobs` is less than 1, or a detector does not take the images that are there.
        CohortError: images cannot be assembled, there are no normal or no abnormal test images, or too few to fit.
        OutputError: a stored run is damaged; nothing is done.
        UnfinishedGridError: a run failed. Finished ones are kept, unfinished ones go on when the grid is run again.
    """
    if jobs < 1:
        raise SettingError(f"--jobs {jobs}: give 1 or more.")
    workers = None if workers is None else checked_workers(workers)
    progress = listener(progress)
    images = {setting: _Images(setting) for setting in dict.fromkeys(run.setting for run in runs)}
    for run in runs:
        check_plan(images[run.setting].cohort, run.recipe)
    folder = out / "runs"
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    planned = [_Planned(run.recipe, images[run.setting], folder) for run in runs]
    _tell_apart(planned)
    store = _Store(folder)
    there = [store.find(one) for one in planned]  # a damaged one is named before hours of work
    elsewhere = [record for record in there if record and device not in ("auto", record["compute"]["device"])]
    if elsewhere:
        progress.message(
            f"{counted(len(elsewhere), 'run')} stored here by another device than {device}: taken as they are. For new "
            "ones, give another --out"
        )

    def finished() -> None:
        records = [store.find(one) for one in planned]
        if on_finished and any(records) and not all(records):
            on_finished(records)

    try:
        if jobs == 1:
            _one_after_another(planned, store, device, workers, progress, finished)
        else:
            workers = max(1, processor_cores() // jobs) if workers is None else workers
            _side_by_side(planned, store, device, workers, jobs, progress, finished)
    except DdadError as error:
        raise UnfinishedGridError(str(error), [store.find(one) for one in planned]) from error
    return [store.record(one) for one in planned]


def run_job(
    *,
    setting: dict[str, Any],
    recipe: dict[str, Any],
    folder: str,
    device: DeviceName,
    workers: int,
    jobs: int,
    wait: bool,
    report: Callable[..., None],
) -> None:
    """Do one run in this process; another that is at it is waited for, or left to finish it."""
    planned = _Planned(Recipe.model_validate(recipe), _Images(Setting(**setting)), Path(folder))

    def waiting() -> None:
        report("another process is at it", 0)
        time.sleep(_SECONDS_BETWEEN_LOOKS)

    _do(planned, _Store(Path(folder)), device, workers, jobs, _Relay(report), waiting if wait else None)
    report("done")


class _Images:
    """The images of a setting, opened once."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.benchmark: Benchmark | None
        self.cohort: Cohort
        self.benchmark, self.cohort = setting.open()
        labelled_test_paths(self.cohort)
        self.fingerprint = self.cohort.fingerprint()
        self.order = self.cohort.order()
        self.name = self.benchmark.name if self.benchmark else self.cohort.name


class _Planned:
    """A run, and the file that it ends in."""

    def __init__(self, recipe: Recipe, images: _Images, folder: Path) -> None:
        # What the detector does not read makes no other run.
        self.recipe, self.images = settings_read(images.cohort, recipe), images
        self.identity: dict[str, Any] = {
            "recipe": self.recipe.model_dump(mode="json"),
            "cohort": images.fingerprint,
            "order": images.order,
            "ddad": __version__,
        }
        key = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:8]
        method = f"ddad-{recipe.reconstruction.backbone}" if recipe.detector == "ddad" else recipe.detector
        split = Path(images.setting.split).stem
        self.stem = f"{images.name}-{split}-{recipe.preset_name}-{method}-seed{recipe.seed}-{key}"
        self.file = folder / f"{self.stem}.json"
        self.model = folder / f"{self.stem}.model"
        own = own_settings(self.recipe, normals=len(images.cohort.paths(Role.NORMAL)))
        self.settings = [f"{field} {value}" for field, value in own.items()]

    @property
    def title(self) -> str:
        setting = self.images.setting
        parts = [method_title(self.recipe.detector, self.recipe.reconstruction.backbone), f"seed {self.recipe.seed}"]
        if setting.anomaly_rate is not None:
            parts.append(f"anomaly rate {percent(setting.anomaly_rate, digits=6)}")
        if setting.normals is not None:
            parts.append(f"{setting.normals} normal images")
        return ", ".join([*parts, *self.settings])

    def job(self, device: DeviceName, workers: int, jobs: int, wait: bool) -> Job:
        return Job(
            title=self.title,
            function="ddad.experiments.grid:run_job",
            arguments={
                "setting": self.images.setting.to_json(),
                "recipe": self.recipe.model_dump(mode="json"),
                "folder": str(self.file.parent),
                "device": device,
                "workers": workers,
                "jobs": jobs,
                "wait": wait,
            },
            steps=1,
            output=self.file,
            memory=max(1, workers) * self._memory_of_a_worker(),
        )

    def _memory_of_a_worker(self) -> int:
        if "reconstruction" not in DETECTORS[self.recipe.detector].sections:
            return 0
        images, settings = self.recipe.images, self.recipe.reconstruction
        return max(training_memory(images, settings), refining_memory(images, settings))


def _tell_apart(planned: Sequence[_Planned]) -> None:
    """Leave of the settings that progress names those in which runs of a method differ."""
    of_method: dict[tuple[str, str], list[_Planned]] = {}
    for one in planned:
        of_method.setdefault((one.recipe.detector, one.recipe.reconstruction.backbone), []).append(one)
    for runs in of_method.values():
        shared = set.intersection(*(set(one.settings) for one in runs))
        for one in runs:
            one.settings = [setting for setting in one.settings if setting not in shared]


class _Store:
    """The finished runs in a folder; each file is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[tuple[Path, int], dict[str, Any]] = {}

    def find(self, planned: _Planned) -> dict[str, Any] | None:
        """Return the finished run of the same recipe on the same images, in the same order, by the same version.

        Recipes are compared as they are understood now, and by what the detector reads: a field that was added since,
        with a default that changes nothing, or another default of a rival, does not repeat hours of work.

        Raises:
            OutputError: a stored run is damaged.
        """
        images = planned.images
        wanted = (images.fingerprint, __version__, images.name, images.setting.split)
        for file in sorted(self._folder.glob(f"*-seed{planned.recipe.seed}-*.json")):
            version = (file, file.stat().st_mtime_ns)  # one of another version is replaced under its name
            if version not in self._read:
                self._read[version] = read_run(file)
            record = self._read[version]
            cell = record["cells"][0]
            if (record["cohort"], record["ddad"], cell["dataset"], cell["split"]) != wanted:
                continue
            if record.get("order", images.order) != images.order:  # those of earlier versions do not say
                continue
            try:
                if settings_read(images.cohort, Recipe.model_validate(record["recipe"])) == planned.recipe:
                    return record
            except (SettingError, ValueError):
                continue  # of an earlier version, with fields that are gone
        return None

    def record(self, planned: _Planned) -> dict[str, Any]:
        record = self.find(planned)
        assert record is not None
        return record


def _one_after_another(
    planned: Sequence[_Planned],
    store: _Store,
    device: DeviceName,
    workers: int | None,
    progress: Progress,
    finished: Callable[[], None],
) -> None:
    postponed = []
    for number, one in enumerate(planned, start=1):
        if store.find(one) is None:
            progress.message(f"run {number} of {len(planned)}: {one.title}")
            if _do(one, store, device, workers, 1, progress, None):
                finished()
            else:
                progress.message("another process is at it: left for later")
                postponed.append(one)
    for one in postponed:
        _do(one, store, device, workers, 1, progress, lambda: time.sleep(_SECONDS_BETWEEN_LOOKS))


def _side_by_side(
    planned: Sequence[_Planned],
    store: _Store,
    device: DeviceName,
    workers: int,
    jobs: int,
    progress: Progress,
    finished: Callable[[], None],
) -> None:
    order = list(DETECTORS)
    longest_first = sorted(planned, key=lambda one: order.index(one.recipe.detector))
    for wait in (False, True):
        missing = [one.job(device, workers, jobs, wait) for one in longest_first if store.find(one) is None]
        if missing:
            run_jobs(missing, workers=jobs, progress=progress, title="runs", on_done=finished)


def _do(
    planned: _Planned,
    store: _Store,
    device: DeviceName,
    workers: int | None,
    jobs: int,
    progress: Progress,
    wait: Callable[[], None] | None,
) -> bool:
    """Do a run and store it, unless another process has; return whether it is stored."""
    lock = planned.file.with_name(f".{planned.stem}.lock")
    with locked(lock, wait=wait) as mine:
        if not mine:
            return False
        if store.find(planned) is None:
            images, recipe = planned.images, planned.recipe
            record = planned.identity | {
                "anomaly_rate": images.setting.anomaly_rate,
                "unseen": images.setting.unseen,
            }
            record |= run_once(images.cohort, recipe, planned.model, device, workers, progress)
            record["compute"]["jobs"] = jobs
            record["cells"] = list(run_cells(record, recipe, images.name, images.benchmark, images.setting.split))
            write_atomically(planned.file, (json.dumps(record) + "\n").encode())
        shutil.rmtree(planned.model, ignore_errors=True)
        lock.unlink(missing_ok=True)
    return True


class _Relay:
    """Sends a run's progress to the process that asked for it, as notes beside its bar."""

    def __init__(self, report: Callable[..., None]) -> None:
        self._report = report

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        yield _RelayedTask(self._report, title, total)

    def message(self, text: str) -> None:
        self._report(text, 0)


class _RelayedTask(Task):
    def __init__(self, report: Callable[..., None], title: str, total: int) -> None:
        self._report, self._title, self._total = report, title, total
        self._done, self._last = 0, 0.0

    @override
    def advance(self, steps: int = 1, *, note: str = "") -> None:
        self._done += steps
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LOOKS:
            self._last = time.monotonic()
            self._report(f"{self._title}: {self._done} of {self._total}", 0)
