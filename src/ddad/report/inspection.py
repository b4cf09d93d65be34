"""What would be read of files, image by image, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ddad.cohorts import find_images
from ddad.errors import BlankSliceError, ImageError
from ddad.files import output_folder, whole_folder, write_atomically
from ddad.images import ALL, MedicalImage, Selection, find_warnings, normalise, read_image
from ddad.recipe_sections import Preprocessing
from ddad.report.contact_sheet import ContactSheet
from ddad.report.heatmaps import picture_name
from ddad.report.source_image import bands
from ddad.wording import on_one_line


@dataclass(frozen=True)
class Inspected:
    """What is known of a file, or of one image in it.

    Attributes:
        path: its address.
        status: whether it would be used.
        reason: why not.
        kind: `other` if it was found in a folder and is not taken for an image at all; `blank` if nothing is wrong with
            it but that it shows nothing.
        shape: rows and columns; and 3 behind them, if it has colours.
        minimum: of its pixels.
        maximum: of its pixels.
        format: `png`, `jpeg`, `tiff`, `dicom`, `nifti`.
        bits: stored per sample.
        value_range: what is shown as darkest and brightest.
        range_origin: where that is from.
        spacing: millimetres between rows and between columns.
        orientation: plane of the body.
        warnings: what is doubtful.
        pixels: the PNG that was written of it.
    """

    path: str
    status: Literal["ok", "skipped"]
    reason: str | None = None
    kind: Literal["image", "blank", "other"] = "image"
    shape: tuple[int, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    format: str | None = None
    bits: int | None = None
    value_range: tuple[float, float] | None = None
    range_origin: str | None = None
    spacing: tuple[float, float] | None = None
    orientation: str | None = None
    warnings: tuple[str, ...] = ()
    pixels: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all but the kind, for one line of JSON."""
        return {name: value for name, value in asdict(self).items() if name != "kind"}

    def to_text(self) -> str:
        """Return one line for a person."""
        return on_one_line(f"{self.path}: {self._what()}")

    def _what(self) -> str:
        if self.status == "skipped":
            return f"skipped, {self.reason}"
        assert self.shape is not None
        assert self.value_range is not None
        parts = [
            f"{self.format} {self.shape[1]}×{self.shape[0]}{' colour' if len(self.shape) == 3 else ''} {self.bits} bit",
            f"values {self.minimum:g} to {self.maximum:g}",
            f"shown {self.value_range[0]:.7g} to {self.value_range[1]:.7g} ({self.range_origin})",
        ]
        if self.spacing is not None:
            parts.append(f"{self.spacing[0]:g}×{self.spacing[1]:g} mm")
        parts += [self.orientation] if self.orientation else []
        return ", ".join([*parts, *(f"warning: {text}" for text in self.warnings)])


def inspect_images(
    paths: Sequence[str | Path],
    preprocessing: Preprocessing,
    selection: Selection = ALL,
    *,
    save_pixels: Path | None = None,
    overwrite: bool = False,
    sheet: ContactSheet | None = None,
) -> Iterator[Inspected]:
    """Look at every file that scoring would look at, and at those it would pass over.

    Args:
        paths: files and folders.
        preprocessing: what makes pixels of an image.
        selection: which slices of files with several.
        save_pixels: folder for images as the network sees them, at their own size, as 16-bit PNG; it has its name
            once all are looked at.
        overwrite: whether a folder of them that `ddad` wrote earlier may be replaced.
        sheet: takes a small picture of each.

    Raises:
        CohortError: nothing was named, or a folder holds no image.
        OutputError: the folder exists and may not be replaced, lies in an input or holds one, or the disk is full.
    """
    if save_pixels is None:
        yield from _inspected(paths, preprocessing, selection, None, sheet)
        return
    output_folder(save_pixels, overwrite=overwrite, apart_from=paths)
    with whole_folder(save_pixels, overwrite=overwrite) as folder:
        for inspected in _inspected(paths, preprocessing, selection, folder, sheet):
            picture = inspected.pixels
            yield replace(inspected, pixels=None if picture is None else str(save_pixels / Path(picture).name))


def _inspected(
    paths: Sequence[str | Path],
    preprocessing: Preprocessing,
    selection: Selection,
    pictures: Path | None,
    sheet: ContactSheet | None,
) -> Iterator[Inspected]:
    listing = find_images(paths, selection)
    for number, path in enumerate(listing.images):
        try:
            image = read_image(path)
        except ImageError as error:
            kind: Literal["image", "blank"] = "blank" if isinstance(error, BlankSliceError) else "image"
            yield Inspected(str(path), "skipped", error.reason, kind)
            continue
        file = None if pictures is None else pictures / f"{picture_name(number, str(path))}.png"
        if file is not None or sheet is not None:
            pixels = normalise(image, preprocessing)
            if file is not None:
                write_atomically(file, encode_png16(pixels))
            if sheet is not None:
                sheet.add(pixels, path.name)
        yield _described(path, image, find_warnings(image, preprocessing), file)
    for skipped in listing.skipped:
        yield Inspected(str(skipped.path), "skipped", skipped.reason)
    for passed_over in listing.passed_over:
        yield Inspected(str(passed_over.path), "skipped", passed_over.reason, "other")


def encode_png16(pixels: NDArray[np.float32]) -> bytes:
    """Return an image (H, W, 1 or 3) in [0, 1] as PNG of 16 bits a sample, which Pillow cannot write in colour."""
    samples: NDArray[np.uint16] = np.empty(pixels.shape, np.uint16)
    for band in bands(*pixels.shape[:2]):
        samples[band] = np.rint(np.clip(pixels[band], 0, 1) * 65535)
    return bytes(imagecodecs.png_encode(samples if samples.shape[2] == 3 else samples[..., 0]))


def _described(path: Path, image: MedicalImage, warnings: tuple[str, ...], file: Path | None) -> Inspected:
    return Inspected(
        path=str(path),
        status="ok",
        format=image.file_format,
        shape=image.pixels.shape[:2] if image.channels == 1 else image.pixels.shape,
        bits=image.bits,
        minimum=float(image.pixels.min()),
        maximum=float(image.pixels.max()),
        value_range=image.value_range,
        range_origin=image.range_origin,
        spacing=image.spacing,
        orientation=image.orientation,
        warnings=warnings,
        pixels=None if file is None else str(file),
    )
