"""From a public download to a benchmark folder: images, a split with Table 1's counts, masks from boxes."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ddad.cohorts import SkippedImage
from ddad.cohorts.rows import listed
from ddad.errors import CohortError, ImageError, SettingError, writing_to
from ddad.experiments.downloads import DOWNLOADS, NORMAL, Box, Source
from ddad.experiments.published import BENCHMARKS, OTHER_NAMES, Benchmark
from ddad.files import output_folder, write_atomically
from ddad.images import read_image
from ddad.machine import processor_cores
from ddad.progress import Progress, listener
from ddad.workspace import Workspace, publish

LARGEST_SIDE = 512
"""Of prepared DICOM images: the largest input that a recipe can ask for."""
_AS_THEY_ARE = (".png", ".jpg", ".jpeg")


@dataclass
class Prepared:
    """What was made of a download.

    Attributes:
        counts: images by list of the split.
        authors_split: whether the split is the authors' `data.json`.
        skipped: files that could not be read; they are in no list.
        boxes_left_out: boxes with reversed sides, or wholly outside of their image, in words.
        boxes_cut: boxes that reached beyond their image, in words: what lies within it is marked.
        warnings: what is doubtful about the split.
    """

    counts: dict[str, int]
    authors_split: bool
    skipped: list[SkippedImage] = field(default_factory=list)
    boxes_left_out: list[str] = field(default_factory=list)
    boxes_cut: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def download_named(name: str) -> tuple[Benchmark, Callable[[Path], list[Source]]]:
    """Return the benchmark that a public download of this name makes, and what reads the download.

    Raises:
        SettingError: no download has this name.
    """
    readers = dict(DOWNLOADS.values())
    own = OTHER_NAMES.get(name, name)
    if own not in readers:
        raise SettingError(f"dataset: {name!r} is unknown. Use one of {', '.join(readers)}.")
    return BENCHMARKS[own], readers[own]


def prepare(
    sources: Sequence[Source],
    folder: Path,
    out: Path,
    benchmark: Benchmark,
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Write `images/`, `data.json`, and `masks/` where there are boxes around findings.

    PNG and JPEG files are copied as they are. Others become 16-bit grey PNG in the range that the file declares, the
    longer side at most 512 pixels. A preparation that was interrupted goes on.

    Args:
        sources: from a function in `downloads`.
        folder: the download; a `data.json` in it, as the authors publish it, is taken as the split.
        out: the benchmark folder.
        benchmark: with the counts of Table 1.
        seed: of the split, if it is made here.
        overwrite: whether a folder that `ddad` wrote may be replaced.
        progress: told of every image.

    Raises:
        CohortError: there are too few images, two have one name, or the authors' split names others.
        OutputError: `out` exists and may not be replaced, or the disk is full.
    """
    target = output_folder(out, overwrite=overwrite, apart_from=[folder])
    named = _named(sources)
    authors = folder / "data.json"
    split = _authors_split(authors, named) if authors.is_file() else make_split(named, benchmark, seed)
    chosen = [name for names in _lists(split).values() for name in names]
    prepared = Prepared({}, authors.is_file())
    plan = {"split": split, "folder": str(folder.resolve())}
    with Workspace.beside(target).claimed(plan, overwrite=overwrite) as workspace:
        for part in ("images", "masks"):
            (workspace / part).mkdir(exist_ok=True)
        with (
            ThreadPoolExecutor(processor_cores()) as pool,
            listener(progress).task("preparing images", len(chosen)) as bar,
        ):
            for written in pool.map(lambda name: _write(name, named[name], workspace), chosen):
                prepared.skipped += written.skipped
                prepared.boxes_left_out += written.boxes_left_out
                prepared.boxes_cut += written.boxes_cut
                bar.advance()
        if len(prepared.skipped) == len(chosen):
            first = prepared.skipped[0]
            raise CohortError(f"{folder}: no image can be used, the first: {first.path}: {first.reason}.")
        lost = {skipped.path for skipped in prepared.skipped}
        if lost and not prepared.authors_split:
            readable = {name: source for name, source in named.items() if source.path not in lost}
            with suppress(CohortError):  # too few for Table 1's counts: the lists are shorter by what is lost
                split = make_split(readable, benchmark, seed)
        lists = _lists(split)
        for names in lists.values():
            names[:] = [name for name in names if named[name].path not in lost]
        prepared.counts = {key: len(names) for key, names in lists.items()}
        if prepared.authors_split:
            prepared.warnings = _unlike_table_1(authors, prepared.counts, benchmark)
        else:
            prepared.warnings = _few_unlabeled(prepared.counts, benchmark)
        write_atomically(workspace / "data.json", (json.dumps(split, indent=1) + "\n").encode())
        if not any((workspace / "masks").iterdir()):
            (workspace / "masks").rmdir()
        publish(workspace, target)
    return prepared


def make_split(named: dict[str, Source], benchmark: Benchmark, seed: int) -> dict[str, Any]:
    """Draw a split with Table 1's counts: no patient in both training and test.

    The abnormal test images are shared equally among the classes of anomaly, as the paper has 300 gliomas and 300
    meningiomas. What is neither tested nor known normal becomes the pool of unlabeled images.

    Args:
        named: images by name.
        benchmark: with the counts.
        seed: the same seed gives the same split.

    Raises:
        CohortError: there are too few images.
    """
    kinds = sorted({source.kind for source in named.values() if not source.is_normal})
    wanted = Counter({NORMAL: benchmark.test[0]})
    for number, kind in enumerate(kinds):
        wanted[kind] = (benchmark.test[1] + number) // len(kinds)
    patients: dict[str, list[str]] = defaultdict(list)
    for name in sorted(named):
        patients[named[name].patient].append(name)
    order = sorted(patients)
    tested: list[str] = []
    rest: list[str] = []
    for index in np.random.default_rng(seed).permutation(len(order)):
        names = patients[order[index]]
        own = Counter(named[name].kind for name in names)
        # A patient is tested with all images, if there is still room for each of them.
        if own <= wanted:
            wanted -= own
            tested += names
        else:
            rest += names
    normal = [name for name in rest if named[name].is_normal]
    if +wanted or len(normal) < benchmark.normal:
        there = Counter(source.kind for source in named.values())
        raise CohortError(
            f"{benchmark.title}: Table 1 needs {benchmark.normal} normal images to train on, "
            f"{benchmark.test[0]} normal and {benchmark.test[1]} abnormal ones to test; found: "
            f"{', '.join(f'{count} {kind}' for kind, count in sorted(there.items()))}. Is the download complete?"
        )
    return {
        "train": {
            "0": normal[: benchmark.normal],
            "unlabeled": {
                "0": normal[benchmark.normal :],
                "1": [name for name in rest if not named[name].is_normal],
            },
        },
        "test": {
            "0": [name for name in tested if named[name].is_normal],
            "1": [name for name in tested if not named[name].is_normal],
        },
    }


def _named(sources: Sequence[Source]) -> dict[str, Source]:
    """Name the prepared images: as their files, or with the class before it where two files have one name."""
    stems = Counter(source.path.stem for source in sources)
    named: dict[str, Source] = {}
    for source in sources:
        suffix = source.path.suffix if source.path.suffix.lower() in _AS_THEY_ARE else ".png"
        stem = source.path.stem if stems[source.path.stem] == 1 else f"{source.kind}_{source.path.stem}"
        if f"{stem}{suffix}" in named:
            raise CohortError(f"{source.path} and {named[f'{stem}{suffix}'].path} have one name. Rename one of them.")
        named[f"{stem}{suffix}"] = source
    return named


def _authors_split(file: Path, named: dict[str, Source]) -> dict[str, Any]:
    """Read the authors' split, its names replaced by those of the prepared images, which may have another suffix."""
    try:
        split: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        lists = _lists(split)
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CohortError(f"{file}: is no split as the paper's authors publish it. Download it again.") from error
    by_stem = {Path(name).stem: name for name in named}
    missing = [str(name) for names in lists.values() for name in names if Path(str(name)).stem not in by_stem]
    if missing:
        raise CohortError(f"{file}: {len(missing)} of its images are not in the download: {listed(missing)}.")
    for names in lists.values():
        names[:] = [by_stem[Path(name).stem] for name in names]
    return split


def _few_unlabeled(counts: dict[str, int], benchmark: Benchmark) -> list[str]:
    """Say that a drawn split leaves fewer unlabeled images than the paper takes, as of an unfinished download."""
    unlabeled = counts["train.unlabeled.0"] + counts["train.unlabeled.1"]
    if unlabeled >= benchmark.unlabeled:
        return []
    return [
        f"train.unlabeled: {unlabeled}, where {benchmark.title} has {benchmark.unlabeled} in Table 1. See whether the "
        "download is whole."
    ]


def _unlike_table_1(file: Path, counts: dict[str, int], benchmark: Benchmark) -> list[str]:
    """Say in which counts the authors' split is not what the paper's Table 1 has: nobody would see it later."""
    unlabeled = counts["train.unlabeled.0"] + counts["train.unlabeled.1"]
    wanted = {"train.0": benchmark.normal, "test.0": benchmark.test[0], "test.1": benchmark.test[1]}
    unlike = [f"{key}: {counts[key]}, in the paper {count}" for key, count in wanted.items() if counts[key] != count]
    if unlabeled < benchmark.unlabeled:
        unlike.append(f"train.unlabeled: {unlabeled}, in the paper at least {benchmark.unlabeled}")
    return [f"{file}: has other counts than {benchmark.title} in Table 1: {'; '.join(unlike)}."] if unlike else []


def _lists(split: dict[str, Any]) -> dict[str, list[str]]:
    """Return the five lists of a split, not copies of them."""
    train, test = split["train"], split["test"]
    return {
        "train.0": train["0"],
        "train.unlabeled.0": train["unlabeled"]["0"],
        "train.unlabeled.1": train["unlabeled"]["1"],
        "test.0": test["0"],
        "test.1": test["1"],
    }


class _Written(NamedTuple):
    skipped: tuple[SkippedImage, ...] = ()
    boxes_left_out: tuple[str, ...] = ()
    boxes_cut: tuple[str, ...] = ()


def _write(name: str, source: Source, folder: Path) -> _Written:
    """Write an image, and a mask if there are boxes; say why if the image or a box cannot be used."""
    image = folder / "images" / name
    if image.exists() and not source.boxes:
        return _Written()
    try:
        pixels = read_image(source.path)
    except ImageError as error:
        return _Written((SkippedImage(source.path, error.reason),))
    size = pixels.width, pixels.height
    if source.path.suffix.lower() in _AS_THEY_ARE:
        with writing_to(image):
            partial = image.with_name(f".{name}.partial")
            shutil.copyfile(source.path, partial)
            partial.replace(image)
    else:
        scale = min(1.0, LARGEST_SIDE / max(size))
        size = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        low, high = pixels.value_range
        grey = np.clip((pixels.pixels.mean(axis=2) - low) / (high - low), 0, 1)
        resized = np.asarray(Image.fromarray(grey.astype(np.float32)).resize(size, Image.Resampling.BOX))
        _write_png(image, np.rint(np.clip(resized, 0, 1) * 65535).astype(np.uint16))
    within, left_out, cut = _boxes_within(source, pixels.width, pixels.height)
    if within:
        marked = np.zeros((size[1], size[0]), dtype=np.uint8)
        for left, top, right, bottom in within:
            across, down = size[0] / pixels.width, size[1] / pixels.height
            columns = slice(int(left * across), max(int(left * across) + 1, round(right * across)))
            marked[int(top * down) : max(int(top * down) + 1, round(bottom * down)), columns] = 255
        _write_png(folder / "masks" / f"{Path(name).stem}.png", marked)
    return _Written((), tuple(left_out), tuple(cut))


def _boxes_within(source: Source, width: int, height: int) -> tuple[list[Box], list[str], list[str]]:
    """Return what of the boxes around findings lies in the image; and which boxes do not at all, or not wholly.

    Nobody knows what a box with reversed sides was meant to be: it marks nothing.
    """
    within: list[Box] = []
    left_out, cut = [], []
    for left, top, right, bottom in source.boxes:
        box = f"{source.path}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g})"
        image = f"the image of {width}×{height} pixels"
        if right <= left or bottom <= top:
            left_out.append(f"{box} has reversed or equal sides")
        elif right <= 0 or bottom <= 0 or left >= width or top >= height:
            left_out.append(f"{box} lies outside of {image}")
        else:
            within.append((max(0.0, left), max(0.0, top), min(right, width), min(bottom, height)))
            # Sides may have been rounded to whole pixels.
            if min(left, top) < -1 or right > width + 1 or bottom > height + 1:
                cut.append(f"{box} reaches beyond {image}")
    return within, left_out, cut


def _write_png(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    write_atomically(path, content.getvalue())
