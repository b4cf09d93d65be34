"""Which methods differ on the same test images: intervals and paired tests from stored runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ddad.detectors import DETECTORS
from ddad.evaluation import Interval, Resampled, delong_test, holm, paired_bootstrap
from ddad.experiments.published import BACKBONE_TITLES, METHOD_TITLES, SCORE_TITLES, backbone_title, method_title

METHODS = "methods"
"""The family of tests between the rows of Table 2; each backbone's six scores are a family of their own."""
LEVEL = 0.05
LEAST = 2
"""Fewest groups of normal and of abnormal test images that methods are compared on: of one there is no variance."""


_NOT_TESTED = dict.fromkeys(
    [f"{measure}_{what}" for measure in ("auc", "ap") for what in ("difference", "low", "high", "p")]
    + ["auc_p_bootstrap"],
    math.nan,
)


class Contender(NamedTuple):
    """One score of one method, over all seeds."""

    method: str
    backbone: str | None
    score: str

    @property
    def title(self) -> str:
        """Its name in tables."""
        title = method_title(self.method, self.backbone)
        return f"{title} {SCORE_TITLES[self.score]}" if self.method == "ddad" else title

    @property
    def sees_unlabeled(self) -> bool:
        """Whether unlabeled images have part in it."""
        if self.method == "ddad":
            return self.score in ("a_inter", "r_dual")
        return DETECTORS[self.method].sees_unlabeled

    @property
    def in_table_2(self) -> bool:
        """Whether it is a row of Table 2, which has two of DDAD's scores."""
        return self.method != "ddad" or self.score in ("r_intra", "r_dual")


def in_order(contenders: Iterable[Contender]) -> list[Contender]:
    """Sort contenders as tables have them: rivals in the order of Table 2, then DDAD by backbone and score."""
    rivals = [Contender(method, None, "image") for method in METHOD_TITLES if method != "ddad"]
    own = [Contender("ddad", backbone, score) for backbone in BACKBONE_TITLES for score in SCORE_TITLES]
    there = set(contenders)
    return [contender for contender in (*rivals, *own) if contender in there]


class Scores(NamedTuple):
    """What all contenders say of the same test images.

    Attributes:
        labels: (N,), 0 normal, 1 abnormal.
        by_contender: (seeds, N) scores.
        seeds: of each contender, in the order of its scores.
        left_out: runs that scored other images, in words; they cannot be compared.
        groups: (N,), numbers of the images' groups (patients); None where each image is a group of its own.
    """

    labels: list[int]
    by_contender: dict[Contender, NDArray[np.float64]]
    seeds: dict[Contender, list[int]]
    left_out: list[str]
    groups: list[int] | None = None

    def independent(self) -> tuple[int, int]:
        """Count what is independent, groups or else images, of normal and of abnormal images."""
        groups = range(len(self.labels)) if self.groups is None else self.groups
        of_label = [{group for group, own in zip(groups, self.labels, strict=True) if own == label} for label in (0, 1)]
        return len(of_label[0]), len(of_label[1])

    def shared_seeds(self, first: Contender, second: Contender) -> list[int]:
        """Return the seeds that two contenders have in common."""
        return [seed for seed in self.seeds[first] if seed in self.seeds[second]]

    def fits(self, one: Contender, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Return a contender's scores by some of its seeds, (seeds, N)."""
        return self.by_contender[one][[self.seeds[one].index(seed) for seed in seeds]]


def pooled_scores(records: Sequence[dict[str, Any]]) -> Scores:
    """Collect the scores of stored runs, as far as they are of the same images, in the same order, as the first run's.

    What gives every image the same score is left out.
    """
    first = records[0]
    # Records of earlier versions do not say in what order their images were.
    tested = next((record["tested"] for record in records if "tested" in record), None)
    fits: dict[Contender, list[list[float]]] = defaultdict(list)
    seeds: dict[Contender, list[int]] = defaultdict(list)
    left_out, groups = [], None
    for record in records:
        cell = record["cells"][0]
        own = record["cohort"], record["labels"], record.get("tested", tested)
        if own != (first["cohort"], first["labels"], first.get("tested", tested)):
            left_out.append(f"{METHOD_TITLES.get(cell['method'], cell['method'])}, seed {cell['seed']}")
            continue
        # Only records of images that share groups have them, and those of earlier versions never.
        groups = groups or record.get("groups")
        for score, values in record["scores"].items():
            one = Contender(cell["method"], cell["backbone"], score)
            fits[one].append(values)
            seeds[one].append(cell["seed"])
    pooled = {one: np.array(fits[one]) for one in in_order(fits)}
    varied = {one: values for one, values in pooled.items() if np.ptp(values, axis=1).any()}
    return Scores(first["labels"], varied, dict(seeds), left_out, groups)


def resampled(scores: Scores) -> dict[Contender, dict[str, Resampled]]:
    """Measure every contender on the same bootstrap resamples of the test images' groups."""
    return paired_bootstrap(scores.labels, scores.by_contender, scores.groups)


def comparisons(scores: Scores, measures: dict[Contender, dict[str, Resampled]]) -> pd.DataFrame:
    """Test all pairs of each family by the seeds that both have, with Holm's correction over the pairs of a family.

    Returns:
        A row for each pair, measures in percent: AUC by DeLong's test (`auc_p`, corrected `auc_p_holm`) and by the
        bootstrap (`auc_p_bootstrap`, interval `auc_low` to `auc_high`), average precision by the bootstrap; and
        whether each difference is significant at 5 % after correction; one without a p-value, because it does not
        vary or no seed is shared, is not. No row with fewer than `LEAST` groups of normal or of abnormal images.
    """
    if min(scores.independent()) < LEAST:
        return pd.DataFrame()
    families: dict[str, list[Contender]] = defaultdict(list, {METHODS: []})
    for one in scores.by_contender:
        if one.in_table_2:
            families[METHODS].append(one)
        if one.method == "ddad":
            families[f"scores of {backbone_title(one.backbone)}"].append(one)
    tables = [
        compared(name, contenders, scores, measures) for name, contenders in families.items() if len(contenders) > 1
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def compared(
    name: str, contenders: Sequence[Contender], scores: Scores, measures: dict[Contender, dict[str, Resampled]]
) -> pd.DataFrame:
    """Test all pairs of one family, as `comparisons` does; of what names its members by their titles, call it METHODS.

    Args:
        name: of the family.
        contenders: its members, two or more.
        scores: at least `LEAST` groups of normal and of abnormal images.
        measures: from `resampled`.
    """
    by_seeds = {(one, tuple(scores.seeds[one])): measures[one] for one in contenders}

    def measured(one: Contender, seeds: Sequence[int]) -> dict[str, Resampled]:
        if (one, tuple(seeds)) not in by_seeds:
            some = paired_bootstrap(scores.labels, {one: scores.fits(one, seeds)}, scores.groups)
            by_seeds[one, tuple(seeds)] = some[one]
        return by_seeds[one, tuple(seeds)]

    rows = []
    for first, second in combinations(contenders, 2):
        # A mean over more fits is not what the other would have with as many.
        seeds = scores.shared_seeds(first, second)
        row = {"family": name, "first": _name(first, name), "second": _name(second, name), "seeds": len(seeds)}
        rows.append(row | (_tested(scores, first, second, seeds, measured) if seeds else _NOT_TESTED))
    table = pd.DataFrame(rows)
    for measure in ("auc", "ap"):
        table[f"{measure}_p_holm"] = holm(table[f"{measure}_p"].to_numpy())
        table[f"{measure}_significant"] = table[f"{measure}_p_holm"] < LEVEL
    return table


def _tested(
    scores: Scores,
    first: Contender,
    second: Contender,
    seeds: Sequence[int],
    measured: Callable[[Contender, Sequence[int]], dict[str, Resampled]],
) -> dict[str, float]:
    exact = delong_test(scores.labels, scores.fits(first, seeds), scores.fits(second, seeds), scores.groups)
    own, other = measured(first, seeds), measured(second, seeds)
    auc, auc_interval = own["auc"].against(other["auc"])
    ap, ap_interval = own["ap"].against(other["ap"])
    return {
        **_percent("auc", auc_interval),
        "auc_p": exact.p_value,
        "auc_p_bootstrap": auc.p_value,
        **_percent("ap", ap_interval),
        "ap_p": ap.p_value,
    }


def not_told_apart(name: str, pairs: pd.DataFrame) -> list[str]:
    """List the contenders whose AUC does not differ significantly from that of one, by the tests of a family."""
    own = pairs[((pairs["first"] == name) | (pairs["second"] == name)) & ~pairs["auc_significant"].astype(bool)]
    return [second if first == name else first for first, second in zip(own["first"], own["second"], strict=True)]


def _name(contender: Contender, family: str) -> str:
    return contender.title if family == METHODS else SCORE_TITLES[contender.score]


def _percent(measure: str, interval: Interval) -> dict[str, float]:
    return {
        f"{measure}_difference": round(100 * interval.estimate, 2),
        f"{measure}_low": round(100 * interval.low, 2),
        f"{measure}_high": round(100 * interval.high, 2),
    }
