"""Score a cohort's test images with a fitted model, and say how well each score tells them apart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ddad.cohorts import Cohort, Role, SkippedImage, read_mask
from ddad.cohorts.masks import misfit
from ddad.cohorts.rows import described
from ddad.cohorts.seen import pixel_digest, seen_in_fit
from ddad.errors import CohortError, DdadError, writing_to
from ddad.evaluation import ImageMetrics, PixelMetrics, image_metrics, mask_on_grid, pixel_metrics
from ddad.files import whole_folder
from ddad.images import Placement
from ddad.model import Model, write_run
from ddad.progress import Progress
from ddad.recipe_sections import Preprocessing
from ddad.training.device import Compute, DeviceName, Precision
from ddad.wording import counted

_FEW_GROUPS = 10


@dataclass(frozen=True)
class Evaluation:
    """How well each score and each map does on a cohort's test images.

    Attributes:
        images: by score: image AUC and AP with bootstrap intervals.
        pixels: by map: pixel metrics, where the cohort has masks.
        paths: of the scored test images.
        labels: 0 normal, 1 abnormal, in the order of `paths`.
        scores: by score, in the order of `paths`.
        groups: numbers of the images' groups (patients, volumes), in the order of `paths`; None where each image is a
            group of its own.
        skipped: test images that could not be scored.
        warnings: what is doubtful about the whole evaluation.
        model: what `Model.summary` says, for `run.json`.
        scoring: device and precision of the scores, for `run.json`.
    """

    images: dict[str, ImageMetrics]
    pixels: dict[str, PixelMetrics]
    paths: list[str]
    labels: list[int]
    scores: dict[str, list[float]]
    groups: list[int] | None = None
    skipped: list[SkippedImage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    scoring: Compute | None = None

    def constant(self) -> list[str]:
        """Name the scores that are the same for every image: what is measured of them says nothing."""
        return [name for name, values in self.scores.items() if len(set(values)) == 1]

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as plain numbers, without the single images."""
        return {
            "test_normal": self.labels.count(0),
            "test_abnormal": self.labels.count(1),
            "test_groups": len(self.labels) if self.groups is None else len(set(self.groups)),
            "images": {name: asdict(metrics) for name, metrics in self.images.items()},
            "pixels": {name: asdict(metrics) for name, metrics in self.pixels.items()},
            **described(self.skipped),
            "warnings": self.warnings,
        }


def evaluate(
    model: Model,
    cohort: Cohort,
    *,
    device: DeviceName = "auto",
    precision: Precision | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score the labelled test images of `cohort` and measure every score and map.

    Intervals ask about other patients: the bootstrap draws the cohort's groups. Pixel metrics are taken over all test
    images at the size of the network's input, if every abnormal image has a mask of its shape, at any size, that marks
    something that the network sees.

    Raises:
        CohortError: there are no normal, or no abnormal, test images.
        SettingError: the device is not there.
    """
    compute = Compute.choose(device, precision or model.recipe.precision)
    paths = labelled_test_paths(cohort)
    label_of = {str(path): label for label in paths for path in paths[label]}
    skipped: list[SkippedImage] = list(cohort.skipped)
    warnings = list(cohort.warnings)
    masks = _masks_on_grid(cohort, model.recipe.images, warnings)
    scored_paths: list[str] = []
    scores: dict[str, list[float]] = {}
    maps: dict[str, list[NDArray[np.float32]]] = {}
    grids: list[NDArray[np.bool_]] = []
    digests: dict[str, str] = {}
    # As listed: of a file with several slices, the cohort takes the one that a fit on it takes.
    for finding in model.score_listed(
        [*paths[0], *paths[1]],
        device=device,
        precision=precision,
        progress=progress,
        on_skipped=skipped.append,
        maps=bool(masks),
    ):
        scored_paths.append(finding.path)
        digests[finding.path] = pixel_digest(finding.pixels)
        for name, score in finding.scores.items():
            scores.setdefault(name, []).append(score)
        mask = masks.get(finding.path)
        unlike = None if mask is None else misfit(mask.shape, finding.source_size)
        if unlike:
            warnings.append(f"pixel metrics are left out: {finding.path}: {unlike}.")
            masks = {}
            maps.clear()
        if masks:
            size = model.recipe.images.image_size
            grids.append(np.zeros((size, size), dtype=bool) if mask is None else mask.grid)
            for name, score_map in finding.maps.items():
                maps.setdefault(name, []).append(score_map)
    warnings += _seen_in_training(model, cohort, digests, progress)
    labels = [label_of[path] for path in scored_paths]
    groups = _shared_groups(cohort, scored_paths)
    evaluation = Evaluation(
        images={name: image_metrics(labels, values, groups) for name, values in scores.items()},
        pixels={name: pixel_metrics(grids, values) for name, values in maps.items()},
        paths=scored_paths,
        labels=labels,
        scores=scores,
        groups=groups,
        skipped=skipped,
        warnings=[*warnings, *_few_groups(labels, groups)],
        model=model.summary(),
        scoring=compute,
    )
    if constant := evaluation.constant():
        single = model.recipe.detector == "ddad" and model.recipe.reconstruction.members == 1
        why = "; one network (reconstruction.members 1) has no discrepancy" if single else ""
        evaluation.warnings.append(f"{', '.join(constant)}: constant, the same for every image{why}.")
    return evaluation


def labelled_test_paths(cohort: Cohort) -> dict[int, list[Path]]:
    """Return the test images by label, 0 normal and 1 abnormal.

    Raises:
        CohortError: one of the two has no images.
    """
    paths = {label: cohort.paths(Role.TEST, label) for label in (0, 1)}
    for label, option in ((0, "--test-normal"), (1, "--test-abnormal")):
        if not paths[label]:
            raise CohortError(f"test: no images with label {label}. Give some with {option}, a manifest or --data.")
    return paths


@dataclass(frozen=True)
class _Mask:
    """A mask at the size of the network's input, (S, S), and the rows and columns of its file."""

    grid: NDArray[np.bool_]
    shape: tuple[int, int]


def _masks_on_grid(cohort: Cohort, preprocessing: Preprocessing, warnings: list[str]) -> dict[str, _Mask]:
    """Read the masks of abnormal test images at the size of the network's input, by path of the image.

    None are used unless every such image has one that can be read and marks something of what the network sees;
    `warnings` then says which one has not.
    """
    abnormal = cohort.of(Role.TEST, 1)
    if abnormal["mask"].isna().all():
        return {}
    masks = {}
    for path, file in zip(abnormal["path"], abnormal["mask"], strict=True):
        try:
            masks[str(path)] = _mask_on_grid(file, preprocessing)
        except DdadError as error:
            warnings.append(f"pixel metrics are left out: {path}: {error}.")
            return {}
    return masks


def _mask_on_grid(file: str | None, preprocessing: Preprocessing) -> _Mask:
    """Read one mask at the size of the network's input.

    Raises:
        CohortError: there is none, or it marks nothing of what the network sees.
        ImageError: it cannot be read.
    """
    if pd.isna(file):
        raise CohortError("has no mask")
    mask = read_mask(str(file))
    if not mask.any():
        raise CohortError(f"its mask {file} is empty")
    shape = (mask.shape[0], mask.shape[1])
    seen = Placement.of(shape, preprocessing.aspect).cut(mask)
    if not seen.any():
        raise CohortError(f"its mask {file} lies outside of the square that images.aspect=crop takes")
    return _Mask(mask_on_grid(seen, preprocessing.image_size), shape)


def _shared_groups(cohort: Cohort, paths: list[str]) -> list[int] | None:
    """Number the groups of test images, which may be named for patients; None where each image is its own."""
    group_of = cohort.of(Role.TEST).set_index("path")["group"]
    numbers, names = pd.factorize(group_of.loc[paths])
    return None if len(names) == len(paths) else numbers.tolist()


def _few_groups(labels: list[int], groups: list[int] | None) -> list[str]:
    """Say where so few groups stand behind a class that resampling them shows too little of what others would do."""
    warnings = []
    for label, name in ((0, "normal"), (1, "abnormal")):
        own = [place for place, other in enumerate(labels) if other == label]
        count = len(own if groups is None else {groups[place] for place in own})
        if count < _FEW_GROUPS:
            few = "few" if groups is None else f"of {counted(count, 'group')} (patients, volumes)"
            warnings.append(
                f"the {len(own)} {name} test images are {few}: with fewer than {_FEW_GROUPS}, intervals are too narrow."
            )
    return warnings


def _seen_in_training(model: Model, cohort: Cohort, digests: dict[str, str], progress: Progress | None) -> list[str]:
    seen = seen_in_fit(cohort, cohort.of(Role.TEST), model.card["cohort"], digests, progress)
    if not seen.any.any():
        return []
    return [
        f"{counted(int(seen.any.sum()), 'test image is', 'test images are')} not new to the model, so that memory is "
        f"measured, too: {seen.counted()}."
    ]


def write_evaluation(evaluation: Evaluation, out: Path, *, model_name: str = "", overwrite: bool = False) -> None:
    """Write `evaluation.json`, `scores.csv` and `run.json` into a new folder.

    Columns of the scores: path, label, `group` where a group has several images, and every score.

    Raises:
        OutputError: the folder exists and `overwrite` is False.
    """
    with whole_folder(out, overwrite=overwrite) as folder, writing_to(out):
        write_run(folder, evaluation.model | {"name": model_name}, evaluation.scoring)
        (folder / "evaluation.json").write_text(json.dumps(evaluation.to_json(), indent=2) + "\n")
        groups = {} if evaluation.groups is None else {"group": evaluation.groups}
        columns = {"path": evaluation.paths, "label": evaluation.labels, **groups, **evaluation.scores}
        pd.DataFrame(columns).to_csv(folder / "scores.csv", index=False)
