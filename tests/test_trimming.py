from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from ddad import Cohort, Model, fit, trimming
from ddad.detectors import DDAD, DDADTraining, FitContext
from ddad.errors import CohortError, SettingError
from ddad.fitting import fit as fit_model
from ddad.training.device import Compute
from ddad.trimming import Trust, divide_pile, expected_trust, trust_likely_normals
from support import RecordedProgress, random_images, run_cli, same_tensors, tiny_options, tiny_recipe, write_images

RECIPE = tiny_recipe(
    reconstruction__backbone="ae",
    reconstruction__latent_size=4,
    trimming__trusted=0.5,
    trimming__rounds=2,
    trimming__folds=2,
)


LEARNS = RECIPE.changed({"reconstruction.ndm_epochs": 40, "trimming.rounds": 1})


def contaminated(count: int, abnormal: int) -> NDArray[np.float32]:
    """Mixtures of two pictures; the last ones are noise of the same contrast."""
    pictures, shares = random_images(2, seed=5), torch.rand(count, 2, 1, 1, generator=torch.Generator().manual_seed(1))
    images = (shares * pictures[:, 0]).sum(dim=1, keepdim=True)
    noise = torch.rand(abnormal, 1, 16, 16, generator=torch.Generator().manual_seed(3)) - 0.5
    images[-abnormal:] = noise
    return images.clamp(-1, 1).numpy()


def trust(folder: Path, images: NDArray[np.float32], groups: list[str], recipe=RECIPE) -> Trust:  # type: ignore[no-untyped-def]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pile.npy", images)
    context = FitContext(folder, Compute("cpu", "fp32"), workers=0, progress=RecordedProgress())
    return trust_likely_normals(folder / "pile.npy", groups, recipe, context)


@pytest.mark.usefixtures("networks_compute_exactly")
def test_images_are_judged_as_exactly_as_scores(tmp_path: Path) -> None:
    recipe = RECIPE.changed({"reconstruction.ndm_epochs": 1})
    assert trust(tmp_path, contaminated(20, 4), [str(number) for number in range(20)], recipe).trusted.any()


def test_images_that_are_unlike_most_are_not_trusted(tmp_path: Path) -> None:
    found = trust(tmp_path, contaminated(40, 8), [str(number) for number in range(40)], LEARNS)
    assert found.trusted.sum() == 20
    assert not found.trusted[-8:].any()
    assert found.scores[-8:].min() > np.median(found.scores[:-8])


def test_an_image_is_judged_by_the_trusted_images_of_other_folds_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, fitted, judged = contaminated(40, 8), [], []

    def train(trainings: list[DDADTraining], *_: Any) -> None:
        fitted.extend({image.tobytes() for image in np.load(training.normal)} for training in trainings)

    def score(detector: DDAD, own: Any, compute: Compute) -> Any:  # noqa: ARG001
        assert isinstance(own, np.memmap)
        judged.append({image.tobytes() for image in own})
        return np.array([image.sum() for image in own]) * (-1 if len(judged) <= 2 else 1)

    monkeypatch.setattr(trimming, "train_side_by_side", train)
    monkeypatch.setattr(DDADTraining, "trained", lambda _: (DDAD(RECIPE).state_dict(), {}))
    monkeypatch.setattr(DDAD, "load_state_dict", lambda *_: None)
    monkeypatch.setattr(trimming, "score_unseen", score)
    found = trust(tmp_path, images, [str(number) for number in range(40)])
    sums = images.sum(axis=(1, 2, 3))
    calls = list(zip(fitted, judged, strict=True))
    for fold, (first, second) in enumerate(zip(calls[:2], calls[2:], strict=True)):
        own, others = np.flatnonzero(found.folds == fold), np.flatnonzero(found.folds != fold)
        assert first == ({images[place].tobytes() for place in others}, {images[place].tobytes() for place in own})
        trusted = others[np.argsort(-sums[others])[:10]]  # the first round trusts half of each fold
        assert second == ({images[place].tobytes() for place in trusted}, first[1])
        assert sorted(own[found.trusted[own]]) == sorted(own[np.argsort(sums[own])[:10]])
    assert found.agreement == 0  # the second round took the other half


def test_the_parts_of_a_round_are_trained_side_by_side(tmp_path: Path) -> None:
    np.save(tmp_path / "pile.npy", contaminated(24, 4))
    progress = RecordedProgress()
    context = FitContext(tmp_path, Compute("cpu", "fp32"), workers=0, progress=progress)
    trust_likely_normals(tmp_path / "pile.npy", [str(number) for number in range(24)], RECIPE, context)
    epochs = 2 * RECIPE.reconstruction.members * RECIPE.reconstruction.ndm_epochs, 2 * RECIPE.refinement.epochs
    assert [task.total for task in progress.tasks] == [*epochs, *epochs]
    assert any(note.startswith("part 2 of 2: NDM network 2 of 2") for note in progress.tasks[0].notes)
    assert progress.messages == [f"looking for normal images: round {number} of 2, 2 parts" for number in (1, 2)]


def test_where_all_are_trusted_nothing_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "pile", 12)
    monkeypatch.setattr(trimming, "train_side_by_side", lambda *_: pytest.fail("judged"))
    recipe, progress = (
        RECIPE.changed({"trimming.trusted": 1, "detector": "ae", "reconstruction.members": 1}),
        RecordedProgress(),
    )
    fit(Cohort.from_folders(unlabeled=tmp_path / "pile"), recipe, out=tmp_path / "m", workers=0, progress=progress)
    assert any("all 12 unlabeled images are taken for it" in message for message in progress.messages)
    assert pd.read_csv(tmp_path / "m" / "trusted.csv")["score"].isna().all()
    assert Model.load(tmp_path / "m").card["unsupervised"]["rounds"] == 0


def test_a_patient_who_leaves_one_image_to_judge_by_is_told(tmp_path: Path) -> None:
    recipe = RECIPE.changed({"trimming.trusted": 0.1})
    groups = ["large"] * 20 + [str(number) for number in range(4)]
    with pytest.raises(CohortError, match=r"round 2 of 2, part . of 2: 1 image of other parts to judge this one by"):
        trust(tmp_path, random_images(24).numpy(), groups, recipe)


def test_copies_that_would_fill_a_fold_are_divided(tmp_path: Path) -> None:
    images = np.concatenate([np.repeat(random_images(1).numpy(), 20, axis=0), random_images(10, seed=1).numpy()])
    found = trust(tmp_path, images, [str(number) for number in range(30)], RECIPE.changed({"trimming.rounds": 1}))
    assert np.bincount(found.folds).tolist() == [15, 15]
    assert found.agreement is None  # there was no round before
    (doubt,) = found.doubts
    assert "near copies fill more than one of 2 folds" in doubt


def test_few_patients_share_folds_and_that_is_said(tmp_path: Path) -> None:
    recipe = RECIPE.changed({"trimming.rounds": 1, "reconstruction.ndm_epochs": 1})
    images = random_images(30).numpy()
    assert not trust(tmp_path, images[:8], list("abcdefgh"), recipe.changed({"trimming.folds": 5})).doubts
    for patients, said in ((3, 1), (4, 0)):
        found = trust(tmp_path / str(patients), images, [str(number % patients) for number in range(30)], recipe)
        assert len(found.doubts) == said
    assert not found.doubts


@pytest.mark.parametrize(("count", "share", "trusted"), [(30, 0.97, 27), (30, 1, 30), (17, 0.5, 8), (3, 0.5, 3)])
def test_not_all_are_trusted_unless_they_are_to_be(count: int, share: float, trusted: int) -> None:
    recipe = RECIPE.changed({"trimming.trusted": share, "trimming.folds": 3})
    assert expected_trust(count, recipe) == trusted


def test_a_pile_that_leaves_too_few_is_refused_before_any_work(tmp_path: Path) -> None:
    """Of 17 images, folds of 6, 6 and 5 trust 3, 3 and 2, and one of these is held out."""
    write_images(tmp_path / "pile", 17)
    with pytest.raises(CohortError, match="of 17 unlabeled images only about 7 would be trusted"):
        fit(
            Cohort.from_folders(unlabeled=tmp_path / "pile"),
            RECIPE.changed({"trimming.folds": 3, "holdout": 0.1}),
            progress=NoProgress(),
        )


class NoProgress(RecordedProgress):
    def task(self, title: str, total: int) -> NoReturn:  # noqa: ARG002
        pytest.fail(f"{title} before the images were counted")


def test_the_share_is_taken_of_every_fold_and_groups_are_judged_together(tmp_path: Path) -> None:
    groups = [str(number // 2) for number in range(40)]
    images = random_images(40).numpy()
    found = trust(tmp_path, images, groups, RECIPE.changed({"trimming.trusted": 0.25, "trimming.rounds": 1}))
    assert (found.folds[::2] == found.folds[1::2]).all()
    for fold in (0, 1):
        own = found.folds == fold
        assert found.trusted[own].sum() == round(0.25 * own.sum())
        assert found.scores[own][found.trusted[own]].max() <= found.scores[own][~found.trusted[own]].min()


def test_parts_that_were_judged_are_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = contaminated(24, 4)
    groups = [str(number) for number in range(24)]
    first = trust(tmp_path, images, groups)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trimming-*")}
    monkeypatch.setattr(trimming, "train_side_by_side", lambda *_: pytest.fail("fitted again"))
    again = trust(tmp_path, images, groups)
    assert len(written) == 4
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("trimming-*")} == written
    assert (again.scores == first.scores).all()


def test_the_pile_is_divided_without_rest(tmp_path: Path) -> None:
    images = contaminated(40, 8)
    np.save(tmp_path / "pile.npy", images)
    names = [f"{number}.png" for number in range(40)]
    context = FitContext(tmp_path, Compute("cpu", "fp32"), workers=0, progress=RecordedProgress())
    divided = divide_pile(tmp_path / "pile.npy", names, names, RECIPE, context)
    joined = np.concatenate([divided.pixels[name] for name in ("normal", "held-out normal", "unlabeled")])
    assert len(joined) == 40
    assert {image.tobytes() for image in joined} == {image.tobytes() for image in images}
    assert (len(divided.pixels["normal"]), len(divided.pixels["held-out normal"])) == (16, 4)
    assert "20 of 40 unlabeled images are trusted" in divided.describe()


def test_a_fit_without_known_normals_says_whom_it_trusts(tmp_path: Path) -> None:
    write_images(tmp_path / "pile", 40)
    cohort = Cohort.from_folders(unlabeled=tmp_path / "pile")
    progress = RecordedProgress()
    model = fit(cohort, RECIPE, out=tmp_path / "m", workers=0, progress=progress)
    card = Model.load(tmp_path / "m").card
    assert (card["cohort"]["normal"], card["cohort"]["held_out_normal"], card["cohort"]["unlabeled"]) == (16, 4, 20)
    assert (card["unsupervised"]["trusted"], card["unsupervised"]["of"]) == (20, 40)
    assert card["held_out_normals"]["of"] == "held-out trusted images"
    assert any("no image was known to be normal" in warning for warning in card["cohort"]["warnings"])
    assert any("20 of 40" in message for message in progress.messages)
    table = pd.read_csv(tmp_path / "m" / "trusted.csv")
    assert list(table.columns) == ["path", "score", "fold", "trusted"]
    assert table["trusted"].sum() == 20
    assert set(table["path"]) == {str(path) for path in cohort.paths("unlabeled")}
    assert "images" not in model.summary()["unsupervised"]
    assert model.primary_score == "r_dual"
    again = fit_model(cohort, RECIPE, workers=0)
    assert same_tensors(again.detector.state_dict(), model.detector.state_dict())


def test_a_detector_that_learns_how_trusted_and_other_images_differ_is_doubted(tmp_path: Path) -> None:
    write_images(tmp_path / "pile", 40)
    recipe = tiny_recipe(
        detector="normal-vs-unlabeled", trimming__rounds=1, trimming__folds=2, classification__epochs=1
    )
    model = fit(Cohort.from_folders(unlabeled=tmp_path / "pile"), recipe, workers=0, progress=RecordedProgress())
    assert any(
        "normal-vs-unlabeled learns how the other images differ from the trusted ones: they do by construction"
        in warning
        for warning in model.card["cohort"]["warnings"]
    )


def test_one_network_cannot_say_whom_to_trust(tmp_path: Path) -> None:
    write_images(tmp_path / "pile", 40)
    with pytest.raises(SettingError, match=r"reconstruction\.members: 1, and which unlabeled images are trusted"):
        fit(
            Cohort.from_folders(unlabeled=tmp_path / "pile"),
            RECIPE.changed({"reconstruction.members": 1}),
            progress=NoProgress(),
        )


def test_an_interrupted_round_ends_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, groups = contaminated(24, 4), [str(number) for number in range(24)]
    whole = trust(tmp_path / "whole", images, groups)
    judged, calls = trimming.score_unseen, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt  # its networks are there, its scores are not
        return judged(*arguments)

    monkeypatch.setattr(trimming, "score_unseen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trust(tmp_path / "torn", images, groups)
    again = trust(tmp_path / "torn", images, groups)
    assert len(calls) == 5  # four parts, of which the second was judged twice
    assert (again.scores == whole.scores).all()


def test_too_small_a_pile_stops_before_any_work(tmp_path: Path) -> None:
    write_images(tmp_path / "pile", 12)
    with pytest.raises(CohortError, match="of 12 unlabeled images only about 5 would be trusted"):
        fit(Cohort.from_folders(unlabeled=tmp_path / "pile"), RECIPE, out=tmp_path / "m", workers=0)
    assert not list(tmp_path.glob("m*"))


def test_the_command_line_fits_without_known_normals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "pile", 40)
    options = tiny_options(trimming__rounds=1, trimming__folds=2, trimming__trusted=0.75)
    outcome = run_cli(monkeypatch, capsys, "fit", "--unlabeled", tmp_path / "pile", "--out", tmp_path / "m", *options)
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.err.split())
    assert "30 of 40 unlabeled images are trusted" in said
    assert "fitted on 24 trusted and 10 unlabeled images" in said
    assert "no image was known to be normal" in said
    assert "The share of abnormal images is not estimated: that takes known normal images" in said
    assert len(pd.read_csv(tmp_path / "m" / "trusted.csv")) == 40


def test_dividing_a_pile_needs_less_memory_than_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(400, size=64).numpy()
    np.save(tmp_path / "pile.npy", images)
    names = [str(number) for number in range(400)]
    known = Trust(np.arange(400) < 300, np.zeros(400), np.zeros(400, np.int64), 1.0)
    monkeypatch.setattr(trimming, "trust_likely_normals", lambda *_: known)
    context = FitContext(tmp_path, Compute("cpu", "fp32"), workers=0, progress=RecordedProgress())

    tracemalloc.start()
    divided = divide_pile(tmp_path / "pile.npy", names, names, RECIPE, context)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < images.nbytes / 4
    np.testing.assert_array_equal(divided.pixels["unlabeled"], images[300:])
