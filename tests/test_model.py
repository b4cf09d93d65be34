from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from ddad import Cohort, Model, fit, read_image
from ddad import model as model_module
from ddad.cohorts import SkippedImage
from ddad.detectors.base import Scored
from ddad.errors import CohortError, ImageError, ModelError, OutputError, SettingError
from ddad.evaluation.calibration import Calibration
from ddad.files import sha256
from ddad.training.device import Compute
from support import contents, random_images, same_tensors, tiny_recipe, write_images


@cache
def fitted(unlabeled: bool = True) -> Model:
    folder = Path(mkdtemp())
    write_images(folder / "normal", 12)
    write_images(folder / "unlabeled", 8, seed=1)
    cohort = Cohort.from_folders(normal=folder / "normal", unlabeled=folder / "unlabeled" if unlabeled else None)
    model = fit(cohort, tiny_recipe(), workers=0)
    shutil.rmtree(folder)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "Modell é 1"
    fitted().save(folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "neue Bilder ü", 5, seed=3)


def change_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Alter a model card and make the checksums fit, as another program would."""
    card = json.loads((folder / "model_card.json").read_text())
    change(card)
    (folder / "model_card.json").write_text(json.dumps(card))
    renew_checksums(folder)


def renew_checksums(folder: Path) -> None:
    file = folder / "checksums.json"
    file.write_text(json.dumps({name: sha256(folder / name) for name in json.loads(file.read_text())}))


@pytest.mark.parametrize("unlabeled", [True, False])
def test_a_loaded_model_gives_the_same_scores(unlabeled: bool, images: list[Path], tmp_path: Path) -> None:
    model = fitted(unlabeled)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    assert loaded.recipe == model.recipe
    assert loaded.primary_score == model.primary_score == ("r_dual" if unlabeled else "r_intra")
    assert same_tensors(loaded.detector.state_dict(), model.detector.state_dict())
    for before, after in zip(model.score(images), loaded.score(images), strict=True):
        assert after.scores == before.scores
        assert after.score == after.scores[loaded.primary_score]
        for name, score_map in before.maps.items():
            np.testing.assert_array_equal(after.maps[name], score_map)


def test_a_model_folder_holds_weights_recipe_card_and_nothing_that_runs(saved: Path) -> None:
    assert (saved / ".ddad").read_bytes() == b""
    assert {path.name for path in saved.iterdir()} == {
        "weights.safetensors",
        "recipe.json",
        "model_card.json",
        "checksums.json",
        "calibration.json",
        ".ddad",
    }
    card = json.loads((saved / "model_card.json").read_text())
    assert card["cohort"]["normal"] + card["cohort"]["held_out_normal"] == 12
    assert card["cohort"]["unlabeled"] == 8
    assert len(card["cohort"]["fingerprint"]) == 64
    assert card["seed"] == 0
    assert {"python", "torch", "numpy"} <= set(card["versions"])
    assert {len(curve) for name, curve in card["training_curves"].items() if "members" in name} == {2}
    held = card["held_out_normals"]
    assert held["count"] == card["cohort"]["held_out_normal"]
    assert all(len(scores) == held["count"] for scores in held["scores"].values())
    assert str(saved.parent) not in json.dumps(card)


def test_a_saved_model_can_be_moved_and_saved_again_unchanged(saved: Path, tmp_path: Path) -> None:
    moved = saved.rename(tmp_path / "moved")
    Model.load(moved).save(tmp_path / "again")
    assert contents(moved) == contents(tmp_path / "again")


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.json", "model_card.json"])
@pytest.mark.parametrize("damage", ["one byte", "truncated", "empty"])
def test_an_altered_file_is_named(name: str, damage: str, saved: Path) -> None:
    content = bytearray((saved / name).read_bytes())
    match damage:
        case "one byte":
            content[-2] ^= 1
        case "truncated":
            del content[len(content) // 2 :]
        case "empty":
            content.clear()
    (saved / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: was altered"):
        Model.load(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}"])
def test_damaged_checksums_are_an_error_of_the_model(content: bytes, saved: Path) -> None:
    (saved / "checksums.json").write_bytes(content)
    with pytest.raises(ModelError, match=str(saved)):
        Model.load(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.json", "model_card.json", "checksums.json"])
def test_a_missing_file_is_named(name: str, saved: Path) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelError, match=name):
        Model.load(saved)


def test_a_folder_that_is_missing_foreign_or_a_file_is_named(tmp_path: Path, images: list[Path]) -> None:
    for place in (tmp_path / "none", images[0].parent, images[0]):
        with pytest.raises(ModelError, match=str(place)):
            Model.load(place)


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.update(format="anomalib"),
        lambda card: card.pop("format"),
        lambda card: card.update(detector="patchcore"),
        lambda card: card.pop("detector"),
        lambda card: card.update(format_version=99),
        lambda card: card.pop("format_version"),
        lambda card: card.update(format_version="one"),
        lambda card: card.update(detector=["ddad"]),
    ],
)
def test_a_model_of_another_program_or_a_later_version_is_refused(
    change: Callable[[dict[str, Any]], object], saved: Path
) -> None:
    change_card(saved, change)
    with pytest.raises(ModelError, match=str(saved)):
        Model.load(saved)


def test_a_later_version_is_said_to_be_one(saved: Path) -> None:
    change_card(saved, lambda card: card.update(format_version=99))
    with pytest.raises(ModelError, match=r"later version.*update"):
        Model.load(saved)


@pytest.mark.parametrize("recipe", ['{"refinement": {"colour": 3}}', '{"images": {"image_size": 32}}', "[1]", "{"])
def test_a_recipe_that_does_not_fit_is_an_error_of_the_model(recipe: str, saved: Path) -> None:
    (saved / "recipe.json").write_text(recipe)
    renew_checksums(saved)
    with pytest.raises(ModelError):
        Model.load(saved)


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("known", [True, False], ids=["checksums fit", "checksums do not fit"])
@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.json", "model_card.json"])
def test_a_pickle_in_a_models_place_is_never_unpickled(name: str, known: bool, saved: Path, tmp_path: Path) -> None:
    trace = tmp_path / "was here"
    (saved / name).write_bytes(pickle.dumps(Trap(trace)))
    if known:
        renew_checksums(saved)
    with pytest.raises(ModelError):
        Model.load(saved)
    assert not trace.exists()


def test_an_existing_folder_is_kept_unless_it_may_be_replaced(saved: Path) -> None:
    before = contents(saved)
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        fitted(False).save(saved)
    assert contents(saved) == before
    fitted(False).save(saved, overwrite=True)
    assert Model.load(saved).primary_score == "r_intra"
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_failed_save_leaves_nothing_and_keeps_the_old_model(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for place, overwrite in ((tmp_path / "new", False), (saved, True)):
        with pytest.raises(OutputError, match="the disk is full"):
            fitted().save(place, overwrite=overwrite)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == [saved.name]


def test_findings_come_in_order_with_everything_known_of_their_image(images: list[Path]) -> None:
    model = fitted()
    findings = list(model.score(images))
    assert [finding.path for finding in findings] == [str(path) for path in images]
    for finding in findings:
        assert finding.source_size == (20, 20)
        assert finding.pixels.shape == (1, 16, 16)
        assert set(finding.maps) == set(finding.scores)
        assert all(score_map.shape == (16, 16) for score_map in finding.maps.values())
        assert model.calibration is not None
        assert finding.p_value == model.calibration.p_value(finding.score)
        assert model.calibration.caution() is not None
        assert (finding.flagged, finding.calibration) == (None, model.calibration)  # False would read as normal
    enough = model.calibration.at(model.calibration.lowest_p_value)  # type: ignore[union-attr]
    flags = [finding.flagged for finding in Model(model.detector, model.card, enough).score(images)]
    assert flags == [enough.flags(finding.score) for finding in findings]
    folder = list(model.score(images[0].parent))
    assert [finding.score for finding in folder] == [finding.score for finding in findings]


def test_a_score_does_not_change_with_batch_order_neighbours_or_workers(images: list[Path], tmp_path: Path) -> None:
    model = fitted()
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    expected = {finding.path: finding.scores for finding in model.score(images)}

    def scores(paths: list[Path], **options: Any) -> dict[str, dict[str, float]]:
        return {f.path: f.scores for f in model.score(paths, on_skipped=lambda _: None, **options)}

    assert scores(images[::-1]) == expected
    assert scores([images[0], bad, *images[1:]], workers=1) == expected
    assert scores(images, workers=4) == expected
    for path in images:
        assert scores([path]) == {str(path): expected[str(path)]}
    others = write_images(tmp_path / "others", 4, seed=9)
    found = scores([*others, *images])
    assert {path: found[path] for path in expected} == expected


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_an_image_whose_score_is_no_number_is_skipped(
    is_calibrated: bool, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted()
    if is_calibrated:
        model.calibration = Calibration.from_scores(range(40), range(40), of="normals", score=model.primary_score)
    score_block = model.detector._score_block

    def broken(block: Tensor, compute: Compute) -> Scored:
        scored = score_block(block, compute)
        scored.scores["r_intra"][1] = float("nan")
        return scored

    monkeypatch.setattr(model.detector, "_score_block", broken)
    skipped: list[SkippedImage] = []
    findings = list(model.score(images, on_skipped=skipped.append))
    assert [finding.path for finding in findings] == [str(path) for path in (images[0], *images[2:])]
    ((path, reason, blank),) = skipped
    assert (path, blank) == (images[1], False)
    assert reason.startswith("its score is no number (r_intra nan)")


def test_a_model_scores_in_the_precision_of_its_recipe_with_all_cores_unless_told_otherwise(
    images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    choose, read = Compute.choose, model_module.iterate
    monkeypatch.setattr(Compute, "choose", lambda device, precision: asked.append(precision) or choose(device, "fp32"))
    monkeypatch.setattr(
        model_module, "iterate", lambda *all_, workers, **rest: asked.append(workers) or read(*all_, workers=1, **rest)
    )
    monkeypatch.setattr(model_module, "processor_cores", lambda: 7)
    list(fitted().score(images))
    list(fitted().score(images, precision="bf16", workers=3))
    assert asked == ["fp32", 7, "bf16", 3]


def test_prepared_pixels_score_as_files_do(images: list[Path]) -> None:
    model = fitted()
    findings = list(model.score(images, device="cpu", precision="fp32"))
    pixels = np.stack([finding.pixels for finding in findings])
    scored = list(model.score_pixels(pixels, Compute("cpu", "fp32")))
    assert [scores for scores, _ in scored] == [finding.scores for finding in findings]
    assert list(model.score_pixels(pixels[:0], Compute("cpu", "fp32"))) == []


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_an_image_in_memory_scores_as_its_file_does(colour: bool, tmp_path: Path) -> None:
    (path,) = write_images(tmp_path, 1, seed=4, colour=colour)
    (of_file,) = fitted().score(path)
    for source in (path, str(path), path.read_bytes(), np.asarray(Image.open(path)), read_image(path)):
        finding = fitted().score_image(source, name="upload")
        assert finding.path == "upload"
        assert finding.scores == of_file.scores
        assert (finding.p_value, finding.flagged) == (of_file.p_value, of_file.flagged)
        assert (finding.source_size, finding.warnings) == (of_file.source_size, of_file.warnings)
        for name, score_map in of_file.maps.items():
            np.testing.assert_array_equal(finding.maps[name], score_map)
    without = fitted().score_image(path, maps=False)
    assert (without.path, without.maps, without.scores) == (str(path), {}, of_file.scores)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(10), "damaged PNG"),
        (np.full((20, 20), 7, np.uint8), "constant image"),
        (np.full((20, 20), np.nan), "NaN"),
        (np.zeros((0, 20)), "no pixels"),
        (np.zeros((4, 20, 20)), r"shape \(4, 20, 20\)"),
        (np.zeros((20, 20), complex), "complex128"),
        ([[1, 2], [3, 4]], "is a list: give a path"),
    ],
)
def test_an_image_in_memory_that_cannot_be_used_is_named(image: Any, reason: str) -> None:
    with pytest.raises(ImageError, match=f"upload: .*{reason}"):
        fitted().score_image(image, name="upload")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device: 'gpu' is unknown. Use auto, cpu or cuda"),
        ({"precision": "fp16"}, "precision: 'fp16' is unknown. Use auto, fp32 or bf16"),
        ({"workers": -1}, "workers: -1"),
        ({"selection": "middle"}, r"selection: wants a Selection, and got a str.*Selection\('middle'\)"),
    ],
)
def test_an_argument_that_scoring_does_not_know_is_named(
    options: dict[str, Any], message: str, images: list[Path]
) -> None:
    with pytest.raises(SettingError, match=message):
        list(fitted().score(images, **options))


def test_an_image_that_is_given_for_a_path_is_sent_to_where_it_is_taken(images: list[Path]) -> None:
    for image in (read_image(images[0]), images[0].read_bytes(), np.zeros((2, 2))):
        with pytest.raises(CohortError, match=r"is no path.*Model\.score_image"):
            list(fitted().score([image]))  # type: ignore[list-item]
    with pytest.raises(ImageError, match=r"^bytes: is no path.*Model\.score_image"):
        read_image(images[0].read_bytes())  # type: ignore[arg-type]


def test_a_bad_file_is_skipped_with_its_reason_and_the_rest_goes_on(images: list[Path], tmp_path: Path) -> None:
    flat, cut, none = tmp_path / "flat.png", tmp_path / "cut.png", tmp_path / "none.png"
    Image.new("L", (20, 20), 7).save(flat)
    cut.write_bytes(images[0].read_bytes()[:-40])
    skipped: list[Any] = []
    findings = list(fitted().score([flat, *images, cut, none], on_skipped=skipped.append))
    assert [finding.path for finding in findings] == [str(path) for path in images]
    assert [image.path for image in skipped] == [flat, cut, none]
    assert "constant" in skipped[0].reason
    assert all(image.reason for image in skipped)


def test_without_a_listener_a_skipped_file_is_warned_of(images: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    with pytest.warns(UserWarning, match=r"bad\.png"):
        assert len(list(fitted().score([bad, *images]))) == 5


def test_nothing_to_score_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match="empty"):
        list(fitted().score(tmp_path / "empty"))
    with pytest.raises(CohortError, match="no image"):
        list(fitted().score([]))


def test_the_map_scale_comes_from_held_out_normals_and_rises() -> None:
    model = fitted()
    for name in ("rec", "rec_ensemble", "a_intra", "a_inter", "r_intra", "r_dual"):
        low, high = model.map_scale(name)
        assert low < high


def test_a_fitted_model_scores_its_own_normals_lower_than_noise() -> None:
    model = fitted()
    compute = Compute("cpu", "fp32")
    noise = np.random.default_rng(0).uniform(-1, 1, (6, 1, 16, 16)).astype(np.float32)
    usual = [scores["rec"] for scores, _ in model.score_pixels(random_images(6).numpy(), compute)]
    strange = [scores["rec"] for scores, _ in model.score_pixels(noise, compute)]
    assert np.mean(usual) < np.mean(strange)
