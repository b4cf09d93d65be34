"""Score a cohort's test images with a fitted model, and say how well each score tells them apart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddad.cohorts import Cohort, Role, SkippedImage, read_mask
from ddad.errors import CohortError
from ddad.evaluation import ImageMetrics, PixelMetrics, image_metrics, mask_on_grid, pixel_metrics
from ddad.files import whole_folder
from ddad.model import Model
from ddad.progress import Progress
from ddad.training.device import DeviceName, Precision


@dataclass(frozen=True)
class Evaluation:
    """How well each score and each map does on a cohort's test images.

    Attributes:
        images: by score: image AUC and AP with bootstrap intervals.
        pixels: by map: pixel metrics, where the cohort has masks.
        paths: of the scored test images.
        labels: 0 normal, 1 abnormal, in the order of `paths`.
        scores: by score, in the order of `paths`.
        skipped: test images that could not be scored.
    """

    images: dict[str, ImageMetrics]
    pixels: dict[str, PixelMetrics]
    paths: list[str]
    labels: list[int]
    scores: dict[str, list[float]]
    skipped: list[SkippedImage] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as plain numbers, without the single images."""
        return {
            "test_normal": self.labels.count(0),
            "test_abnormal": self.labels.count(1),
            "images": {name: asdict(metrics) for name, metrics in self.images.items()},
            "pixels": {name: asdict(metrics) for name, metrics in self.pixels.items()},
            "skipped": [[str(image.path), image.reason] for image in self.skipped],
        }


def evaluate(
    model: Model,
    cohort: Cohort,
    *,
    device: DeviceName = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Score the labelled test images of `cohort` and measure every score and map.

    Pixel metrics are taken over all test images at the size of the network's input, if every abnormal
    image has a mask.

    Raises:
        CohortError: there are no normal, or no abnormal, test images.
    """
    paths = {label: cohort.paths(Role.TEST, label) for label in (0, 1)}
    for label, option in ((0, "--test-normal"), (1, "--test-abnormal")):
        if not paths[label]:
            raise CohortError(f"test: no images with label {label}. Give some with {option}, a manifest or --data.")
    label_of = {str(path): label for label in paths for path in paths[label]}
    abnormal = cohort.of(Role.TEST, 1)
    mask_of = dict(zip(abnormal["path"], abnormal["mask"], strict=True)) if abnormal["mask"].notna().all() else {}
    skipped: list[SkippedImage] = []
    scored_paths: list[str] = []
    scores: dict[str, list[float]] = {}
    maps: dict[str, list[Any]] = {}
    masks: list[Any] = []
    for finding in model.score(
        [*paths[0], *paths[1]],
        device=device,
        precision=precision,
        progress=progress,
        on_skipped=skipped.append,
    ):
        scored_paths.append(finding.path)
        for name, score in finding.scores.items():
            scores.setdefault(name, []).append(score)
        if mask_of:
            for name, score_map in finding.maps.items():
                maps.setdefault(name, []).append(score_map)
            grid = next(iter(finding.maps.values())).shape[0]
            masks.append(
                mask_on_grid(read_mask(Path(mask_of[finding.path]), finding.source_size), grid)
                if finding.path in mask_of
                else np.zeros((grid, grid), dtype=bool)
            )
    labels = [label_of[path] for path in scored_paths]
    return Evaluation(
        images={name: image_metrics(labels, values) for name, values in scores.items()},
        pixels={name: pixel_metrics(masks, values) for name, values in maps.items()},
        paths=scored_paths,
        labels=labels,
        scores=scores,
        skipped=skipped,
    )


def write_evaluation(evaluation: Evaluation, out: Path, *, overwrite: bool = False) -> None:
    """Write `evaluation.json` and `scores.csv` (path, label, every score) into a new folder.

    Raises:
        OutputError: the folder exists and `overwrite` is False.
    """
    with whole_folder(out, overwrite=overwrite) as folder:
        (folder / "evaluation.json").write_text(json.dumps(evaluation.to_json(), indent=2) + "\n")
        columns = {"path": evaluation.paths, "label": evaluation.labels, **evaluation.scores}
        pd.DataFrame(columns).to_csv(folder / "scores.csv", index=False)
