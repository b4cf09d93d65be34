from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ddad.errors import CohortError, SettingError
from ddad.evaluation.delong import delong_test
from ddad.evaluation.selection import auc_from_guide, choose, guide_from_auc

SIDES = np.repeat([0, 1], 50)


def scores(shift: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=100)
    return drawn + shift * SIDES


@given(share=st.floats(0, 0.9), normal=st.integers(5, 30), abnormal=st.integers(1, 30), seed=st.integers(0, 50))
def test_the_guide_of_a_mixture_is_that_of_the_formula(share: float, normal: int, abnormal: int, seed: int) -> None:
    """Exactly, where the mixture's normals are the held-out normals themselves, each counted in its share."""
    rng = np.random.default_rng(seed)
    healthy, ill = rng.normal(size=normal), rng.normal(1, size=abnormal)
    labels = np.repeat([0, 1, 1], [normal, abnormal, normal])
    weights = np.concatenate(
        [np.ones(normal), np.full(abnormal, (1 - share) / abnormal), np.full(normal, share / normal)]
    )
    mixed = roc_auc_score(labels, np.concatenate([healthy, ill, healthy]), sample_weight=weights)
    auc = roc_auc_score(labels[: normal + abnormal], np.concatenate([healthy, ill]))
    assert guide_from_auc(auc, share) == pytest.approx(mixed)
    assert auc_from_guide(mixed, share) == pytest.approx(auc)


def test_the_best_is_taken_if_it_is_clearly_ahead() -> None:
    found = choose(SIDES, {"default": scores(0.2, 1), "good": scores(2.5, 2), "weak": scores(0.5, 3)})
    assert (found.chosen, found.best) == ("good", "good")
    assert [judged.name for judged in found.judged] == ["default", "good", "weak"]
    assert found.judged[0].guide.estimate == pytest.approx(roc_auc_score(SIDES, scores(0.2, 1)))
    assert found.judged[1].behind.difference == 0


def test_a_tie_goes_to_the_most_preferred() -> None:
    own = scores(1.0)
    nearly = own + 0.3 * np.random.default_rng(103).normal(size=100)  # a little worse, by less than a standard error
    ahead = delong_test(SIDES, own, nearly)
    assert 0 < ahead.difference <= ahead.standard_error
    found = choose(SIDES, {"default": nearly, "other": own})
    assert (found.chosen, found.best) == ("default", "other")
    assert choose(SIDES, {"other": own, "default": nearly}).chosen == "other"
    assert choose(SIDES, {"default": own, "same": own}).best == "default"


def test_more_than_one_standard_error_is_no_tie() -> None:
    own, other = scores(0.0, 1), scores(0.6, 1)
    ahead = delong_test(SIDES, other, own)
    assert ahead.difference > ahead.standard_error
    assert choose(SIDES, {"default": own, "other": other}).chosen == "other"


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(SettingError, match="no candidate"):
        choose(SIDES, {})
    with pytest.raises(CohortError, match="two normal"):
        choose([0, 1, 1], {"a": [1, 2, 3]})
    with pytest.raises(SettingError, match="says nothing"):
        auc_from_guide(0.5, 1)
    with pytest.raises(SettingError, match=r"normal_share is 1\.5"):
        guide_from_auc(0.5, 1.5)
