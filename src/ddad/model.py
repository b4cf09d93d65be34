"""`Model`: a fitted detector with its recipe and provenance, as a user saves, loads and ships it."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddad.cohorts import DecodedImage, SkippedImage, find_images, iterate, prepared
from ddad.detectors import Detector
from ddad.detectors.base import Scored, block_size
from ddad.errors import CalibrationError, ImageError
from ddad.evaluation.calibration import Calibration
from ddad.files import sha256, whole_folder
from ddad.images import ALL, ImageSource, Placement, Selection, take_image
from ddad.machine import checked_workers, processor_cores
from ddad.model_folder import read_model, write_model
from ddad.progress import Progress, listener
from ddad.recipe import Recipe
from ddad.recipe_sections import Preprocessing
from ddad.training.device import Compute, DeviceName, Precision
from ddad.training.side_by_side import side_by_side

_CALIBRATION = "calibration.json"  # not among the checksums: a person may edit it
DIGESTS = ("digests", "pixel_digests")
"""What a card keeps of its cohort to recognise images by, too long to read."""
_NAMES_FILES = ("skipped", "blank", "warnings")
_SUMMARISED = (
    "ddad",
    "created",
    "preset",
    "seed",
    "versions",
    "compute",
    "seconds",
    "training_curves",
    "prevalence",
    "selection",
    "unsupervised",
    "held_out_normals",
)


@dataclass(frozen=True)
class Finding:
    """What a model says of one image.

    Attributes:
        path: the file, as it was given or found.
        score: the model's main score; higher is more anomalous.
        p_value: share of held-out normals that score as high, or None without a calibration.
        flagged: whether the p-value is at most the promised false-alarm rate; None without a calibration, and where
            it is by too few normals for any image to be flagged: False would read as normal.
        scores: every score of the detector by name.
        maps: every score map, (S, S) float32, at the size of the network's input.
        pixels: the network's input, (C, S, S) in [-1, 1].
        source_size: rows and columns of the file's image.
        warnings: what is doubtful about the image.
        preprocessing: how the image became the network's input.
        calibration: by which `p_value` and `flagged` are told, or None.
    """

    path: str
    score: float
    p_value: float | None
    flagged: bool | None
    scores: dict[str, float]
    maps: dict[str, NDArray[np.float32]]
    pixels: NDArray[np.float32]
    source_size: tuple[int, int]
    warnings: tuple[str, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    calibration: Calibration | None = None

    @property
    def placement(self) -> Placement:
        """Which part of the image the maps show; `placement.to_source(map)` brings one back to the image's size."""
        return Placement.of(self.source_size, self.preprocessing.aspect)


class Model:
    """A fitted detector, the recipe it was fitted by, and a card that says what it has seen.

    Attributes:
        detector: what scores.
        card: what it has seen.
        calibration: scores of normals that it has not seen, by which findings get p-values and flags; None without.
    """

    def __init__(self, detector: Detector, card: dict[str, Any], calibration: Calibration | None = None) -> None:
        self.detector = detector
        self.card = card
        self.calibration = calibration

    @property
    def recipe(self) -> Recipe:
        """The recipe that the detector was fitted by."""
        return self.detector.recipe

    @property
    def primary_score(self) -> str:
        """Name of the score in `Finding.score`."""
        return self.detector.primary_score

    def fingerprint(self) -> str:
        """Return a SHA-256 of the recipe and all weights."""
        digest = hashlib.sha256(self.recipe.to_json().encode())
        for name, tensor in sorted(self.detector.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def map_scale(self, name: str) -> tuple[float, float]:
        """Return the values drawn as the two ends of the colour scale of map `name`.

        The median and the 99.9th percentile of the pixels of up to 256 held-out normals: one scale for all images.
        """
        quantiles = self.card["held_out_normals"]["maps"][name]
        return quantiles["0.5"], quantiles["0.999"]

    def summary(self) -> dict[str, Any]:
        """Return what a report says of the model: recipe, counts, curves, scales; no name or digest of a file."""
        card = self.card
        cohort = {key: value for key, value in card["cohort"].items() if key not in DIGESTS + _NAMES_FILES}
        counts = {f"{key}_count": len(card["cohort"].get(key, ())) for key in _NAMES_FILES}
        kept = {key: card[key] for key in _SUMMARISED if key in card}
        if "unsupervised" in kept:
            kept["unsupervised"] = {key: value for key, value in kept["unsupervised"].items() if key != "images"}
        names = card["held_out_normals"]["maps"]
        return {
            "fingerprint": self.fingerprint(),
            "detector": self.detector.name,
            "primary_score": self.primary_score,
            **kept,
            "cohort": cohort | counts,
            "calibration": None if self.calibration is None else self.calibration.summary(),
            "map_scales": {name: list(self.map_scale(name)) for name in names},
            "recipe": self.recipe.model_dump(mode="json"),
        }

    def score(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        device: DeviceName = "auto",
        precision: Precision | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
        on_skipped: Callable[[SkippedImage], None] | None = None,
        selection: Selection = ALL,
        maps: bool = True,
    ) -> Iterator[Finding]:
        """Score files one after another, in order, with memory that does not grow.

        A file that is named more than once is scored once. One that cannot be scored has no finding, so findings may be
        fewer than paths: go by `Finding.path`, not by place.

        Args:
            paths: files and folders; folders are searched for images.
            device: `auto`, `cpu` or `cuda`.
            precision: of matrix products, by default the recipe's; reconstructions by the backbones are always float32.
            workers: threads that decode; default: one for each processor core.
            progress: told of every image.
            on_skipped: called for each file that cannot be scored; without it a warning is issued.
            selection: which slices of files with several.
            maps: whether findings have maps; scores are the same without, and come several times faster.

        Raises:
            CohortError: no path was given, or a folder holds no image.
            SettingError: the device is not there.
        """
        listing = find_images(paths, selection)
        skip = on_skipped or _warn
        for unusable in listing.skipped:
            skip(unusable)
        yield from self.score_listed(
            listing.images,
            device=device,
            precision=precision,
            workers=workers,
            progress=progress,
            on_skipped=skip,
            maps=maps,
        )

    def score_listed(
        self,
        images: Sequence[Path],
        *,
        device: DeviceName = "auto",
        precision: Precision | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
        on_skipped: Callable[[SkippedImage], None] | None = None,
        maps: bool = True,
    ) -> Iterator[Finding]:
        """Do as `score` with addresses that `find_images` has listed: no file is opened to look what it holds."""
        compute = Compute.choose(device, precision or self.recipe.precision)
        workers = processor_cores() if workers is None else checked_workers(workers)
        skip = on_skipped or _warn
        size = block_size(self.recipe.images.image_size)
        with listener(progress).task("scoring", len(images)) as bar:
            score = self.detector.block_scorer(compute, maps=maps)
            batches = iterate(images, self.recipe.images, batch=size, workers=workers)
            for batch, findings in side_by_side(lambda batch: (batch, self._findings(batch, score)), batches, compute):
                for image in batch:
                    if image.pixels is None:
                        skip(SkippedImage(image.path, image.reason or "cannot be read", image.blank))
                        bar.advance()
                for finding in findings:
                    if reason := _not_finite(finding):
                        skip(SkippedImage(Path(finding.path), reason))
                    else:
                        yield finding
                    bar.advance()  # after the caller's work on it, which may take far longer than the score

    def score_image(
        self,
        image: ImageSource,
        *,
        name: str | None = None,
        device: DeviceName = "auto",
        precision: Precision | None = None,
        maps: bool = True,
    ) -> Finding:
        """Score one image, from a file or from memory: the same to the last bit as `score` gives its file.

        Of a file with several frames the first is read, of a volume the middle slice, and a warning of the finding says
        so. Many files are scored far faster by `score`.

        Args:
            image: a path, the bytes of a file, an array (H, W), (H, W, 1) or (H, W, 3), or what `read_image` returned.
                Integers range over their type; floats from 0 to 1, or from their minimum to their maximum.
            name: what the finding has for a path, and errors name; default: the image's path, or "image in memory".
            device: `auto`, `cpu` or `cuda`.
            precision: of matrix products, by default the recipe's; reconstructions by the backbones are always float32.
            maps: whether the finding has maps.

        Raises:
            ImageError: the image cannot be used, or its score is no number.
            SettingError: the device is not there.
        """
        compute = Compute.choose(device, precision or self.recipe.precision)
        taken = take_image(image, name)
        ready = prepared(0, Path(taken.source), taken, self.recipe.images)
        assert ready.pixels is not None
        ((scores, score_maps),) = self.score_pixels(ready.pixels[None], compute, maps=maps)
        finding = self._finding(ready, ready.pixels, ready.source_size, scores, score_maps)
        if reason := _not_finite(finding):
            raise ImageError(finding.path, reason)
        return finding

    def score_pixels(
        self, pixels: NDArray[np.float32], compute: Compute, *, maps: bool = True
    ) -> Iterator[tuple[dict[str, float], dict[str, NDArray[np.float32]]]]:
        """Score prepared images, (N, C, S, S) in [-1, 1]; yield the scores and maps of each; no maps on request."""
        size = block_size(self.recipe.images.image_size)
        score = self.detector.block_scorer(compute, maps=maps)
        blocks = (pixels[start : start + size] for start in range(0, len(pixels), size))
        for scored in side_by_side(lambda block: score(torch.from_numpy(np.array(block))), blocks, compute):
            yield from scored.images()

    def _findings(self, images: Sequence[DecodedImage], score: Callable[[Tensor], Scored]) -> list[Finding]:
        """Return what is found in the images of a block that could be decoded."""
        usable = [(image, image.pixels, image.source_size) for image in images if image.pixels is not None]
        if not usable:
            return []
        scored = score(torch.from_numpy(np.stack([pixels for _, pixels, _ in usable])))
        return [
            self._finding(image, pixels, size, scores, maps)
            for (image, pixels, size), (scores, maps) in zip(usable, scored.images(), strict=True)
        ]

    def _finding(
        self,
        image: DecodedImage,
        pixels: NDArray[np.float32],
        source_size: tuple[int, int] | None,
        scores: dict[str, float],
        maps: dict[str, NDArray[np.float32]],
    ) -> Finding:
        assert source_size is not None
        score, calibration = scores[self.primary_score], self.calibration
        is_judged = calibration is not None and math.isfinite(score)  # others are skipped
        return Finding(
            path=str(image.path),
            score=score,
            p_value=calibration.p_value(score) if calibration and is_judged else None,
            flagged=calibration.flags(score) if calibration and is_judged and not calibration.caution() else None,
            scores=scores,
            maps=maps,
            pixels=pixels,
            source_size=source_size,
            warnings=image.warnings,
            preprocessing=self.recipe.images,
            calibration=calibration,
        )

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: weights, recipe, card, their checksums, and the calibration if there is one.

        Raises:
            OutputError: the folder exists and `overwrite` is False, or the disk is full.
        """
        with whole_folder(Path(folder), overwrite=overwrite) as partial:
            write_model(partial, self.detector, self.card)
            self.save_calibration(partial)

    def save_calibration(self, folder: str | Path) -> None:
        """Write the calibration, if there is one, into the folder that the model was saved in."""
        if self.calibration is not None:
            file = Path(folder) / _CALIBRATION
            self.calibration.write(file, weights=sha256(Path(folder) / "weights.safetensors"))

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """Read a model that `save` wrote, and its calibration. No code in it is run.

        Raises:
            ModelError: the folder is missing, is no ddad model, was altered, or is of a later version.
            CalibrationError: its calibration is damaged, or was edited to something that cannot be used.
        """
        model = cls.load_uncalibrated(folder)
        model.calibration = model.read_calibration(folder)
        return model

    def read_calibration(self, folder: str | Path) -> Calibration | None:
        """Read the calibration that lies beside this model's weights in `folder`; None if there is none.

        Raises:
            CalibrationError: it is damaged, of another model, or was edited to something that cannot be used.
        """
        file = Path(folder) / _CALIBRATION
        if not file.exists():
            return None
        calibration = Calibration.read(file, weights=sha256(Path(folder) / "weights.safetensors"))
        if calibration.score != self.primary_score:
            raise CalibrationError(
                f"{file}: score: {calibration.score!r}, but the model's main score is {self.primary_score!r}. "
                "Correct it, or make it anew: ddad calibrate MODEL --normal DIR."
            )
        return calibration

    @classmethod
    def load_uncalibrated(cls, folder: str | Path) -> Model:
        """Read a model without its calibration, which may be damaged.

        Raises:
            ModelError: the folder is missing, is no ddad model, was altered, or is of a later version.
        """
        return cls(*read_model(Path(folder)))


def write_run(folder: Path, model: dict[str, Any], scoring: Compute | None = None) -> None:
    """Write `run.json`: which model made the results in `folder`, which is not yet at its final place, and on what."""
    content: dict[str, Any] = {"format": "ddad-run", "format_version": 1, "model": model}
    if scoring is not None:
        content["scoring"] = scoring.to_json()
    (folder / "run.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _not_finite(finding: Finding) -> str | None:
    """Say so if a score is no number."""
    names = [name for name, value in finding.scores.items() if not math.isfinite(value)]
    if not names:
        return None
    values = ", ".join(f"{name} {finding.scores[name]:g}" for name in names)
    return f"its score is no number ({values}): try --precision fp32; if that does not help, fit the model anew"


def _warn(skipped: SkippedImage) -> None:
    warnings.warn(f"{skipped.path}: skipped, {skipped.reason}", stacklevel=3)
