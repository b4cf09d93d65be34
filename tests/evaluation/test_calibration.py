"""Conformal p-values, the promise they keep, and the file that holds them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddad.errors import CalibrationError, SettingError
from ddad.evaluation.calibration import Calibration, q_values

scores = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=40)


def calibration(values: list[float], groups: list[str] | None = None, rate: float = 0.05) -> Calibration:
    return Calibration.from_scores(
        values, groups or [str(i) for i in range(len(values))], of="normals", score="r_dual", false_alarm_rate=rate
    )


def test_the_p_value_counts_the_normals_that_score_as_high() -> None:
    found = calibration([1, 2, 3, 4])
    assert [found.p_value(score) for score in (0, 2, 2.5, 4, 5)] == [1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]


def test_each_group_counts_once() -> None:
    found = calibration([1, 2, 3, 4], ["a", "a", "a", "b"])
    assert found.p_value(2.5) == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert (len(found.groups), found.images, found.lowest_p_value) == (2, 4, 1 / 3)


def test_the_promise_is_said_in_words_that_fit_the_number() -> None:
    for groups, words in (
        (["a", "a"], "1 group of normals (2 images: normals) is"),
        (["a", "b"], "2 groups of normals (2 images: normals) are"),
    ):
        assert calibration([1, 2], groups).promise().endswith(f"at a false-alarm rate of 5 % {words} too few.")


@pytest.mark.parametrize(("groups", "rate"), [(20, 0.05), (30, 0.05), (100, 0.05), (100, 0.2)])
def test_one_calibration_of_twenty_flags_more_than_it_says(groups: int, rate: float) -> None:
    rng = np.random.default_rng(groups)
    realised = []
    for _ in range(2000):
        found = calibration(rng.uniform(size=groups).tolist(), rate=rate)
        assert found.flagged_above is not None
        realised.append(1 - found.flagged_above)  # of uniform scores
    share = np.mean(np.array(realised) > found.rate_of_one_in_twenty)
    assert share == pytest.approx(0.05, abs=0.02)  # four standard errors
    assert np.mean(realised) <= rate + 0.01


def test_how_far_one_calibration_may_be_off_is_said() -> None:
    assert calibration([*range(20)]).promise().endswith("in one calibration of twenty, above about 14 %.")
    assert calibration([*range(10)]).rate_of_one_in_twenty == 0  # too few to flag anything
    assert 0.99 < calibration([*range(10)], rate=1 - 1e-11).rate_of_one_in_twenty <= 1


def test_thirds_of_a_group_do_not_miss_a_whole_by_rounding() -> None:
    assert calibration([1, 2, 3] * 3, ["a"] * 3 + ["b"] * 3 + ["c"] * 3).p_value(0) == 1


@given(scores, scores, st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_the_p_value_is_its_formula_and_the_line_says_who_is_flagged(
    normal: list[float], new: list[float], rate: float
) -> None:
    found = calibration(normal, rate=rate)
    for score in new:
        expected = (1 + sum(value >= score for value in normal)) / (len(normal) + 1)
        assert found.p_value(score) == pytest.approx(expected)
        above = found.flagged_above
        assert found.flags(score) == (expected <= rate) == (above is not None and score > above)


@given(scores.filter(lambda values: len(values) > 1), st.sampled_from([0.05, 0.2, 0.5]))
def test_among_exchangeable_scores_no_more_than_the_rate_is_flagged(values: list[float], rate: float) -> None:
    """Each of the scores in turn is the new one: exactly what exchangeability averages over."""
    flagged = [calibration(values[:i] + values[i + 1 :], rate=rate).flags(values[i]) for i in range(len(values))]
    assert np.mean(flagged) <= rate + 1e-12


def test_the_rate_holds_for_a_new_group_where_images_of_a_group_are_alike() -> None:
    random = np.random.default_rng(0)
    alarms, pooled = [], []
    for _ in range(2000):
        centres = random.normal(size=21)
        sizes = random.integers(1, 20, size=20)
        values = np.concatenate([centres[i] + 0.1 * random.normal(size=size) for i, size in enumerate(sizes)])
        groups = np.repeat(np.arange(20), sizes)
        new = centres[20] + 0.1 * random.normal()
        alarms.append(Calibration.from_scores(values, groups, of="", score="").at(0.1).flags(new))
        pooled.append(calibration(values.tolist(), rate=0.1).flags(new))
    assert np.mean(alarms) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 2000)
    assert np.mean(pooled) > np.mean(alarms)


def test_with_too_few_normals_nothing_is_flagged_and_that_is_said() -> None:
    few = calibration([float(i) for i in range(18)])
    assert few.flagged_above is None
    assert not few.flags(1e9)
    assert "at least 19 groups" in str(few.caution())
    assert "false discovery rate of 1 %: that takes at least 99 groups" in str(few.caution_of_discoveries(0.01))
    assert few.caution_of_discoveries(few.lowest_p_value) is None
    # The k-th lowest of m p-values is taken at up to k / m of the rate.
    assert (few.lowest_p_value, few.fewest_discoveries(76, 0.2), few.fewest_discoveries(4, 1 / 19)) == (1 / 19, 20, 4)
    enough = calibration([float(i) for i in range(19)])
    assert enough.caution() is None
    assert (enough.flagged_above, enough.flags(18.5), enough.flags(18)) == (18, True, False)


def test_a_threshold_set_by_hand_decides_and_promises_nothing() -> None:
    by_hand = calibration([1, 2, 3, 4]).model_copy(update={"threshold": 2.0})
    assert (by_hand.flags(2.5), by_hand.flags(2), by_hand.flagged_above) == (True, False, 2)
    assert "Nothing is promised" in by_hand.promise()
    assert "50 %" in by_hand.promise()
    assert by_hand.at(0.4).threshold is None


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_a_rate_outside_0_and_1_is_refused(rate: float) -> None:
    with pytest.raises(SettingError, match="--false-alarm-rate"):
        calibration([1, 2]).at(rate)


def test_scores_must_be_there_and_finite() -> None:
    for values in ([], [1.0, float("nan")]):
        with pytest.raises(CalibrationError, match=r"finite scores are needed\. Try --precision fp32"):
            Calibration.from_scores(values, [str(v) for v in values], of="", score="r_dual")


def test_each_of_many_groups_has_its_scores() -> None:
    scores = np.random.default_rng(0).normal(size=2_000)
    found = calibration(scores.tolist(), [f"{number // 2:05}" for number in range(2_000)])
    assert found.groups == tuple(tuple(sorted(pair)) for pair in scores.reshape(-1, 2).tolist())


def test_the_file_comes_back_and_may_be_edited(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    written = calibration([3, 1.5, 2], ["b", "a", "a"])
    written.write(file, weights="abc")
    assert Calibration.read(file, weights="abc") == written
    file.write_text(file.read_text().replace('"false_alarm_rate": 0.05', '"false_alarm_rate": 0.4'))
    assert Calibration.read(file, weights="abc") == written.at(0.4)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as some editors save it
    assert Calibration.read(file, weights="abc") == written.at(0.4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"false_alarm_rate": 2}, "false_alarm_rate = 2: Input should be less than 1"),
        ({"threshold": True}, "threshold = True: is no number"),
        ({"groups": []}, r"groups = \[\]: "),
        ({"groups": [[1.0], []]}, r"groups = \[\[1.0\], \[\]\]: group 1, counted from 0, has no score"),
        ({"groups": [["high"]]}, r"groups\.0\.0 = 'high': "),
        ({"format": "other"}, "not a calibration"),
        ({"format_version": 2}, "format_version = 2"),
        ({"weights": "other"}, "belongs to another model"),
        ({"treshold": 3}, "treshold = 3: Extra inputs"),
        ({"threshold": "0.2"}, "threshold = '0.2': is no number"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = tmp_path / "calibration.json"
    calibration([1, 2]).write(file, weights="abc")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CalibrationError, match=rf"calibration\.json: {message}.*ddad calibrate"):
        Calibration.read(file, weights="abc")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text('{"format": "ddad-cal')
    with pytest.raises(CalibrationError, match="damaged"):
        Calibration.read(file, weights="abc")


def test_what_is_promised_is_never_guessed(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    calibration([1, 2]).write(file, weights="abc")
    text = file.read_text()
    file.write_text(text.replace('"false_alarm_rate": 0.05,', ""))
    with pytest.raises(CalibrationError, match="false_alarm_rate is missing"):
        Calibration.read(file, weights="abc")
    file.write_text(text.replace('"false_alarm_rate"', '"false_alarm_rate": 0.5, "false_alarm_rate"'))
    with pytest.raises(CalibrationError, match="false_alarm_rate stands there 2 times"):
        Calibration.read(file, weights="abc")
    file.write_bytes(text.encode("utf-16"))
    with pytest.raises(CalibrationError, match="not in UTF-8"):
        Calibration.read(file, weights="abc")


def test_false_discoveries_stay_below_their_rate_on_average() -> None:
    """All images of a batch are compared with the same normals, so their p-values depend on each other."""
    random = np.random.default_rng(0)
    false, found = [], []
    for _ in range(300):
        by = Calibration.from_scores(random.normal(size=200), range(200), of="", score="")
        batch = [*random.normal(size=80), *random.normal(4, 1, size=20)]
        taken = q_values([by.p_value(score) for score in batch]) <= 0.1
        false.append(taken[:80].sum() / max(taken.sum(), 1))
        found.append(taken[80:].mean())
    assert np.mean(false) <= 0.1
    assert np.mean(found) > 0.5


def test_q_values_are_benjamini_and_hochbergs() -> None:
    # The example of their article (1995, section 3.2): four hypotheses are rejected at 5 %.
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
                0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    assert (q_values(p_values) <= 0.05).sum() == 4
    assert len(q_values([])) == 0


def test_a_q_value_that_is_the_rate_is_taken() -> None:
    p_values = [0.1] * 8 + [1.0] * 16
    calibration = Calibration.from_scores(range(9), range(9), of="held-out normals", score="image")
    assert calibration.lowest_p_value == 0.1
    assert calibration.fewest_discoveries(24, 0.3) == 8
    assert (q_values(p_values) <= 0.3).sum() == 8


@pytest.mark.parametrize("threshold", [None, 3.0])
def test_a_score_that_is_no_number_is_neither_flagged_nor_passed_over(threshold: float | None) -> None:
    calibration = Calibration.from_scores(range(40), range(40), of="held-out normals", score="image")
    calibration = calibration.model_copy(update={"threshold": threshold})
    with pytest.raises(CalibrationError, match="NaN"):
        calibration.p_value(float("nan"))
    with pytest.raises(CalibrationError, match="NaN"):
        calibration.flags(float("nan"))


def test_a_score_that_is_called_image_is_called_a_score_in_the_promise() -> None:
    scores = [float(i) for i in range(40)]
    promised = Calibration.from_scores(scores, range(40), of="held-out normals", score="image").promise()
    assert promised.startswith("Flagged is a score above")
