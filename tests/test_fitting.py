from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ddad import Cohort, Model, fit
from ddad import normals as normals_module
from ddad.cohorts import Role
from ddad.cohorts import pixels as pixels_module
from ddad.detectors.base import Curves, FitContext
from ddad.detectors.ddad import DDAD
from ddad.errors import CohortError, DdadError, DivergenceError, FitWarning, ImageError, OutputError, SettingError
from ddad.images import MedicalImage
from ddad.planning import say_what_is_not_read
from ddad.training import loop
from ddad.training.checkpoint import load_tensors
from ddad.workspace import Workspace
from support import RecordedProgress, contents, same_tensors, tiny_ddad_plus, tiny_recipe, wait_for, write_images


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    write_images(tmp_path / "normal", 12)
    write_images(tmp_path / "unlabeled", 8, seed=1)
    return Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled")


def normals(folder: Path, count: int, **options: Any) -> Cohort:
    write_images(folder, count, **options)
    return Cohort.from_folders(normal=folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "weights.safetensors")[0]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_fit_is_saved_and_returned_and_leaves_nothing_else(cohort: Cohort, tmp_path: Path) -> None:
    before = names(tmp_path)
    progress = RecordedProgress()
    model = fit(cohort, tiny_recipe(), out=tmp_path / "Modell é", workers=0, progress=progress)
    assert names(tmp_path) == before | {"Modell é"}
    assert same_tensors(weights(tmp_path / "Modell é"), model.detector.state_dict())
    assert all(task.done == task.total for task in progress.tasks)
    assert any("unlabeled" in task.title for task in progress.tasks)
    card = model.card
    assert card["cohort"]["fingerprint"] == cohort.fingerprint()
    assert (card["cohort"]["normal"], card["cohort"]["held_out_normal"], card["cohort"]["unlabeled"]) == (10, 2, 8)
    assert card["held_out_normals"]["of"] == "held-out normals"
    assert card["primary_score"] == "r_dual"
    json.dumps(card, allow_nan=False)


def test_a_fit_without_a_folder_leaves_nothing_on_disk(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = names(tmp_path)
    fit(cohort, tiny_recipe(), workers=0)
    assert names(tmp_path) == before
    assert names(tmp_path / "temporary") == set()


def test_an_archive_with_copies_of_the_normals_does_not_train_on_held_out_ones(cohort: Cohort, tmp_path: Path) -> None:
    """A calibration is made by images that nothing in the fit has seen."""
    plain = fit(cohort, tiny_recipe(), workers=0)
    for path in cohort.paths(Role.NORMAL):
        shutil.copy(path, tmp_path / "unlabeled" / f"copy of {path.name}")
    model = fit(
        Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled"), tiny_recipe(), workers=0
    )
    seen = model.card["cohort"]
    assert (seen["held_out_normal"], seen["unlabeled"], seen["left_out"]) == (2, 18, {"unlabeled": 2})
    assert any(text.startswith("2 of 20 unlabeled images are left out of training") for text in seen["warnings"])
    assert plain.card["cohort"]["left_out"] == {"unlabeled": 0}
    ndm = {name: value for name, value in plain.detector.state_dict().items() if name.startswith("ndm")}
    assert ndm
    assert same_tensors(ndm, {name: model.detector.state_dict()[name] for name in ndm})


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(cohort: Cohort) -> None:
    first, again, other = (fit(cohort, tiny_recipe(seed=seed), workers=0).detector.state_dict() for seed in (0, 0, 1))
    assert same_tensors(first, again)
    assert not same_tensors(first, other)


def test_normals_alone_are_an_ordinary_case(tmp_path: Path) -> None:
    model = fit(normals(tmp_path / "n", 10), tiny_recipe(), workers=0)
    assert model.primary_score == "r_intra"
    assert model.card["cohort"]["unlabeled"] == 0
    assert "a_inter" not in model.card["held_out_normals"]["scores"]


def test_without_a_holdout_the_card_says_that_its_statistics_are_of_training_images(tmp_path: Path) -> None:
    model = fit(normals(tmp_path / "n", 10), tiny_recipe(holdout=0), workers=0)
    assert model.card["cohort"]["held_out_normal"] == 0
    assert model.card["held_out_normals"]["of"] == "training normals"
    assert model.card["held_out_normals"]["count"] == 10


def test_test_images_are_not_touched(cohort: Cohort, tmp_path: Path) -> None:
    """The same model with and without them, even if they are damaged."""
    plain = fit(cohort, tiny_recipe(), workers=0)
    bad = write_images(tmp_path / "test_normal", 3, seed=7)[0]
    bad.write_bytes(b"damaged")
    with_tests = fit(
        Cohort.from_folders(
            normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled", test_normal=tmp_path / "test_normal"
        ),
        tiny_recipe(),
        workers=0,
    )
    assert same_tensors(plain.detector.state_dict(), with_tests.detector.state_dict())
    assert with_tests.card["cohort"]["skipped"] == []


def test_colour_images_are_fitted_in_colour(tmp_path: Path) -> None:
    cohort = normals(tmp_path / "n", 10, colour=True)
    model = fit(cohort, tiny_recipe(images__channels=3), workers=0)
    (finding, *_) = model.score(tmp_path / "n")
    assert finding.pixels.shape == (3, 16, 16)


@pytest.mark.parametrize("detector", ["ddad", "ddad+"])
def test_one_network_without_unlabeled_images_has_no_score(detector: str, tmp_path: Path) -> None:
    """It would be the spread of one network, 0 for every image."""
    cohort = Cohort.from_folders(normal=write_images(tmp_path / "n", 12)[0].parent)
    recipe = tiny_recipe(detector=detector, reconstruction__members=1)
    with pytest.raises(SettingError, match=r"reconstruction\.members: 1, .*--members 2 or more"):
        fit(cohort, recipe, workers=0)
    pile = Cohort.from_folders(unlabeled=tmp_path / "n")
    with pytest.raises(SettingError, match=r"reconstruction\.members: 1, and without unlabeled images"):
        fit(pile, recipe.changed({"trimming.trusted": 1}), workers=0)  # none is left that is unlabeled


def test_colour_that_is_dropped_or_missing_is_told(tmp_path: Path) -> None:
    cohort = normals(tmp_path / "n", 10, colour=True)
    note = "all 10 images are in colour; images.channels=1 keeps their brightness alone"
    assert fit(cohort, tiny_recipe(), workers=0).card["cohort"]["warnings"][0].startswith(note)
    model = fit(cohort, tiny_recipe(images__channels=3), workers=0)
    assert model.card["cohort"]["warnings"] == []
    (finding,) = model.score(write_images(tmp_path / "grey", 1))
    assert finding.warnings[0].startswith("grey image, where images.channels=3 asks for colour")


def test_the_holdout_keeps_groups_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained on and what is held out never share a patient."""
    paths = write_images(tmp_path / "n", 16)
    with (tmp_path / "m.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "role", "group"))
        writer.writerows((path, "normal", f"patient {number % 5}") for number, path in enumerate(paths))
    chosen: dict[bool, list[int]] = {}
    hold_out = normals_module.hold_out_unseen

    def spy(*arguments: Any) -> Any:
        found = hold_out(*arguments)
        chosen.update({False: found[0].tolist(), True: found[1].tolist()})
        return found

    monkeypatch.setattr(normals_module, "hold_out_unseen", spy)
    model = fit(Cohort.from_manifest(tmp_path / "m.csv"), tiny_recipe(holdout=0.3), workers=0)
    assert model.card["cohort"]["held_out_normal"] == len(chosen[True])
    group = {path: number % 5 for number, path in enumerate(paths)}
    trained, held = ({group[paths[index]] for index in chosen[is_held]} for is_held in (False, True))
    assert held
    assert not trained & held
    assert trained | held == set(range(5))


@pytest.mark.parametrize("known", [True, False], ids=["known normals", "a pile"])
def test_a_detector_is_told_the_patient_of_each_image(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The brightness of an image says here whose it is."""
    levels = {who: 20 + 10 * who for who in range(20)}
    rows = []
    for number in range(40):
        who, role = number // 2, "normal" if known and number % 3 else "unlabeled"
        path = tmp_path / f"{number}.png"
        pixels = np.full((16, 16), levels[who], np.uint8)
        pixels[number % 16, :] += 1
        Image.fromarray(pixels).save(path)
        rows.append((path, role, f"patient {who}"))
    pd.DataFrame(rows, columns=["path", "role", "group"]).to_csv(tmp_path / "m.csv", index=False)
    told: dict[Path, list[tuple[int, str]]] = {}

    def spy(self: DDAD, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        for file in filter(None, (normal, unlabeled)):
            seen = np.load(file).min(axis=(1, 2, 3))
            told[file] = [
                (round((level + 1) * 127.5), name) for level, name in zip(seen, context.groups[file], strict=True)
            ]
        return fit_ddad(self, normal, unlabeled, context)

    fit_ddad = DDAD.fit
    monkeypatch.setattr(DDAD, "fit", spy)
    fit(Cohort.from_manifest(tmp_path / "m.csv"), tiny_recipe(holdout=0.2), workers=0)
    assert len(told) == 2
    for images in told.values():
        assert images
        assert all(name == f"patient {(level - 20) // 10}" for level, name in images)


def test_a_bad_image_is_left_out_and_named_in_the_card(cohort: Cohort, tmp_path: Path) -> None:
    bad = sorted((tmp_path / "unlabeled").iterdir())[2]
    bad.write_bytes(bad.read_bytes()[:-30])
    cohort = Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled")
    model = fit(cohort, tiny_recipe(), workers=0)
    assert model.card["cohort"]["unlabeled"] == 7
    ((path, reason),) = model.card["cohort"]["skipped"]
    assert path == str(bad)
    assert reason


def test_images_that_are_smaller_than_the_network_are_named_in_the_card(tmp_path: Path) -> None:
    model = fit(normals(tmp_path / "n", 10), tiny_recipe(images__image_size=32), workers=0)
    assert any("image-0-003.png" in text and "smaller" in text for text in model.card["cohort"]["warnings"])


@pytest.mark.parametrize("count", [1, 7])
def test_too_few_normals_stop_at_once(count: int, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=rf"normal: {count} images?,.*at least 8"):
        fit(normals(tmp_path / "n", count), tiny_recipe(), out=tmp_path / "m", workers=0)
    assert names(tmp_path) == {"n"}
    with pytest.raises(CohortError, match=r"0 of them held out; .* Add known normal images\.$"):
        fit(normals(tmp_path / "m", count), tiny_recipe(holdout=0), workers=0)


def test_what_the_message_about_too_few_normals_says_is_enough(tmp_path: Path) -> None:
    cohort = normals(tmp_path / "n", 8)
    with pytest.raises(CohortError, match=r"8 images, 2 of them held out.*at least 8.*holdout=0"):
        fit(cohort, tiny_recipe(holdout=0.2), out=tmp_path / "m", workers=0)
    assert names(tmp_path) == {"n"}
    assert fit(cohort, tiny_recipe(holdout=0), workers=0).card["cohort"]["normal"] == 8


def test_a_few_unlabeled_images_without_normals_are_too_few(tmp_path: Path) -> None:
    write_images(tmp_path / "u", 12)
    with pytest.raises(CohortError, match="normal: none, and of 12 unlabeled images"):
        fit(Cohort.from_folders(unlabeled=tmp_path / "u"), tiny_recipe(), workers=0)


@pytest.mark.parametrize("role", ["normal", "unlabeled"])
def test_if_no_image_can_be_read_the_first_is_named_and_nothing_is_left(
    role: str, cohort: Cohort, tmp_path: Path
) -> None:
    for path in (tmp_path / role).iterdir():
        path.write_bytes(b"not an image, " + path.name.encode())
    cohort = Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled")
    with pytest.raises(CohortError, match=rf"(?s){role}.*image-\d-\d+\.png") as caught:
        fit(cohort, tiny_recipe(), out=tmp_path / "model", workers=0)
    assert "unknown format" in str(caught.value)
    assert names(tmp_path) == {"normal", "unlabeled"}


def test_after_too_few_usable_images_the_corrected_folder_can_be_fitted(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "n", 12)
    for path in paths[:8]:
        path.write_bytes(b"damaged")
    with pytest.raises(CohortError, match=r"only \d usable"):
        fit(Cohort.from_folders(normal=tmp_path / "n"), tiny_recipe(), out=tmp_path / "m", workers=0)
    write_images(tmp_path / "n", 12)
    fit(Cohort.from_folders(normal=tmp_path / "n"), tiny_recipe(), out=tmp_path / "m", workers=0)
    assert (tmp_path / "m" / "weights.safetensors").is_file()


def test_a_device_that_is_not_there_stops_at_once(cohort: Cohort, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SettingError, match=r"cuda.*--device cpu"):
        fit(cohort, tiny_recipe(), out=tmp_path / "m", device="cuda")
    assert "m" not in names(tmp_path)


def test_an_existing_folder_is_refused_before_any_work(cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "m"
    fit(cohort, tiny_recipe(), out=out, workers=0)
    before, progress = contents(tmp_path), RecordedProgress()
    with pytest.raises(OutputError, match=r"m: exists already.*--overwrite"):
        fit(cohort, tiny_recipe(seed=1), out=out, workers=0, progress=progress)
    assert contents(tmp_path) == before
    assert progress.tasks == []
    fit(cohort, tiny_recipe(seed=1), out=out, workers=0, overwrite=True)
    assert Model.load(out).recipe.seed == 1


def test_a_folder_of_somebody_else_is_never_replaced(cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=str(out)):
            fit(cohort, tiny_recipe(), out=out, workers=0, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_file_in_the_way_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "m").write_text("a file")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is a file"):
            fit(cohort, tiny_recipe(), out=tmp_path / "m", workers=0, overwrite=overwrite)
    assert (tmp_path / "m").read_text() == "a file"


class Stop(BaseException):
    pass


class StoppingProgress(RecordedProgress):
    """Interrupts the fit once a task has made so many steps."""

    def __init__(self, title: str, steps: int) -> None:
        super().__init__()
        self.title, self.steps = title, steps

    def task(self, title: str, total: int):  # type: ignore[no-untyped-def]
        context = super().task(title, total)
        if self.title not in title:
            return context
        own = self

        class Stopping:
            def __enter__(self) -> Any:
                task = context.__enter__()
                advance = task.advance

                def counted(steps: int = 1, *, note: str = "") -> None:
                    advance(steps, note=note)
                    if task.done >= own.steps:
                        raise Stop

                task.advance = counted  # type: ignore[method-assign]
                return task

            def __exit__(self, *exception: object) -> None:
                return None

        return Stopping()


@pytest.mark.parametrize(
    ("title", "steps"),
    [("reading normal", 3), ("reconstruction", 1), ("reconstruction", 5), ("refinement", 1), ("scoring", 1)],
)
def test_an_interrupted_fit_goes_on_and_ends_with_the_same_weights(
    title: str, steps: int, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    recipe = tiny_recipe(reconstruction__ndm_epochs=3, reconstruction__udm_epochs=3, refinement__epochs=3)
    whole = fit(cohort, recipe, out=tmp_path / "whole", workers=0)
    with pytest.raises(Stop):
        fit(cohort, recipe, out=tmp_path / "cut", workers=0, progress=StoppingProgress(title, steps))
    assert not (tmp_path / "cut").exists()
    cut = fit(cohort, recipe, out=tmp_path / "cut", workers=0)
    assert same_tensors(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert whole.card["training_curves"] == cut.card["training_curves"]
    assert whole.card["held_out_normals"] == cut.card["held_out_normals"]
    assert names(tmp_path) == {"normal", "unlabeled", "whole", "cut"}


@pytest.mark.parametrize("changes", [{"seed": 1}, {"images__image_size": 32}, {"refinement__epochs": 2}])
def test_unfinished_work_of_other_settings_is_not_mixed_in(
    changes: dict[str, Any], cohort: Cohort, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    with pytest.raises(Stop):
        fit(cohort, tiny_recipe(), out=out, workers=0, progress=StoppingProgress("reconstruction", 4))
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"unfinished.*--overwrite"):
        fit(cohort, tiny_recipe(**changes), out=out, workers=0)
    assert contents(tmp_path) == before
    fit(cohort, tiny_recipe(**changes), out=out, workers=0, overwrite=True)
    fresh = fit(cohort, tiny_recipe(**changes), workers=0)
    assert same_tensors(weights(out), fresh.detector.state_dict())
    assert names(tmp_path) == {"normal", "unlabeled", "m"}


def test_unfinished_work_of_other_images_is_not_mixed_in(cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "m"
    with pytest.raises(Stop):
        fit(cohort, tiny_recipe(), out=out, workers=0, progress=StoppingProgress("reconstruction", 4))
    write_images(tmp_path / "normal", 1, seed=77)
    changed = Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled")
    with pytest.raises(OutputError, match="unfinished"):
        fit(changed, tiny_recipe(), out=out, workers=0)


def test_a_fit_goes_on_only_with_the_images_that_it_began_with(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one image less, other normals would be held out: some that finished networks were trained on."""
    out = tmp_path / "m"
    with pytest.raises(Stop):
        fit(cohort, tiny_recipe(), out=out, workers=0, progress=StoppingProgress("reconstruction", 4))
    real = pixels_module.read_image

    def away(path: Path) -> MedicalImage:
        if path == cohort.paths(Role.NORMAL)[0]:
            raise ImageError(path, "Stale file handle")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(pixels_module, "read_image", away)
        with pytest.raises(CohortError, match=r"known normal images: what can be read now.*m\.unfinished"):
            fit(cohort, tiny_recipe(), out=out, workers=0)
    assert same_tensors(
        fit(cohort, tiny_recipe(), out=out, workers=0).detector.state_dict(),
        fit(cohort, tiny_recipe(), workers=0).detector.state_dict(),
    )


def test_a_file_that_vanishes_while_networks_are_trained_costs_nothing(tmp_path: Path) -> None:
    for name, seed in (("normal", 0), ("unlabeled", 1), ("test", 2)):
        write_images(tmp_path / name, 12, seed=seed)
    cohort = Cohort.from_folders(
        normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled", test_normal=tmp_path / "test"
    )

    class Removing(RecordedProgress):
        @contextmanager
        def task(self, title: str, total: int) -> Iterator[Any]:
            if title.startswith("reconstruction"):
                shutil.rmtree(tmp_path / "test")
            with super().task(title, total) as task:
                yield task

    assert fit(cohort, tiny_recipe(), workers=0, progress=Removing()).card["cohort"]["warnings"] == []


def test_a_fit_in_this_process_ends_with_the_weights_of_a_worker(cohort: Cohort) -> None:
    one, other = (fit(cohort, tiny_recipe(reconstruction__members=1), workers=workers) for workers in (0, 1))
    assert same_tensors(one.detector.state_dict(), other.detector.state_dict())


def test_a_fit_that_was_killed_after_saving_can_be_run_again(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any moment: also between the last file of the model and the removal of the workspace."""

    def killed(_: object) -> None:
        raise Stop

    monkeypatch.setattr(Workspace, "remove", killed)
    with pytest.raises(Stop):
        fit(cohort, tiny_recipe(), out=tmp_path / "m", workers=0)
    monkeypatch.undo()
    fit(cohort, tiny_recipe(), out=tmp_path / "m", workers=0)
    assert names(tmp_path) == {"normal", "unlabeled", "m"}


KILLED_RECIPE = {f"reconstruction__{name}": value for name, value in {"members": 1, "ndm_epochs": 40}.items()}
KILLED_FIT = """
import sys
from pathlib import Path
from support import tiny_recipe
from ddad import Cohort, fit
from ddad.training import loop
loop.SECONDS_BETWEEN_CHECKPOINTS = 0
folder = Path(sys.argv[1])
cohort = Cohort.from_folders(normal=folder / "normal", unlabeled=folder / "unlabeled")
fit(cohort, tiny_recipe(**RECIPE), out=folder / "cut", workers=0)
""".replace("RECIPE", repr(KILLED_RECIPE))


def test_a_killed_fit_goes_on_and_ends_with_the_same_weights(cohort: Cohort, tmp_path: Path) -> None:
    """SIGKILL while a network is trained, as by the out-of-memory killer or a lost machine."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}

    process = subprocess.Popen([sys.executable, "-c", KILLED_FIT, str(tmp_path)], env=environment)
    workspace = tmp_path / "cut.unfinished"
    assert wait_for(lambda: list(workspace.glob("*.checkpoint")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut").exists()
    assert workspace.is_dir()
    for out in ("cut", "whole"):
        fit(cohort, tiny_recipe(**KILLED_RECIPE), out=tmp_path / out, workers=0)
    assert same_tensors(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert names(tmp_path) == {"normal", "unlabeled", "cut", "whole"}


@pytest.mark.slow
def test_worker_processes_give_the_same_weights_however_many(tmp_path: Path) -> None:
    cohort, recipe = normals(tmp_path / "n", 10), tiny_recipe()
    one, two = (fit(cohort, recipe, workers=workers) for workers in (1, 2))
    assert same_tensors(one.detector.state_dict(), two.detector.state_dict())


def test_a_failing_network_is_an_error_and_the_finished_ones_are_kept(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise DdadError("no refinement today")

    monkeypatch.setattr("ddad.training.refinement.train_refiners_job", fail)
    with pytest.raises(DdadError, match="no refinement today"):
        fit(cohort, tiny_recipe(), out=tmp_path / "m", workers=0)
    assert not (tmp_path / "m").exists()
    monkeypatch.undo()
    progress = RecordedProgress()
    fit(cohort, tiny_recipe(), out=tmp_path / "m", workers=0, progress=progress)
    (stage_1,) = (task for task in progress.tasks if "reconstruction" in task.title)
    assert stage_1.notes == [""] * 4


def test_a_network_that_diverges_is_named_and_the_fit_can_be_run_anew(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddad.training.loop.learning_rate", lambda *_: float("nan"))
    with pytest.raises(DivergenceError, match=r"^UDM network 1 of .*diverged.*the recipe's section reconstruction"):
        fit(cohort, tiny_recipe(), out=tmp_path / "m", workers=0)
    monkeypatch.undo()
    fit(cohort, tiny_recipe(seed=1), out=tmp_path / "m", workers=0)  # without --overwrite


def test_abnormal_images_go_to_a_detector_that_takes_them(tmp_path: Path) -> None:
    folders = {name: tmp_path / f"many-{name}" for name in ("normal", "unlabeled", "abnormal")}
    for number, (folder, count) in enumerate(zip(folders.values(), (26, 24, 3), strict=True)):
        write_images(folder, count, seed=5 + number)
    given = Cohort.from_folders(**folders)
    with pytest.raises(SettingError, match=r"detector ddad learns from no abnormal image. Take --detector ddad\+"):
        fit(given, tiny_recipe(), out=tmp_path / "m", workers=0)
    recipe = tiny_ddad_plus(classification__epochs=1, fusion__folds=2)
    with pytest.raises(CohortError, match=r"there are none\. Add --unlabeled"):
        fit(Cohort.from_folders(normal=folders["normal"], abnormal=folders["abnormal"]), recipe, workers=0)
    assert not (tmp_path / "m.unfinished").exists()
    model = fit(given, recipe, out=tmp_path / "m", workers=0)
    assert model.card["cohort"]["abnormal"] == 3
    assert set(given.digests(Role.ABNORMAL)) <= set(model.card["cohort"]["digests"])
    without = Cohort.from_folders(normal=folders["normal"], unlabeled=folders["unlabeled"])
    assert not same_tensors(fit(without, recipe, workers=0).detector.state_dict(), model.detector.state_dict())


def test_abnormal_images_that_few_others_leave_unused_are_told(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("normal", "unlabeled", "abnormal")}
    for number, (folder, count) in enumerate(zip(folders.values(), (11, 8, 3), strict=True)):
        write_images(folder, count, seed=5 + number)
    recipe = tiny_ddad_plus(classification__epochs=1, fusion__folds=2)
    seen = fit(Cohort.from_folders(**folders), recipe, workers=0).card["cohort"]
    assert (seen["normal"], seen["unlabeled"], seen["abnormal"]) == (9, 8, 0)
    assert any(
        text.startswith("the 3 known abnormal images were not learned from: too few") for text in seen["warnings"]
    )


def test_normals_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    (one,) = write_images(tmp_path / "n", 1)
    for number in range(9):
        shutil.copy(one, tmp_path / "n" / f"copy{number}.png")
    with pytest.raises(CohortError, match="all 8 usable images are the same at 16 pixels"):
        fit(Cohort.from_folders(normal=tmp_path / "n"), tiny_recipe(), workers=0)


def test_few_normals_are_said_to_be_few(cohort: Cohort) -> None:
    progress = RecordedProgress()
    fit(cohort, tiny_recipe(reconstruction__move_below=10), workers=0, progress=progress)
    few = "10 normal images are few: an epoch goes over them several times"
    assert few in progress.messages
    assert not any("turned" in message for message in progress.messages)
    fit(cohort, tiny_recipe(reconstruction__move_below=11), workers=0, progress=progress)
    assert any("turned" in message and message.endswith("fewer than 11") for message in progress.messages)


def test_a_setting_that_is_not_read_is_said_to_have_no_effect(cohort: Cohort, tmp_path: Path) -> None:
    def said(cohort: Cohort, **changes: object) -> list[str]:
        progress = RecordedProgress()
        fit(cohort, tiny_recipe(**changes), workers=0, progress=progress)
        return [message for message in progress.messages if "has no effect" in message]

    assert said(cohort) == []
    unread = ["igd.epochs has no effect: a fit of ddad on these images does not read it"]
    assert said(cohort, igd__epochs=3) == unread
    assert len(said(cohort, trimming__rounds=1)) == 1
    assert len(said(cohort, reconstruction__memory_slots=7)) == 1
    assert said(cohort, reconstruction__backbone="memae", reconstruction__memory_slots=7) == []
    own = said(cohort, detector="ae", reconstruction__members=7, reconstruction__ndm_epochs=3)
    assert "reconstruction.members has no effect: a fit of ae on these images does not read it" in own
    assert not any("ndm_epochs" in text for text in own)
    progress = RecordedProgress()
    others = ("igd", "ganomaly", "f_anogan", "cutpaste", "segmentation", "classification")
    many = tiny_recipe(**{f"{other}__{field}": 7 for other in others for field in ("batch_size", "least_steps")})
    say_what_is_not_read(cohort, many, progress)
    (line,) = progress.messages
    assert line.endswith("and 2 more settings have no effect: a fit of ddad on these images does not read them")
    progress = RecordedProgress()
    given = tiny_recipe(igd__epochs=3, ganomaly__epochs=4)
    say_what_is_not_read(cohort, given, progress, [given.changed({"detector": "igd"})])
    assert [message.partition(" ")[0] for message in progress.messages] == ["ganomaly.epochs"]
    pile = Cohort.from_folders(unlabeled=write_images(tmp_path / "pile", 24)[0].parent)
    assert said(pile, trimming__rounds=1) == []


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("data/normal",), {}, r"cohort: wants a Cohort, and got a str.*from_folders"),
        ((Cohort.__new__(Cohort), "fast"), {}, "recipe: wants a Recipe, and got a str"),
        ((Cohort.__new__(Cohort), {}), {}, "recipe: wants a Recipe, and got a dict"),
        ((Cohort.__new__(Cohort),), {"device": "gpu"}, "device: 'gpu' is unknown"),
        ((Cohort.__new__(Cohort),), {"workers": -1}, "workers: -1"),
        ((Cohort.__new__(Cohort),), {"progress": True}, "progress: True .*terminal_progress"),
    ],
)
def test_an_argument_that_a_fit_does_not_know_is_named(arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        fit(*arguments, **options)


def test_one_network_of_each_module_is_enough_beside_unlabeled_images(cohort: Cohort) -> None:
    model = fit(cohort, tiny_recipe(reconstruction__members=1), workers=0)
    assert len(set(model.card["held_out_normals"]["scores"]["r_dual"])) > 1


def test_in_python_a_fit_warns_of_what_the_command_line_says(tmp_path: Path) -> None:
    write_images(tmp_path / "n", 12)
    (tmp_path / "n" / "bad.png").write_bytes(b"")
    (tmp_path / "n" / "notes.txt").write_text("nothing")
    cohort = Cohort.from_folders(normal=tmp_path / "n")
    with pytest.warns(FitWarning) as told:
        fit(cohort, tiny_recipe(), workers=0)
    assert all(Path(warning.filename) == Path(__file__) for warning in told)
    texts = [str(warning.message) for warning in told]
    assert texts[0].startswith("files skipped: 1, the first: ")
    assert any("1 file left out" in text for text in texts)
    assert any("no image can be flagged" in text for text in texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(cohort, tiny_recipe(), workers=0, progress=RecordedProgress())
