from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ddad.errors import CohortError, SettingError
from ddad.evaluation.delong import delong_test
from ddad.evaluation.selection import choose

SIDES = np.repeat([0, 1], 50)


def scores(shift: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=100)
    return drawn + shift * SIDES


def test_the_best_is_taken_if_it_is_clearly_ahead() -> None:
    found = choose(SIDES, {"default": scores(0.2, 1), "weak": scores(0.5, 3), "good": scores(2.5, 2)})
    assert (found.chosen, found.best) == ("good", "good")
    assert [judged.name for judged in found.judged] == ["default", "weak", "good"]
    assert found.judged[0].guide.estimate == pytest.approx(roc_auc_score(SIDES, scores(0.2, 1)))
    assert found.judged[0].ahead.difference == 0
    guides = [judged.guide.estimate for judged in found.judged]
    assert found.judged[1].ahead.difference == pytest.approx(guides[1] - guides[0])


def test_a_tie_goes_to_the_default() -> None:
    own = scores(1.0)
    nearly = own + 0.3 * np.random.default_rng(103).normal(size=100)
    assert delong_test(SIDES, own, nearly).difference > 0
    found = choose(SIDES, {"default": nearly, "other": own})
    assert (found.chosen, found.best) == ("default", "other")
    assert choose(SIDES, {"other": own, "default": nearly}).chosen == "other"
    assert choose(SIDES, {"default": own, "same": own}).best == "default"
    assert choose(SIDES, {"default": own}).chosen == "default"


def test_the_best_of_many_must_be_further_ahead_than_that_of_two() -> None:
    default, other = scores(0.0, 1), scores(0.6, 2)
    assert 0.05 / 3 < delong_test(SIDES, other, default).p_value / 2 < 0.05
    two = {"default": default, "other": other}
    assert choose(SIDES, two).chosen == "other"
    more = {f"weak {number}": scores(-1.0, number) for number in range(2)}
    assert choose(SIDES, two | more).chosen == "default"
    assert choose(SIDES, two | more).best == "other"


def test_noise_takes_the_default_away_in_one_selection_of_twenty() -> None:
    rng = np.random.default_rng(0)
    worlds = [dict(zip("abcdefg", rng.normal(size=(7, 100)), strict=True)) for _ in range(400)]
    moved = [choose(SIDES, scores).chosen != "a" for scores in worlds]
    assert 0 < np.mean(moved) <= 0.06  # without the correction it is more than 0.1


def test_a_perfect_score_takes_the_place_of_one_that_says_nothing() -> None:
    candidates = {"default": np.zeros(100), "other": SIDES.astype(float)}
    assert choose(SIDES, candidates).chosen == "other"
    few = np.repeat([0, 1], 3)  # of six images it may be chance
    assert choose(few, {"default": np.zeros(6), "other": few.astype(float)}).chosen == "default"


def test_two_patients_are_too_few_to_be_ahead() -> None:
    is_unlabeled, patients = np.repeat([0, 1], 10), np.repeat([0, 1, 2, 3], 5)
    candidates = {"default": np.zeros(20), "other": np.repeat([0, 1, 0], [10, 7, 3])}
    assert delong_test(is_unlabeled, candidates["other"], candidates["default"], patients).p_value < 0.05
    assert choose(is_unlabeled, candidates, patients).chosen == "default"
    assert choose(is_unlabeled, candidates).chosen == "other"  # each image of a patient of its own


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(SettingError, match="no candidate"):
        choose(SIDES, {})
    with pytest.raises(CohortError, match="two normal"):
        choose([0, 1, 1], {"a": [1, 2, 3]})


def test_slices_of_a_patient_are_no_more_evidence_than_the_patient() -> None:
    rng = np.random.default_rng(3)
    is_unlabeled = np.repeat([0, 1], 30)
    base = is_unlabeled + rng.normal(size=60)
    scores = {"default": base, "other": base + 0.25 * is_unlabeled + 0.3 * rng.normal(size=60)}
    alone = choose(is_unlabeled, scores)
    slices = {name: np.repeat(values, 20) for name, values in scores.items()}
    grouped = choose(np.repeat(is_unlabeled, 20), slices, np.repeat(np.arange(60), 20))
    assert grouped.chosen == alone.chosen
    for one, other in zip(alone.judged, grouped.judged, strict=True):
        assert other.ahead.standard_error == pytest.approx(one.ahead.standard_error)
    assert (
        choose(np.repeat(is_unlabeled, 20), slices).judged[1].ahead.standard_error
        < 0.5 * alone.judged[1].ahead.standard_error
    )
