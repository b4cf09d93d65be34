"""Judge detectors without a label: held-out normal images against held-out unlabeled ones.

Of the unlabeled images, a share ρ is normal. A detector cannot tell these from the held-out normals, so that the AUC of
the two sets is AUC' = (1 - ρ)·AUC + ρ/2: it rises and falls with the true AUC, and ranks detectors as that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy.typing as npt

from ddad.errors import SettingError
from ddad.evaluation.delong import PairedTest, delong_interval, delong_test
from ddad.evaluation.intervals import Interval

RULE = "one standard error"
"""The name of the rule by which `choose` decides."""


@dataclass(frozen=True)
class Judged:
    """What the guide says of one candidate.

    Attributes:
        name: of the candidate.
        guide: AUC' in [0, 1] with its 95 % interval (DeLong).
        behind: how far the best candidate is ahead; 0 for the best itself.
    """

    name: str
    guide: Interval
    behind: PairedTest


@dataclass(frozen=True)
class Choice:
    """Which candidate is taken.

    Attributes:
        chosen: its name.
        best: name of the one with the highest guide.
        judged: every candidate, in the order of preference.
    """

    chosen: str
    best: str
    judged: tuple[Judged, ...]


def choose(
    is_unlabeled: npt.ArrayLike, scores: Mapping[str, npt.ArrayLike], groups: npt.ArrayLike | None = None
) -> Choice:
    """Take the most preferred candidate that is not clearly worse than the best.

    The rule of one standard error (Breiman et al. 1984): a candidate is not clearly worse if the best is ahead of it by
    no more than one standard error of their difference, which DeLong's test gives for scores of the same images. So
    a tie goes to the default, and noise does not buy complexity.

    Args:
        is_unlabeled: (N,) of each held-out image, 0 known to be normal, 1 unlabeled.
        scores: by candidate, (N,), higher for more unusual; the most preferred, the default, comes first.
        groups: (N,), of each image, such as the patient; None where each image is a group of its own.

    Raises:
        CohortError: there are fewer than two held-out images of a side, or not one score an image.
        SettingError: there is no candidate.
    """
    if not scores:
        raise SettingError("selection: there is no candidate to choose from. Name at least one.")
    guides = {name: delong_interval(is_unlabeled, values, groups) for name, values in scores.items()}
    best = max(guides, key=lambda name: guides[name].estimate)  # the first of several
    behind = {name: delong_test(is_unlabeled, scores[best], scores[name], groups) for name in scores}
    chosen = next(name for name in scores if behind[name].difference <= behind[name].standard_error)
    return Choice(chosen, best, tuple(Judged(name, guides[name], behind[name]) for name in scores))
