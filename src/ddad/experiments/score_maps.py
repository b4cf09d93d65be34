"""Images with their score maps, alone and laid over the image (Fig. 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from ddad.cohorts import Cohort, Role, SkippedImage, read_mask
from ddad.errors import CohortError, ImageError
from ddad.experiments import drawing
from ddad.experiments.published import SCORE_TITLES
from ddad.images import normalise, read_image
from ddad.model import Finding, Model
from ddad.training.device import DeviceName

_MAPS = ("rec", "a_intra", "a_inter", "r_dual")  # those of Fig. 7; the main score is drawn, too
_ROW_INCHES = 1.2
_MOST_IMAGES = 4
"""In one figure, so that it fits on a page of A4."""


@dataclass(frozen=True)
class Shown:
    """One image of the figure.

    Attributes:
        picture: (H, W, C) in [0, 1], with the channels and intensities that the network saw.
        finding: with its maps.
        mask: (H, W), true where abnormal, or None.
        label: 0 normal, 1 abnormal.
    """

    picture: NDArray[np.float32]
    finding: Finding
    mask: NDArray[np.bool_] | None
    label: int


def images_to_draw(cohort: Cohort, count: int) -> dict[int, int]:
    """Say how many test images of each label are drawn, abnormal ones first.

    There are three for each normal one, and one normal one at least where there are any and two images are drawn.

    Raises:
        CohortError: there are not so many test images.
    """
    there = {label: len(cohort.paths(Role.TEST, label)) for label in (1, 0)}
    wanted = _shares(count, there[0])
    if any(wanted[label] > there[label] for label in wanted):
        fits = (n for n in range(1, count) if all(_shares(n, there[0])[label] <= there[label] for label in there))
        most = max(fits, default=0)
        raise CohortError(
            f"--images {count}: takes {wanted[1]} abnormal and {wanted[0]} normal test images, and there are "
            f"{there[1]} and {there[0]}. {f'Give {most} or fewer.' if most else 'Give abnormal test images.'}"
        )
    return wanted


def _shares(count: int, normal_there: int) -> dict[int, int]:
    normal = max(count // 4, min(1, count - 1, normal_there))
    return {1: count - normal, 0: normal}


def write_score_maps(
    model: Model,
    cohort: Cohort,
    out: Path,
    *,
    count: int = 4,
    seed: int = 0,
    device: DeviceName = "auto",
    on_skipped: Callable[[SkippedImage], None],
) -> list[Path]:
    """Score some test images, drawn by chance, and write the figure `score-maps` of them, or several.

    In place of an image that cannot be read, or whose mask cannot, another one is drawn, as long as there are any.

    Args:
        model: with the scales of its maps.
        cohort: with labelled test images, and masks if there are any.
        out: folder for the figure.
        count: how many images.
        seed: draws them.
        device: `auto`, `cpu` or `cuda`.
        on_skipped: told of each image that could not be drawn.

    Raises:
        CohortError: there are too few test images, or none can be used.
    """
    shown: list[Shown] = []
    for label, number in images_to_draw(cohort, count).items():
        shown += _usable(model, cohort, label, number, seed, device, on_skipped)
    if not shown:
        raise CohortError(f"{cohort.name}: none of the test images can be used. ddad inspect says what is wrong.")
    names = [name for name in (*_MAPS, model.detector.primary_score) if name in shown[0].finding.maps]
    names = list(dict.fromkeys(names)) or list(shown[0].finding.maps)
    scales = {name: model.map_scale(name) for name in names}
    count = -(-len(shown) // _MOST_IMAGES)
    written = []
    with drawing.style():
        for number, places in enumerate(np.array_split(range(len(shown)), count), start=1):
            stem = "score-maps" if count == 1 else f"score-maps-{number}"
            written += drawing.save(draw_score_maps([shown[place] for place in places], scales), out, stem)
    return written


def _usable(
    model: Model,
    cohort: Cohort,
    label: int,
    number: int,
    seed: int,
    device: DeviceName,
    on_skipped: Callable[[SkippedImage], None],
) -> list[Shown]:
    """Score test images of a label in an order drawn by the seed, until so many can be shown or none are left."""
    there = cohort.of(Role.TEST, label)
    mask_of = dict(zip(there["path"], there["mask"], strict=True))
    left = [Path(there["path"].iloc[index]) for index in np.random.default_rng([seed, label]).permutation(len(there))]
    shown: list[Shown] = []
    while left and len(shown) < number:
        taken, left = left[: number - len(shown)], left[number - len(shown) :]
        for finding in model.score_listed(taken, device=device, on_skipped=on_skipped):
            try:
                shown.append(_shown(finding, mask_of[finding.path], label))
            except ImageError as error:
                on_skipped(SkippedImage(Path(finding.path), error.reason))
    return shown


def _shown(finding: Finding, mask: str | float | None, label: int) -> Shown:
    """Read an image and its mask, if it has one.

    Raises:
        ImageError: one of them cannot be read, or the mask is of another shape.
    """
    try:
        marked = None if pd.isna(mask) else read_mask(str(mask), finding.source_size)
    except ImageError as error:
        raise ImageError(finding.path, f"its mask {error}") from error
    return Shown(normalise(read_image(finding.path), finding.preprocessing), finding, marked, label)


def draw_score_maps(shown: Sequence[Shown], scales: dict[str, tuple[float, float]]) -> Figure:
    """Draw two rows for each image: the maps, and the maps over the image. Each column has one scale for all images.

    Args:
        shown: the images.
        scales: by map, the values at the dark and at the bright end.
    """
    rows, columns = 2 * len(shown), 1 + len(scales)
    figure = Figure(figsize=(drawing.PAGE_INCHES * columns / 5, _ROW_INCHES * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    grid[0, 0].set_title("image")
    for column, (name, (low, high)) in enumerate(scales.items(), start=1):
        grid[0, column].set_title(SCORE_TITLES.get(name, "map"))
        for number, one in enumerate(shown):
            above, below = grid[2 * number, column], grid[2 * number + 1, column]
            # What a crop leaves out has no map: it is drawn as the dark end.
            score_map = one.finding.placement.to_source(one.finding.maps[name], fill=low)
            extent = _extent(one)
            draw = partial(
                Axes.imshow,
                X=score_map,
                cmap=drawing.HEAT_COLOURS,
                vmin=low,
                vmax=high,
                extent=extent,
                interpolation="bilinear",
            )
            drawn = draw(above)
            below.imshow(_colours(one.picture), extent=extent)
            opacity = drawing.STRONGEST_OVERLAY * drawing.relative_to_scale(score_map, (low, high))
            below.imshow(
                score_map,
                drawing.HEAT_COLOURS,
                vmin=low,
                vmax=high,
                extent=extent,
                alpha=opacity,
                interpolation="bilinear",
            )
            _outline(above, one)
            _outline(below, one)
        bar = figure.colorbar(drawn, ax=list(grid[:, column]), location="bottom", shrink=0.85, aspect=14, pad=0.01)
        bar.set_ticks([low, high], labels=[f"{low:.2g}", f"{high:.2g}"])
        bar.outline.set_visible(False)
    for number, one in enumerate(shown):
        top, bottom = grid[2 * number, 0], grid[2 * number + 1, 0]
        top.imshow(_colours(one.picture), extent=_extent(one))
        top.set_ylabel("abnormal" if one.label else "normal")
        _outline(top, one)
        bottom.set_visible(False)
    return figure


def _colours(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _extent(one: Shown) -> tuple[float, float, float, float]:
    rows, columns = one.finding.source_size
    return 0, columns, rows, 0


def _outline(axes: Axes, one: Shown) -> None:
    """Draw the border of the mask: a white line on a black one is seen on every colour."""
    if one.mask is None or not one.mask.any():
        return
    rows, columns = np.mgrid[: one.mask.shape[0], : one.mask.shape[1]] + 0.5
    lines = axes.contour(columns, rows, one.mask.astype(float), [0.5], colors="white", linewidths=0.8)
    lines.set_path_effects([Stroke(linewidth=1.8, foreground="black"), Normal()])
