"""The benchmark of the false-alarm rate can come out wrong, and counts what it says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from ddad.evaluation.calibration import Calibration


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    file = Path(__file__).resolve().parents[1] / "benchmarks" / "false_alarm_rate.py"
    spec = spec_from_file_location("false_alarm_rate", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(file.parent)
        spec.loader.exec_module(module)
        yield module


def fits(shift: float, count: int = 5, calibrating: int = 60, tested: int = 200) -> list[dict[str, Any]]:
    """Return records of fits whose normal test images score higher than those that calibrate by a shift."""
    records = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        calibration = Calibration.from_scores(
            random.normal(size=calibrating), np.arange(calibrating), of="normals", score="image"
        )
        scores = np.concatenate([random.normal(size=tested) + shift, random.normal(size=tested) + 3])
        records.append(
            {
                "recipe": {"seed": seed},
                "calibration": {"groups": calibrating},
                "p_values": [calibration.p_value(score) for score in scores],
                "labels": [0] * tested + [1] * tested,
                "groups": list(range(2 * tested)),
                "new": [True] * 2 * tested,
            }
        )
    return records


def test_it_holds_for_exchangeable_images_and_fails_for_others(benchmark: ModuleType) -> None:
    kept = benchmark.false_alarms(fits(0.0), 0.1, new=True)
    assert (kept["groups"], kept["fits_above"]) == (200, 0)
    assert kept["low"] < 0.1
    broken = benchmark.false_alarms(fits(1.0), 0.1, new=True)
    assert broken["fits_above"] >= 4
    assert broken["low"] > 0.2


def test_the_range_to_expect_is_that_of_exchangeable_fits(benchmark: ModuleType) -> None:
    low, high = benchmark.expected_range(0.1, 60, 200)
    rates = [benchmark.false_alarms([one], 0.1, new=True)["mean"] for one in fits(0.0, 100)]
    inside = np.mean([(low <= rate <= high) for rate in rates])
    assert inside > 0.88
    assert benchmark.expected_range(0.01, 60, 200) == (0.0, 0.0)  # no image can be flagged


def test_a_group_counts_once_and_copies_of_training_images_are_left_out(benchmark: ModuleType) -> None:
    record = {
        "calibration": {"groups": 40},
        "p_values": [0.01, 0.01, 0.5, 0.5, 0.01, 0.9],
        "labels": [0, 0, 0, 0, 0, 1],
        "groups": [0, 0, 0, 1, 2, 3],
        "new": [True, True, True, True, False, True],
    }
    assert benchmark.false_alarms([record], 0.05, new=True)["mean"] == pytest.approx((2 / 3 + 0) / 2)
    assert benchmark.false_alarms([record], 0.05, new=False)["mean"] == pytest.approx((2 / 3 + 0 + 1) / 3)


@pytest.mark.parametrize("hits", [0, 3, 50])
def test_the_interval_is_that_of_clopper_and_pearson(benchmark: ModuleType, hits: int) -> None:
    expected = binomtest(hits, 50).proportion_ci()
    found = benchmark.binomial_interval(np.repeat([1.0, 0.0], [hits, 50 - hits]))
    assert found == pytest.approx((expected.low, expected.high))


def test_false_discoveries_are_counted_where_images_are_taken(benchmark: ModuleType) -> None:
    found = benchmark.false_discoveries(fits(0.0), 0.2, batches=50)
    assert found["batch"] == [100, 100]
    assert found["bound"] == pytest.approx(0.1)
    assert found["abnormal_found"] > 0.5
    assert found["mean"] < 0.15
    assert benchmark.false_discoveries(fits(1.5), 0.2, batches=50)["mean"] > 0.2
