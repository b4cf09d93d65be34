"""How well trivial features, and the distance to the nearest training normal, tell two groups of images apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

from ddad.audit.look import CATEGORIES, NUMBERS, THUMBNAIL, Look
from ddad.cohorts.near_copies import Indices
from ddad.evaluation.delong import delong_interval
from ddad.evaluation.intervals import Interval
from ddad.progress import Progress, Task, listener
from ddad.wording import whole_percent

SHORTCUT_AUC = 0.7
"""A feature is a strong shortcut if the lower end of its AUC's interval reaches this."""

APART = 0.1
"""Share of a group that a feature must set apart from all of the other to be noted."""

COMPARED = (("normal", "unlabeled"), ("normal", "abnormal"), ("test normal", "test abnormal"))
"""Parts of a cohort that are compared."""

JOINT = "all of them"
"""The name of all features together."""

_FOLDS = 5
_FEWEST = 10
_SIDE = 32
_CHANCE = 0.001


@dataclass(frozen=True)
class Shortcut:
    """How well one feature separates two groups.

    Attributes:
        comparison: the two groups, one of `COMPARED`, such as `normal against unlabeled`.
        feature: its name, or `all of them`.
        auc: at least 0.5, but for features of words and `all of them`, which are cross-validated.
        low: lower end of the 95 % interval: DeLong's, between groups of images that belong together.
        high: upper end.
        higher_in: the group where the feature is larger; empty for features of words and `all of them`.
        apart: share of a group that has a word, or values beyond all values, that no image of the other has; 0 where
            that is less than `APART`, or may be by chance. However few images it is, they give themselves away.
        apart_in: that group; empty if there is none.
        without: images of the two groups that lack the feature, and are not in its AUC.
    """

    comparison: str
    feature: str
    auc: float
    low: float
    high: float
    higher_in: str
    apart: float = 0.0
    apart_in: str = ""
    without: int = 0

    @property
    def strong(self) -> bool:
        """Whether the feature alone would pass for a detector."""
        return self.low >= SHORTCUT_AUC

    @property
    def weak(self) -> bool:
        """Whether it separates better than chance, and is not strong."""
        return 0.5 < self.low < SHORTCUT_AUC

    @property
    def note(self) -> str:
        """What a user is told of it, in a few words; empty if there is nothing to tell."""
        level = "strong" if self.strong else "weak" if self.weak else ""
        told = f"{whole_percent(self.apart)} of {self.apart_in} set apart" if self.apart else ""
        lack = f"{self.without} without" if self.without else ""
        return ", ".join(filter(None, (level, told, lack)))

    def to_json(self) -> dict[str, Any]:
        """Return all, the interval as a list."""
        return {
            "comparison": self.comparison,
            "feature": self.feature,
            "auc": self.auc,
            "interval": [self.low, self.high],
            "higher_in": self.higher_in,
            "strong": self.strong,
            "weak": self.weak,
            "apart": self.apart,
            "apart_in": self.apart_in,
            "without": self.without,
        }


@dataclass(frozen=True)
class Memorisation:
    """What a detector would reach that does nothing but remember the training normals.

    Attributes:
        everything: AUC of the distance to the nearest of them, over all test images.
        without_copies: over those that have no near copy among them; None if too few are left.
    """

    everything: Interval
    without_copies: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return AUC and interval of both."""
        found = {"all": self.everything, "without_copies": self.without_copies}
        return {
            name: None if value is None else {"auc": value.estimate, "interval": [value.low, value.high]}
            for name, value in found.items()
        }


def find_shortcuts(
    looks: Sequence[Look], parts: Sequence[str], groups: Indices, progress: Progress | None = None
) -> list[Shortcut]:
    """Measure each feature, and all together, on each comparison with at least 10 groups of images a side.

    Args:
        looks: of the images.
        parts: (N,) the part of each.
        groups: (N,) images that belong together, which cross-validation does not separate, and intervals count once.
        progress: told of every feature.
    """
    table = pd.DataFrame([look.features for look in looks])
    names = np.asarray(parts, dtype=str)
    # Images that are all copies of a few say nothing that could be validated.
    measurable = [
        sides for sides in COMPARED if min(len(np.unique(groups[names == side])) for side in sides) >= _FEWEST
    ]
    steps = len(measurable) * (len(NUMBERS) + len(CATEGORIES) + 1)
    found = []
    # On so few numbers, threads wait for one another far longer than they compute.
    with threadpool_limits(1, "openmp"), listener(progress).task("measuring shortcuts", steps) as task:
        for first, second in measurable:
            chosen = np.isin(names, (first, second))
            labels = (names[chosen] == second).astype(int)
            found += _measured(table[chosen].reset_index(drop=True), labels, groups[chosen], (first, second), task)
    return found


def measure_memorisation(
    looks: Sequence[Look], parts: Sequence[str], groups: Indices, copied: Indices
) -> Memorisation | None:
    """Measure the distance to the nearest training normal as a score; None without enough test images.

    Enough are 10 images of both labels, each of at least two groups.

    Thumbnails of 32x32 pixels are compared, with their own brightness and contrast.

    Args:
        looks: of the images.
        parts: (N,) the part of each.
        groups: (N,) images that belong together, which intervals count once.
        copied: indices of test images that have a near copy among the training normals.
    """
    names = np.asarray(parts, dtype=str)
    training = np.flatnonzero(names == "normal")
    tested = np.flatnonzero(np.isin(names, ("test normal", "test abnormal")))
    labels = (names[tested] == "test abnormal").astype(int)
    if len(training) == 0 or not _enough(labels, groups[tested]):
        return None
    cell = THUMBNAIL // _SIDE
    levels = np.array([look.levels for look in looks], np.float32)[:, :, None, None]
    pictures = levels[:, 0] + (levels[:, 1] - levels[:, 0]) * np.stack([look.whole for look in looks]) / np.float32(255)
    flat = pictures.reshape(len(looks), _SIDE, cell, _SIDE, cell).mean(axis=(2, 4)).reshape(len(looks), -1)
    distances = _nearest(flat[tested], flat[training])
    everything = delong_interval(labels, distances, groups[tested])
    fresh = ~np.isin(tested, copied)
    left, together = labels[fresh], groups[tested][fresh]
    return Memorisation(
        everything, delong_interval(left, distances[fresh], together) if _enough(left, together) else None
    )


def _enough(labels: Indices, groups: Indices) -> bool:
    sides = [groups[labels == label] for label in (0, 1)]
    return min(len(side) for side in sides) >= _FEWEST and min(len(np.unique(side)) for side in sides) >= 2


def _nearest(images: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = (others**2).sum(axis=1)
    nearest = np.empty(len(images))
    for start in range(0, len(images), 1024):
        block = images[start : start + 1024]
        squares = (block**2).sum(axis=1)[:, None] + lengths - 2 * block @ others.T
        nearest[start : start + 1024] = squares.min(axis=1)
    return nearest


def _measured(
    table: pd.DataFrame, labels: Indices, groups: Indices, sides: tuple[str, str], task: Task
) -> list[Shortcut]:
    first, second = sides
    comparison = f"{first} against {second}"

    def shortcut(
        feature: str, interval: Interval, values: NDArray[Any], higher_in: str = "", without: int = 0
    ) -> Shortcut:
        apart, side = _set_apart(values, labels, groups, words=feature in CATEGORIES)
        auc, low, high = interval.estimate, interval.low, interval.high
        return Shortcut(comparison, feature, auc, low, high, higher_in, apart, sides[side] if apart else "", without)

    found = []
    for feature in (*NUMBERS, *CATEGORIES):
        task.advance(note=feature)
        values = table[feature]
        if feature.startswith("DICOM") and (values.isna() | values.isin(["", 0.0])).all():
            continue
        there = values.notna().to_numpy()
        if min(len(np.unique(groups[there & (labels == side)])) for side in (0, 1)) < _FEWEST:
            continue  # that a day is given is a feature of its own
        higher_in = ""
        if values[there].nunique() < 2:
            interval = Interval(0.5, 0.5, 0.5)
        elif feature in CATEGORIES:
            words = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
            interval = delong_interval(labels, _cross_validated(words, values.to_frame(), labels, groups), groups)
        else:
            interval = delong_interval(labels[there], values[there].to_numpy(float), groups[there])
            higher_in = second if interval.estimate >= 0.5 else first
            if interval.estimate < 0.5:
                interval = Interval(1 - interval.estimate, 1 - interval.high, 1 - interval.low)
        found.append(shortcut(feature, interval, values.to_numpy(), higher_in, int((~there).sum())))
    found.sort(key=lambda shortcut: -shortcut.auc)
    task.advance(note=JOINT)
    columns = table.loc[:, table.nunique() > 1].copy()
    if columns.empty:
        return found
    for feature in columns.columns.intersection(list(CATEGORIES)):
        columns[feature] = pd.factorize(columns[feature])[0]
    # A leaf of the usual 20 images would leave few images undivided.
    leaf = int(np.clip(len(columns) // 20, 2, 20))
    small = HistGradientBoostingClassifier(max_depth=3, max_iter=100, min_samples_leaf=leaf, random_state=0)
    scores = _cross_validated(small, columns.astype(float), labels, groups)
    return [shortcut(JOINT, delong_interval(labels, scores, groups), scores), *found]


def _set_apart(values: NDArray[Any], labels: Indices, groups: Indices, *, words: bool) -> tuple[float, int]:
    """Return the largest share of a side, and which, whose values (N,) give it away.

    Numbers do beyond all numbers of the other side, words where the other side has none of them; but not so few groups
    that it may be by chance.
    """
    best = 0.0, 0
    for side in (0, 1):
        own, other = labels == side, labels != side
        if words:
            alone = [values == word for word in np.setdiff1d(values[own], values[other])]
        elif np.isnan(values[other]).all():
            alone = []
        else:
            alone = [values > np.nanmax(values[other]), values < np.nanmin(values[other])]
        expected = len(np.unique(groups[own])) / len(np.unique(groups))
        # Drawn by chance, so many groups would seldom all be of this side.
        shares = [mask[own].mean() for mask in alone if expected ** len(np.unique(groups[own & mask])) < _CHANCE]
        # Of numbers, the high end or the low one; of words, all together.
        share = float(sum(shares)) if words else float(max(shares, default=0.0))
        best = max(best, (share, side))
    return best if best[0] >= APART else (0.0, 0)


def _cross_validated(model: Any, columns: pd.DataFrame, labels: Indices, groups: Indices) -> NDArray[np.float64]:
    """Return the scores of a classifier of images that it has not seen, nor copies of them."""
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    scores: NDArray[np.float64] = cross_val_predict(
        model, columns, labels, groups=groups, cv=folds, method="decision_function"
    )
    return scores
