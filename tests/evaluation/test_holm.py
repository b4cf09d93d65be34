from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddad.evaluation import holm


def test_hand_computed() -> None:
    # 4 · 0.005, then max(0.02, 3 · 0.01), then max(0.03, 2 · 0.03), then max(0.06, 0.04).
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_test_without_a_p_value_counts() -> None:
    assert holm([np.nan, 0.01, 0.03]) == pytest.approx([np.nan, 0.03, 0.06], nan_ok=True)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_lies_between_the_p_value_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    given_values = np.array(p_values)
    assert (corrected >= given_values).all()
    assert (corrected <= np.minimum(given_values * len(p_values), 1) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(given_values, kind="stable")]) >= 0).all()
