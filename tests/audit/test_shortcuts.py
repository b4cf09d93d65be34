from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_info

from ddad.audit import shortcuts as module
from ddad.audit.look import CATEGORIES, NUMBERS, Look
from ddad.audit.shortcuts import JOINT, Shortcut, find_shortcuts, measure_memorisation
from support import RecordedProgress

RNG = np.random.default_rng(0)
BASE = {
    **dict.fromkeys(("width", "height"), 100.0),
    **{"aspect": 1.0, "file size": 5000.0, "bit depth": 8.0, "border brightness": 0.0},
    **{"DICOM date": np.nan, "DICOM date given": 0.0},
    **{"file type": "png", "colour mode": "grey", "DICOM maker": "", "DICOM model": ""},
}


def look(seed: int, **features: float | str) -> Look:
    rng = np.random.default_rng(seed)
    drawn = {name: float(rng.normal()) for name in ("brightness", "contrast", "sharpness", "dark share")}
    thumbnail = rng.integers(0, 256, (64, 64), dtype=np.uint8)
    return Look(str(seed), thumbnail, thumbnail, (0.0, 1.0), {**BASE, **drawn, **features})


def by_feature(looks: list[Look], parts: list[str]) -> dict[str, tuple[float, float, float, str]]:
    found = find_shortcuts(looks, parts, np.arange(len(looks)))
    return {s.feature: (s.auc, s.low, s.high, s.higher_in) for s in found}


def test_the_auc_is_that_of_the_feature_and_says_where_it_is_higher() -> None:
    looks = [look(seed, width=float(100 + seed % 7 + 3 * (seed < 40))) for seed in range(80)]
    parts = ["normal"] * 40 + ["unlabeled"] * 40

    auc, low, high, higher_in = by_feature(looks, parts)["width"]

    expected = roc_auc_score([1] * 40 + [0] * 40, [shown.features["width"] for shown in looks])
    assert auc == pytest.approx(expected)
    assert 0.5 < low < auc < high <= 1
    assert higher_in == "normal"


def test_words_separate_too_and_chance_does_not() -> None:
    looks = [look(seed, **{"file type": "jpeg" if seed % 20 < 18 and seed >= 100 else "png"}) for seed in range(200)]
    found = by_feature(looks, ["test normal"] * 100 + ["test abnormal"] * 100)

    assert found["file type"][0] == pytest.approx(0.95, abs=0.03)
    assert found[JOINT][1] > 0.85
    assert found["aspect"][:3] == (0.5, 0.5, 0.5)
    assert found["brightness"][1] < 0.55
    assert "DICOM maker" not in found


def test_the_joint_classifier_sees_what_no_single_feature_shows() -> None:
    sides = RNG.choice([-1.0, 1.0], (2, 400))
    labels = sides[0] * sides[1] > 0
    order = np.argsort(labels, kind="stable")
    looks = [look(int(i), brightness=sides[0, i], contrast=sides[1, i]) for i in order]
    parts = ["normal" if not labels[i] else "unlabeled" for i in order]

    found = by_feature(looks, parts)

    assert found[JOINT][0] > 0.9
    assert max(found["brightness"][0], found["contrast"][0]) < 0.6


def test_copies_do_not_make_the_joint_classifier_look_good() -> None:
    originals = [look(seed) for seed in range(60)]
    looks = [replace(shown) for shown in originals for _ in range(3)]
    parts = [name for number in range(60) for name in [("normal", "unlabeled")[number % 2]] * 3]

    found = find_shortcuts(looks, parts, np.repeat(np.arange(60), 3))

    (joint,) = [s for s in found if s.feature == JOINT]
    assert joint.auc < 0.7


def test_too_few_images_are_not_compared() -> None:
    assert find_shortcuts([look(seed) for seed in range(15)], ["normal"] * 9 + ["unlabeled"] * 6, np.arange(15)) == []


def test_remembering_is_worth_what_the_copies_give() -> None:
    training = [look(seed) for seed in range(30)]
    tested = [replace(shown) for shown in training[:15]] + [look(seed) for seed in range(100, 140)]
    parts = ["normal"] * 30 + ["test normal"] * 35 + ["test abnormal"] * 20

    probe = measure_memorisation(training + tested, parts, np.arange(85), np.arange(30, 45))

    assert probe is not None
    assert probe.without_copies is not None
    # 15 of 35 normals are at distance 0; the others are as far away as the abnormal ones.
    assert probe.everything.estimate == pytest.approx(15 / 35 + 20 / 35 * probe.without_copies.estimate, abs=1e-9)
    assert abs(probe.without_copies.estimate - 0.5) < 0.2


def test_slices_of_a_patient_do_not_make_a_shortcut() -> None:
    """Brightness is the patient's: 20 patients with 50 slices each decide nothing, as 20 images do not."""
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(20), 50)
    brightness = rng.normal(size=20) + np.arange(20) // 10 * 1.5
    looks = [look(seed, brightness=float(brightness[who] + 0.1 * rng.normal())) for seed, who in enumerate(patients)]
    parts = ["normal"] * 500 + ["unlabeled"] * 500

    taken_alone, together = (
        {shortcut.feature: shortcut for shortcut in find_shortcuts(looks, parts, groups)}["brightness"]
        for groups in (np.arange(1000), patients)
    )

    assert taken_alone.auc == together.auc > 0.7
    assert taken_alone.strong
    assert not together.strong
    assert together.high - together.low > 4 * (taken_alone.high - taken_alone.low)


def test_memory_counts_a_patient_once_and_one_alone_says_nothing() -> None:
    looks = [look(seed) for seed in range(70)]
    parts = ["normal"] * 30 + ["test normal"] * 20 + ["test abnormal"] * 20
    none_copied = np.array([], np.int64)
    slices = np.concatenate([np.arange(30), 100 + np.arange(40) // 10])

    alone = measure_memorisation(looks, parts, np.arange(70), none_copied)
    together = measure_memorisation(looks, parts, slices, none_copied)

    assert alone is not None
    assert together is not None
    assert alone.everything.estimate == together.everything.estimate
    assert (alone.everything.low, alone.everything.high) != (together.everything.low, together.everything.high)
    assert together.without_copies == together.everything
    assert measure_memorisation(looks, parts, slices // 2, none_copied) is None


def test_each_feature_is_a_step_and_classifiers_have_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    cross_validated = module._cross_validated
    threads: list[int] = []

    def watched(*arguments: Any) -> Any:
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp")
        return cross_validated(*arguments)

    monkeypatch.setattr(module, "_cross_validated", watched)
    progress = RecordedProgress()

    find_shortcuts([look(seed) for seed in range(40)], ["normal", "unlabeled"] * 20, np.arange(40), progress)

    (task,) = progress.tasks
    assert task.done == task.total == len(NUMBERS) + len(CATEGORIES) + 1
    assert set(threads) == {1}


def test_a_perfect_shortcut_of_a_part_of_the_pile_is_noted() -> None:
    looks = [
        look(seed, **{"file type": "png" if seed >= 170 else "jpeg", "width": 99.0 if seed >= 170 else 100.0})
        for seed in range(200)
    ]

    found = {s.feature: s for s in find_shortcuts(looks, ["normal"] * 100 + ["unlabeled"] * 100, np.arange(200))}

    for feature in ("file type", "width"):
        assert not found[feature].strong
        assert found[feature].note == "weak, 30 % of unlabeled set apart"
        assert found[feature].to_json()["apart"] == pytest.approx(0.3)
        assert found[feature].to_json()["apart_in"] == "unlabeled"
    assert found["brightness"].apart == 0
    assert found["brightness"].apart_in == ""


def test_few_images_and_words_of_their_own_are_not_set_apart() -> None:
    looks = [look(seed, **{"DICOM model": f"serial number {seed}", "width": 100.0 + (seed < 5)}) for seed in range(40)]

    found = {s.feature: s for s in find_shortcuts(looks, ["normal", "unlabeled"] * 20, np.arange(40))}

    assert found["DICOM model"].apart == 0
    assert found["width"].apart == 0


def test_days_are_compared_among_images_that_have_one() -> None:
    def found(dated: int) -> dict[str, Shortcut]:
        looks = [
            look(seed, **{"DICOM date given": 1.0, "DICOM date": 730000.0 + seed} if seed < 40 + dated else {})
            for seed in range(80)
        ]
        return {s.feature: s for s in find_shortcuts(looks, ["normal"] * 40 + ["unlabeled"] * 40, np.arange(80))}

    half = found(20)["DICOM date"]
    assert (half.auc, half.higher_in, half.without) == (1.0, "unlabeled", 20)
    assert half.note == "strong, 100 % of normal set apart, 20 without"
    assert "without" not in found(40)["DICOM date"].note
    few = found(9)
    assert "DICOM date" not in few
    assert few["DICOM date given"].strong


@pytest.mark.parametrize("given", [{"DICOM date given": 1.0, "DICOM date": 730000.0}, {"DICOM maker": "one"}])
def test_what_only_one_side_has_in_its_header_is_a_shortcut(given: dict[str, float | str]) -> None:
    looks = [look(seed, **given if seed < 40 else {}) for seed in range(80)]

    found = {s.feature: s for s in find_shortcuts(looks, ["normal"] * 40 + ["unlabeled"] * 40, np.arange(80))}

    assert found[next(iter(given))].strong
