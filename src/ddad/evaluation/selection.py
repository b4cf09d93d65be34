"""Judge detectors without a label: held-out normal images against held-out unlabeled ones.

Of the unlabeled images, a share ρ is normal. A detector cannot tell these from the held-out normals, so that the AUC of
the two sets is AUC' = (1 - ρ)·AUC + ρ/2: it rises and falls with the true AUC, and ranks detectors as that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ddad.errors import SettingError
from ddad.evaluation.delong import PairedTest, delong_interval, delong_test
from ddad.evaluation.intervals import Interval
from ddad.evaluation.resampling import group_numbers

SIGNIFICANCE = 0.05
"""How often, at most, noise alone may take the default away, over all comparisons with it."""

RULE = "the default unless the best is significantly ahead"
"""The rule by which `choose` decides."""


@dataclass(frozen=True)
class Judged:
    """What the guide says of one candidate.

    Attributes:
        name: of the candidate.
        guide: AUC' in [0, 1] with its 95 % interval (DeLong).
        ahead: how far it is ahead of the default; 0 for the default itself.
    """

    name: str
    guide: Interval
    ahead: PairedTest


@dataclass(frozen=True)
class Choice:
    """Which candidate is taken.

    Attributes:
        chosen: its name.
        best: name of the one with the highest guide.
        judged: every candidate, the default first.
    """

    chosen: str
    best: str
    judged: tuple[Judged, ...]


def choose(
    is_unlabeled: npt.ArrayLike, scores: Mapping[str, npt.ArrayLike], groups: npt.ArrayLike | None = None
) -> Choice:
    """Take the default, unless the best candidate is significantly ahead of it; then the best.

    DeLong's test compares scores of the same images; it is one-sided, and by Student's t, for a few patients say less
    of how scores vary than a normal distribution supposes. The best of several is ahead by luck more often than one
    would be, so that Bonferroni's correction divides the significance by the number of comparisons. The rule of one
    standard error (Breiman et al. 1984) would not do: with seven candidates, noise puts one of them so far ahead
    nearly every other time.

    Args:
        is_unlabeled: (N,) of each held-out image, 0 known to be normal, 1 unlabeled.
        scores: by candidate, (N,), higher for more unusual; the default comes first.
        groups: (N,), of each image, such as the patient; None where each image is a group of its own.

    Raises:
        CohortError: there are fewer than two held-out images of a side, or not one score an image.
        SettingError: there is no candidate.
    """
    if not scores:
        raise SettingError("selection: there is no candidate to choose from. Name at least one.")
    guides = {name: delong_interval(is_unlabeled, values, groups) for name, values in scores.items()}
    best = max(guides, key=lambda name: guides[name].estimate)  # the first of several
    default = next(iter(scores))
    ahead = {name: delong_test(is_unlabeled, values, scores[default], groups) for name, values in scores.items()}
    level = SIGNIFICANCE / max(1, len(scores) - 1)
    is_ahead = best != default and _p_value(ahead[best], is_unlabeled, groups) <= level
    chosen = best if is_ahead else default
    return Choice(chosen, best, tuple(Judged(name, guides[name], ahead[name]) for name in scores))


def _p_value(ahead: PairedTest, is_unlabeled: npt.ArrayLike, groups: npt.ArrayLike | None) -> float:
    """Return the one-sided p-value of a lead, by the groups of the side that has fewer.

    A lead that does not vary, as that of a perfect score over a constant one, has no standard error: then it is that of
    a sign test, in which each of these groups speaks for it.
    """
    sides = np.asarray(is_unlabeled).astype(bool)
    members = group_numbers(groups, len(sides))
    fewest = min(len(np.unique(members[side])) for side in (sides, ~sides))
    if ahead.standard_error == 0:
        return 0.5**fewest if ahead.difference > 0 else 1.0
    return float(stats.t.sf(ahead.difference / ahead.standard_error, fewest - 1))
