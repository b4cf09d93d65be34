"""The learning rate as a pure function of the step, so that a resumed fit needs no scheduler's state."""

from __future__ import annotations

import math
from typing import Literal

_WARM_UP_SHARE = 0.3
_START_DIVISOR = 25.0
_END_DIVISOR = 1e5
_POWER = 0.9

Schedule = Literal["constant", "one-cycle", "polynomial"]


def learning_rate(schedule: Schedule, peak: float, step: int, steps: int) -> float:
    """Return the learning rate of `step` (from 0) of `steps`.

    `one-cycle` rises from peak/25 to the peak over the first 30 % of the steps and falls to peak/1e5, both
    along a cosine (Smith and Topin 2019, with the shape of torch's `OneCycleLR`). `polynomial` falls from the peak to
    zero, almost in a line: with the power 0.9 of what is left.
    """
    if schedule == "constant":
        return peak
    if schedule == "polynomial":
        return float(peak * (1 - step / steps) ** _POWER)
    turn = _WARM_UP_SHARE * steps - 1
    if step <= turn:
        return _cosine(peak / _START_DIVISOR, peak, step / max(turn, 1e-9))
    return _cosine(peak, peak / _END_DIVISOR, (step - turn) / max(steps - 1 - turn, 1e-9))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
