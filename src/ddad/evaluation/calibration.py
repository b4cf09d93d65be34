"""Conformal p-values: how a score compares with those of normal images that the detector has not seen.

If a new normal image and the held-out normals are exchangeable, its p-value is at most α with probability at most α,
for any detector and any number of held-out normals (Vovk et al. 2005; Bates et al. 2023). Images of one patient, or
copies of one another, are not exchangeable with those of another; so whole groups are compared (hierarchical conformal
prediction, Lee, Barber and Willett 2023), and each group counts once:

    p = (1 + Σ over groups of the share of the group's images that score as high) / (number of groups + 1)

which is (1 + #{calibration >= s}) / (n + 1) where each image is a group of its own.
"""

from __future__ import annotations

import json
import math
import reprlib
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from scipy.stats import beta, false_discovery_control

from ddad.errors import CalibrationError, SettingError
from ddad.files import write_atomically
from ddad.wording import counted, percent

FALSE_ALARM_RATE = 0.05
"""The false-alarm rate that is promised unless another is asked for."""

NOT_CALIBRATED = (
    "this model is not calibrated: it has no scores of known normals that it was not fitted on. Calibrate it with such "
    "images: ddad calibrate MODEL --normal DIR."
)
"""Why a model gives neither p-values nor flags."""

_FORMAT = "ddad-calibration"
_FORMAT_VERSION = 1


class Calibration(BaseModel):
    """Scores of normal images that a detector has not seen, and the rate of false alarms that is promised by them.

    Attributes:
        of: whose scores they are, in words.
        score: name of the score.
        false_alarm_rate: images with a p-value up to this are flagged.
        threshold: set by hand: images with a score above it are flagged instead, and nothing is promised.
        groups: the scores of each group (patient, copies), one tuple a group.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    of: str
    score: str
    false_alarm_rate: float = Field(FALSE_ALARM_RATE, gt=0, lt=1)
    threshold: float | None = None
    groups: tuple[tuple[float, ...], ...] = Field(min_length=1)

    @field_validator("false_alarm_rate", "threshold", mode="before")
    @classmethod
    def _no_yes_or_no(cls, value: object) -> object:
        if isinstance(value, (bool, str)):
            raise ValueError("is no number")
        return value

    @field_validator("groups")
    @classmethod
    def _not_empty(cls, groups: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        empty = next((place for place, group in enumerate(groups) if not group), None)
        if empty is not None:
            raise ValueError(f"group {empty}, counted from 0, has no score")
        return groups

    @classmethod
    def from_scores(
        cls, scores: npt.ArrayLike, groups: npt.ArrayLike, *, of: str, score: str, false_alarm_rate: float | None = None
    ) -> Self:
        """Calibrate by the scores (N,) of normal images that the detector has not seen, and the group of each.

        Raises:
            CalibrationError: there is no score, or one is not finite.
            SettingError: the rate is not between 0 and 1.
        """
        values, names = np.asarray(scores, dtype=float), np.asarray(groups, dtype=str)
        if not len(values) or not np.isfinite(values).all():
            raise CalibrationError(
                f"calibration: {score} of {len(values)} normal images; finite scores are needed. Try "
                "--precision fp32; if that does not help, fit the model anew with a lower learning rate."
            )
        _, member, sizes = np.unique(names, return_inverse=True, return_counts=True)
        ascending = values[np.lexsort((values, member))]
        by_group = tuple(tuple(group.tolist()) for group in np.split(ascending, np.cumsum(sizes)[:-1]))
        rate = FALSE_ALARM_RATE if false_alarm_rate is None else false_alarm_rate
        return cls(of=of, score=score, groups=by_group).at(rate)

    @property
    def images(self) -> int:
        """How many normal images the scores are of."""
        return sum(len(group) for group in self.groups)

    @property
    def lowest_p_value(self) -> float:
        """The p-value of an image that scores above all normal ones: no rate below it can flag anything."""
        return 1 / (len(self.groups) + 1)

    @property
    def flagged_above(self) -> float | None:
        """The score above which an image is flagged; None where no score is high enough."""
        if self.threshold is not None:
            return self.threshold
        values, weights = self._from_above
        too_common = np.flatnonzero(self._p_value(weights) > self.false_alarm_rate)
        if self.lowest_p_value > self.false_alarm_rate:
            return None
        # The rate is below 1, so the lowest normal score has too large a p-value.
        return float(values[too_common[-1]])

    @property
    def rate_of_one_in_twenty(self) -> float:
        """The false-alarm rate that one calibration of twenty, by so many groups, is above.

        The promise is of the mean over calibrations; that of one is distributed as Beta(k, n + 1 - k), where n groups
        have one image each and k = ⌊rate (n + 1)⌋ (Vovk 2012). Of groups with several images it is roughly that.
        0 where no score is high enough to be flagged.
        """
        count = len(self.groups)
        flagged = min(count, math.floor(round(self.false_alarm_rate * (count + 1), 9)))
        return float(beta.ppf(0.95, flagged, count + 1 - flagged)) if flagged else 0.0

    def p_value(self, score: float) -> float:
        """Return the share of normal images, the new one included, that score as high; each group counts once.

        Raises:
            CalibrationError: the score is no number.
        """
        if math.isnan(score):
            raise CalibrationError("p-value: the score is no number (NaN). Look at the image that has it.")
        values, weights = self._from_above
        place = int(np.searchsorted(values, score, side="left"))
        return float(self._p_value(weights[place] if place < len(values) else np.float64(0)))

    def flags(self, score: float) -> bool:
        """Tell whether an image with this score is flagged.

        Raises:
            CalibrationError: the score is no number.
        """
        if self.threshold is not None and not math.isnan(score):
            return score > self.threshold
        return self.p_value(score) <= self.false_alarm_rate

    def at(self, false_alarm_rate: float) -> Self:
        """Return the same scores with another promise, without a threshold set by hand.

        Raises:
            SettingError: the rate is not between 0 and 1.
        """
        check_rate(false_alarm_rate)
        return self.model_copy(update={"false_alarm_rate": false_alarm_rate, "threshold": None})

    def promise(self) -> str:
        """Say in a sentence who is flagged, and what is promised."""
        groups, images = counted(len(self.groups), "group"), counted(self.images, "image")
        basis = f"{groups} of normals ({images}: {self.of})"
        above, named = self.flagged_above, "a score" if self.score == "image" else self.score
        if self.threshold is not None:
            return (
                f"Flagged is {named} above {self.threshold:.4g}, a threshold set by hand. Nothing is promised; of "
                f"{basis}, {percent(self._share_above(self.threshold))} score as high."
            )
        rate = percent(self.false_alarm_rate)
        if above is None:
            verb = "is" if len(self.groups) == 1 else "are"
            return f"Nothing can be flagged: at a false-alarm rate of {rate} {basis} {verb} too few."
        return (
            f"Flagged is {named} above {above:.4g}. False-alarm rate: at most {rate}, by {basis}; in one "
            f"calibration of twenty, above about {percent(self.rate_of_one_in_twenty, digits=2)}."
        )

    def caution(self) -> str | None:
        """Say why nothing can be flagged, if so."""
        if self.threshold is not None:
            return None
        return self._too_few("no image can be flagged at a false-alarm rate", self.false_alarm_rate)

    def caution_of_discoveries(self, false_discovery_rate: float) -> str | None:
        """Say why no batch can have a discovery at this rate, if so: its q-values are no lower than its p-values."""
        return self._too_few("no image can be taken at a false discovery rate", false_discovery_rate)

    def fewest_discoveries(self, images: int, false_discovery_rate: float) -> int:
        """Return how many of a batch must score above all unseen normals, at least, for any of them to be taken."""
        return math.ceil(round(self.lowest_p_value * images / false_discovery_rate, 9))

    def _too_few(self, consequence: str, rate: float) -> str | None:
        if self.lowest_p_value <= rate:
            return None
        needed = math.ceil(round(1 / rate - 1, 9))
        return (
            f"{consequence} of {percent(rate)}: that takes at least {needed} groups of unseen normals (patients, or "
            f"images without a near copy), and there are {len(self.groups)}. Hold out more (ddad fit --set "
            "holdout=SHARE), calibrate with other normals (ddad calibrate MODEL --normal DIR), or allow "
            f"{percent(self.lowest_p_value)} or more."
        )

    def summary(self) -> dict[str, Any]:
        """Return what a report says of it: everything but the single scores."""
        return {
            "of": self.of,
            "score": self.score,
            "groups": len(self.groups),
            "images": self.images,
            "false_alarm_rate": self.false_alarm_rate,
            "threshold": self.threshold,
            "flagged_above": self.flagged_above,
            "lowest_p_value": self.lowest_p_value,
            "promise": self.promise(),
        }

    def write(self, path: Path, *, weights: str) -> None:
        """Write the file that a person may edit; `weights` is the SHA-256 of the weights that gave the scores."""
        head = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "weights": weights}
        content = head | self.model_dump(exclude={"groups"})
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in content.items()]
        groups = ",\n".join(f"    {json.dumps(group)}" for group in self.groups)
        write_atomically(path, ("\n".join(["{", *lines, '  "groups": [', groups, "  ]", "}"]) + "\n").encode())

    @classmethod
    def read(cls, path: Path, *, weights: str) -> Self:
        """Read what `write` wrote, or a person changed.

        Raises:
            CalibrationError: it is damaged, a value cannot be used, or it is of other weights.
        """
        remedy = "Correct it, or make it anew: ddad calibrate MODEL --normal DIR."
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_each_key_once)
        except UnicodeDecodeError as error:
            raise CalibrationError(f"{path}: not in UTF-8, in which it was written. {remedy}") from error
        except (OSError, ValueError) as error:
            raise CalibrationError(f"{path}: damaged ({error}). {remedy}") from error
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise CalibrationError(f"{path}: not a calibration of ddad. {remedy}")
        version = content.pop("format_version", None)
        if version != _FORMAT_VERSION:
            raise CalibrationError(f"{path}: format_version = {version!r}: this version of ddad reads 1. {remedy}")
        if content.pop("weights", None) != weights:
            raise CalibrationError(f"{path}: belongs to another model: its scores are those of other weights. {remedy}")
        if "false_alarm_rate" not in content:  # what is promised is never guessed
            raise CalibrationError(f"{path}: false_alarm_rate is missing. {remedy}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "missing":
                raise CalibrationError(f"{path}: {field} is missing. {remedy}") from error
            reason = str(problem["msg"]).removeprefix("Value error, ")
            raise CalibrationError(f"{path}: {field} = {reprlib.repr(problem['input'])}: {reason}. {remedy}") from error

    @cached_property
    def _from_above(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """All scores, ascending, and for each the weight of those that are as high; a group weighs 1 together."""
        values = np.concatenate([np.asarray(group, float) for group in self.groups])
        weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in self.groups])
        order = np.argsort(values, kind="stable")
        summed = np.cumsum(weights[order][::-1])[::-1]
        # Sums of shares such as 1/3 must not miss a whole number by rounding.
        return values[order], np.round(summed, 9)

    def _p_value(self, weights: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
        return np.asarray((1 + weights) / (len(self.groups) + 1))

    def _share_above(self, score: float) -> float:
        values, weights = self._from_above
        place = int(np.searchsorted(values, score, side="right"))
        return float(weights[place]) / len(self.groups) if place < len(values) else 0.0


def check_rate(false_alarm_rate: float) -> None:
    """Make sure that a false-alarm rate can be promised.

    Raises:
        SettingError: it is not between 0 and 1.
    """
    if not 0 < false_alarm_rate < 1:
        raise SettingError(
            f"--false-alarm-rate {false_alarm_rate:g}: it is a share of normal images, above 0 and below 1."
        )


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a JSON object that says two things of one key: of these, the last would count without a word."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"{key} stands there {keys.count(key)} times")
    return dict(pairs)


def q_values(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return Benjamini-Hochberg's adjusted p-values (N,) of a batch (N,).

    Taking all images with a q-value up to r, no more than a share r of those taken is normal, on average. This holds
    for conformal p-values of images that are independent of each other, although all are compared with the same
    normals (Bates et al. 2023, theorem 2); where calibration has groups of several images, or the batch several images
    of a patient, it is not proven. A q-value belongs to its batch, not to its image alone.
    """
    given = np.asarray(p_values, dtype=float)
    # Products such as 24 / 10 / 8 must not miss a rate such as 0.3 by rounding.
    adjusted: npt.NDArray[np.float64] = np.round(false_discovery_control(given), 9) if len(given) else given
    return adjusted
