"""Sweeps: one thing is varied, all else stays (Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ddad.cohorts import Role
from ddad.detectors import DETECTORS
from ddad.errors import CohortError, SettingError
from ddad.experiments.benchmark import benchmark_recipes
from ddad.experiments.comparisons import Contender
from ddad.experiments.grid import Run
from ddad.experiments.setting import Setting
from ddad.normals import MINIMUM_NORMALS
from ddad.recipe import Recipe

Kind = Literal["anomaly-rate", "members", "normals", "latent-size"]


@dataclass(frozen=True)
class Sweep:
    """What is varied.

    Attributes:
        title: of the axis.
        values: what is taken if nothing else is said.
        methods: the same.
        field: of the recipe; none if the images are varied.
        scale: of the axis.
    """

    title: str
    values: tuple[float, ...]
    methods: tuple[str, ...]
    field: str | None = None
    scale: Literal["linear", "log"] = "linear"


SWEEPS: dict[Kind, Sweep] = {
    "anomaly-rate": Sweep(
        "anomaly rate of the unlabeled images", (0, 0.2, 0.4, 0.6, 0.8, 1), ("ddad", "normal-vs-unlabeled")
    ),
    "members": Sweep("K, networks in each ensemble", (1, 2, 3, 5, 7, 10), ("ddad",), "reconstruction.members"),
    "normals": Sweep("normal images", (10, 20, 50, 100, 200, 500, 1000), ("ddad", "normal-vs-unlabeled"), scale="log"),
    "latent-size": Sweep("length of the code", (4, 8, 16, 32, 64, 128), ("ddad",), "reconstruction.latent_size", "log"),
}


def sweep_runs(
    kind: Kind,
    setting: Setting,
    recipe: Recipe,
    *,
    values: Sequence[float] = (),
    methods: Sequence[str] = (),
    backbones: Sequence[str] = ("ae-u",),
    seeds: int = 3,
) -> list[tuple[float, Run]]:
    """List the runs of a sweep with the value of each.

    Over anomaly rates the number of unlabeled images stays the same: the largest that the lists give at every rate.
    Normal images are drawn anew for each seed; of one seed, fewer are part of more.

    Args:
        kind: what is varied.
        setting: the images.
        recipe: what all runs have in common.
        values: instead of the usual ones; of `normals`, those above the number of normal images are left out.
        methods: detectors, instead of the usual ones.
        backbones: of the method `ddad`.
        seeds: how many, counted up from the recipe's own.

    Raises:
        SettingError: a value, method or backbone cannot be used, or a method does not read what is varied.
        CohortError: the images cannot be assembled, or are fewer normal ones than the smallest usual value.
    """
    sweep = SWEEPS[kind]
    recipes = benchmark_recipes(recipe, methods or sweep.methods, backbones, seeds)
    _check_read(kind, [each.detector for each in recipes])
    chosen = list(dict.fromkeys(values or sweep.values))
    if kind == "anomaly-rate":
        rated = [replace(setting, anomaly_rate=rate) for rate in chosen]
        size = min(len(one.open()[1].of(Role.UNLABELED)) for one in rated)
        return [(one.anomaly_rate or 0.0, Run(replace(one, unlabeled=size), each)) for one in rated for each in recipes]
    counts = [_count(kind, value) for value in chosen]
    if kind == "normals":
        there = len(setting.open()[1].of(Role.NORMAL))
        if not values and min(counts) > there:
            raise CohortError(
                f"normal: {there} images are there, and the smallest usual value is {min(counts)}. Give --value, from "
                f"{MINIMUM_NORMALS} on."
            )
        return [
            (count, Run(replace(setting, normals=count, normals_seed=each.seed), each))
            for count in counts
            if values or count <= there
            for each in recipes
        ]
    assert sweep.field is not None
    return [(count, Run(setting, each.changed({sweep.field: count}))) for count in counts for each in recipes]


def _check_read(kind: Kind, methods: Sequence[str]) -> None:
    """Make sure that what is varied makes a difference to every method; normal images do to all.

    Raises:
        SettingError: it makes none.
    """
    field = SWEEPS[kind].field
    if kind == "normals":
        return
    readers = [
        name
        for name, detector in DETECTORS.items()
        if (
            Contender(name, None, "r_dual").sees_unlabeled
            if field is None
            else field.partition(".")[0] in detector.sections and field not in detector.unread
        )
    ]
    what = "see unlabeled images, whose anomaly rate" if field is None else f"read {field}, which"
    for method in methods:
        if method not in readers:
            raise SettingError(
                f"--methods {method}: it does not {what} sweep {kind} varies, and would give the same at every value. "
                f"Take {' or '.join(readers)}."
            )


def _count(kind: Kind, value: float) -> int:
    fewest = MINIMUM_NORMALS if kind == "normals" else 1
    if not float(value).is_integer() or value < fewest:
        raise SettingError(f"--value {value:g}: {kind} takes whole numbers from {fewest} on.")
    return int(value)
