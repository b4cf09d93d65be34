from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ddad import Cohort, Model
from ddad.detectors import FitContext
from ddad.detectors.base import Detector
from ddad.errors import CohortError, DivergenceError, OutputError, SettingError
from ddad.selecting import Candidate, best
from ddad.selecting.best import fit_best
from ddad.workspace import Workspace
from support import RecordedProgress, run_cli, tiny_options, tiny_recipe, write_images

CANDIDATES = (
    Candidate("as given"),
    Candidate("one network", {"reconstruction.members": 1}),
    Candidate("classifier", {"detector": "normal-vs-unlabeled"}),
)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    write_images(tmp_path / "normal", 70)
    write_images(tmp_path / "unlabeled", 60, seed=1)
    return Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled")


class Judge:
    """Stands for the training of candidates: says what each would score, and remembers who was tried on what."""

    def __init__(self, shifts: dict[str, float], fails: str = "", diverges: tuple[str, ...] = ()) -> None:
        self.shifts, self.fails, self.diverges = shifts, fails, diverges
        self.tried: list[str] = []
        self.images: dict[str, set[bytes]] = {}

    def __call__(
        self, detector: Detector, normal: Path, unlabeled: Path, images: NDArray[np.float32], context: FitContext
    ) -> Any:
        name = {"normal-vs-unlabeled": "classifier"}.get(detector.name) or (
            "one network" if detector.recipe.reconstruction.members == 1 else "as given"
        )
        if name == self.fails:
            raise KeyboardInterrupt
        self.tried.append(name)
        if name in self.diverges:
            raise DivergenceError("loss is nan")
        for file in (normal, unlabeled):  # each image is of a patient of its own
            assert len(set(context.groups[file])) == len(np.load(file))
            assert all(file.stem in Path(name).parts for name in context.groups[file])
        self.images = {
            "fitted": {image.tobytes() for file in (normal, unlabeled) for image in np.load(file)},
            "judged": {image.tobytes() for image in np.asarray(images)},
        }
        drawn = np.random.default_rng(len(self.tried)).normal(size=len(images))
        return drawn + self.shifts[name] * (np.arange(len(images)) >= len(images) // 2)


def judged_by(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> Judge:
    monkeypatch.setattr(best, "score_held_out", judge)
    return judge


def test_the_chosen_candidate_is_fitted_on_all_images(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = judged_by(Judge({"as given": 0, "one network": 4, "classifier": 0}), monkeypatch)
    before = {path.name for path in tmp_path.iterdir()}
    model = fit_best(cohort, tiny_recipe(), CANDIDATES, out=tmp_path / "m", workers=0)
    assert judge.tried == ["as given", "one network", "classifier"]
    assert judge.images["judged"]
    assert not judge.images["fitted"] & judge.images["judged"]
    assert len(judge.images["fitted"]) + len(judge.images["judged"]) == 56 + 60  # not the normals held out of the fit
    assert model.recipe.reconstruction.members == 1
    card = Model.load(tmp_path / "m").card
    assert (card["cohort"]["normal"], card["cohort"]["unlabeled"]) == (56, 60)
    assert card["selection"]["chosen"] == card["selection"]["best"] == "one network"
    assert [row["name"] for row in card["selection"]["candidates"]] == judge.tried
    assert card["selection"]["candidates"][1]["changes"] == {"reconstruction.members": 1}
    assert model.summary()["selection"] == model.card["selection"]
    assert {path.name for path in tmp_path.iterdir()} == before | {"m"}


def test_copies_of_normals_held_out_of_the_fit_choose_nothing(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in cohort.paths("normal"):
        shutil.copy(path, tmp_path / "unlabeled" / f"copy of {path.name}")
    archive = Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled")
    judge = judged_by(Judge({"as given": 0}, fails="one network"), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fit_best(archive, tiny_recipe(), CANDIDATES, out=tmp_path / "m", workers=0)
    assert len(judge.images["fitted"] | judge.images["judged"]) == 56 + 60


def test_a_candidate_is_tried_in_its_own_precision(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def judge(detector: Detector, normal: Path, unlabeled: Path, images: Any, context: FitContext) -> Any:  # noqa: ARG001
        tried.append((detector.recipe.precision, context.compute.precision))
        return np.random.default_rng(0).normal(size=len(images))

    monkeypatch.setattr(best, "score_held_out", judge)
    candidates = (Candidate("as given"), Candidate("other", {"precision": "bf16"}))
    fit_best(cohort, tiny_recipe(), candidates=candidates, out=tmp_path / "m", workers=0)
    assert tried == [("fp32", "fp32"), ("bf16", "bf16")]


def test_candidates_that_were_tried_are_not_tried_again(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts = {"as given": 0.0, "one network": 4.0, "classifier": 0.0}
    first = judged_by(Judge(shifts, fails="classifier"), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fit_best(cohort, tiny_recipe(), CANDIDATES, out=tmp_path / "m", workers=0)
    assert first.tried == ["as given", "one network"]
    with pytest.raises(OutputError, match="other settings"):
        fit_best(cohort, tiny_recipe(seed=1), CANDIDATES, out=tmp_path / "m", workers=0)
    second = judged_by(Judge(shifts), monkeypatch)
    progress = RecordedProgress()
    fit_best(cohort, tiny_recipe(), CANDIDATES, out=tmp_path / "m", workers=0, progress=progress)
    assert second.tried == ["classifier"]
    assert "candidate 2 of 3: one network, tried before" in progress.messages


def test_no_candidate_is_begun_once_the_budget_is_spent(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = judged_by(Judge({"as given": 0, "one network": 4, "classifier": 0}), monkeypatch)
    progress = RecordedProgress()
    model = fit_best(cohort, tiny_recipe(), CANDIDATES, budget=0, out=tmp_path / "m", workers=0, progress=progress)
    assert judge.tried == ["as given"]
    assert model.card["selection"]["not_tried"] == ["one network", "classifier"]
    assert "the budget is spent; not tried: one network; classifier" in progress.messages


def test_candidates_that_diverge_are_left_out(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_by(Judge({"one network": 4, "classifier": 0}, diverges=("as given",)), monkeypatch)
    progress = RecordedProgress()
    model = fit_best(cohort, tiny_recipe(), CANDIDATES, out=tmp_path / "m", workers=0, progress=progress)
    assert "candidate as given is left out: loss is nan" in progress.messages
    assert model.card["selection"]["chosen"] == "one network"
    assert model.card["selection"]["diverged"] == ["as given"]
    assert [row["name"] for row in model.card["selection"]["candidates"]] == ["one network", "classifier"]

    judged_by(Judge({}, diverges=("as given", "one network", "classifier")), monkeypatch)
    with pytest.raises(DivergenceError, match=r"no candidate learned\. The first: loss is nan"):
        fit_best(cohort, tiny_recipe(), CANDIDATES, out=tmp_path / "other", workers=0)
    assert not list(tmp_path.glob("other*"))


def test_a_finished_selection_is_taken_as_it_is_unless_there_is_more_budget(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def select(budget: float) -> Model:
        return fit_best(cohort, tiny_recipe(), CANDIDATES, budget=budget, out=tmp_path / "m", workers=0, overwrite=True)

    judge = judged_by(Judge({"as given": 0, "one network": 4, "classifier": 0}), monkeypatch)
    first = select(0)
    assert select(0).card == first.card
    assert judge.tried == ["as given"]
    assert select(3600).card["selection"]["not_tried"] == []
    assert judge.tried == ["as given", "as given", "one network", "classifier"]


def test_the_fit_of_the_chosen_candidate_goes_on_also_with_more_budget(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(RecordedProgress):
        def task(self, title: str, total: int):  # type: ignore[no-untyped-def]
            if "refinement" in title:
                raise KeyboardInterrupt
            return super().task(title, total)

    judge = judged_by(Judge({"as given": 4, "one network": 0, "classifier": 0}), monkeypatch)
    options: dict[str, Any] = {"out": tmp_path / "m", "workers": 0}
    with pytest.raises(KeyboardInterrupt):
        fit_best(cohort, tiny_recipe(), CANDIDATES, budget=0, progress=Killed(), **options)
    progress = RecordedProgress()
    fit_best(cohort, tiny_recipe(), CANDIDATES, progress=progress, **options)
    assert judge.tried == ["as given", "one network", "classifier"]
    (stage_1,) = (task for task in progress.tasks if "reconstruction" in task.title)
    assert stage_1.notes == [""] * 4  # its networks were there
    assert {path.name for path in tmp_path.iterdir()} == {"normal", "unlabeled", "m"}


def test_a_selection_that_was_killed_after_saving_can_be_run_again(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object) -> None:
        raise KeyboardInterrupt

    judge = judged_by(Judge({"as given": 4, "one network": 0, "classifier": 0}), monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            fit_best(cohort, tiny_recipe(), CANDIDATES, out=tmp_path / "m", workers=0)
    fit_best(cohort, tiny_recipe(), CANDIDATES, out=tmp_path / "m", workers=0)
    assert len(judge.tried) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"normal", "unlabeled", "m"}


def test_every_candidate_is_checked_before_the_first_is_tried(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = judged_by(Judge({"as given": 0}), monkeypatch)
    with pytest.raises(CohortError, match="normal: 70 images"):
        fit_best(cohort, tiny_recipe(holdout=0.95), CANDIDATES, out=tmp_path / "m", workers=0)
    assert judge.tried == []


def test_workers_are_checked_before_anything_is_read(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="workers: -1"):
        fit_best(cohort, tiny_recipe(), CANDIDATES, out=tmp_path / "m", workers=-1)


def test_what_selection_needs(tmp_path: Path) -> None:
    write_images(tmp_path / "n", 60)
    write_images(tmp_path / "u", 60, seed=1)
    write_images(tmp_path / "a", 3, seed=2)
    folders = {"normal": tmp_path / "n", "unlabeled": tmp_path / "u", "abnormal": tmp_path / "a"}
    for names, message in (
        (("normal",), "no unlabeled images"),
        (("unlabeled",), "no normal images"),
        (("normal", "unlabeled", "abnormal"), "known to be abnormal"),
    ):
        with pytest.raises(CohortError, match=message):
            fit_best(Cohort.from_folders(**{name: folders[name] for name in names}), tiny_recipe(), CANDIDATES)


def test_the_command_line_selects(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With real candidates, on real files."""
    del cohort
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps([{"name": "one network", "set": {"reconstruction.members": 1}}]))
    folders = ("--normal", tmp_path / "normal", "--unlabeled", tmp_path / "unlabeled")
    options = ("--out", tmp_path / "m", "--select", mine, "--budget", "2h", *tiny_options())
    outcome = run_cli(monkeypatch, capsys, "fit", *folders, *options)
    assert outcome.code == 0, outcome.err
    assert "one network" in outcome.out
    assert "Chosen: " in outcome.out
    model = Model.load(tmp_path / "m")
    held = model.card["selection"]["held_out"]
    assert 8 <= held["normal"] <= 14
    assert 9 <= held["unlabeled"] <= 15
    for arguments, message in (
        (("--budget", "30m"), "goes with --select"),
        (("--select", "auto", "--budget", "30"), "write a time with its unit"),
        (("--select", tmp_path / "none.yaml"), "write auto, or name"),
    ):
        refused = run_cli(monkeypatch, capsys, "fit", *folders, "--out", tmp_path / "other", *arguments)
        assert refused.code == 1
        assert message in refused.err
