from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from ddad.errors import SettingError
from ddad.recipe import Recipe
from ddad.recipe_sections import (  # fmt: skip
    IGD,
    Augmentation,
    Classification,
    CutPasteClassification,
    FAnoGAN,
    Fusion,
    GANomaly,
    Segmentation,
    Trimming,
)


def test_the_paper_preset_is_section_4_of_the_design_field_by_field() -> None:
    assert Recipe.preset("paper").model_dump(mode="json") == {
        "preset_name": "paper",
        "detector": "ddad",
        "augmentation": Augmentation().model_dump(),  # of no detector that the paper has
        "classification": Classification().model_dump(),
        "cutpaste": CutPasteClassification().model_dump(mode="json"),
        "f_anogan": FAnoGAN().model_dump(),
        "ganomaly": GANomaly().model_dump(),
        "igd": IGD().model_dump(),
        "segmentation": Segmentation().model_dump(),
        "fusion": Fusion().model_dump(),
        "trimming": Trimming().model_dump(),
        "seed": 0,
        "holdout": 0.0,
        "precision": "auto",  # of which the paper says nothing
        "images": {
            "image_size": 64,
            "channels": 1,
            "intensity": "window",
            "aspect": "squash",
            "resize": "bilinear",
            "black_border": False,
        },
        "reconstruction": {
            "backbone": "ae-u",
            "members": 3,
            "latent_size": 16,
            "memory_slots": 25,
            "memory_entropy_weight": 0.0002,
            "ndm_epochs": 250,
            "udm_epochs": 250,
            "batch_size": 64,
            "least_steps": 5,  # without effect on cohorts of the paper's size
            "move_below": 0,
            "learning_rate": 5e-4,
            "schedule": "constant",
            "momentum": 0.5,
        },
        "synthesis": {"untouched_share": 0.5, "half_width": [0.05, 0.2], "centre": [0.1, 0.9]},
        "refinement": {
            "network": "published",
            "width": 128,
            "epochs": 100,
            "batch_size": 8,
            "least_steps": 40,
            "learning_rate": 1e-4,
            "schedule": "constant",
            "momentum": 0.5,
            "weight_decay": 1e-4,
            "focal_gamma": 2.0,
        },
    }


def test_fast_is_the_default_and_the_same_method_in_less_time() -> None:
    fast, paper = Recipe(), Recipe.preset("paper")
    assert Recipe.preset("fast") == fast
    assert fast.preset_name == "fast"
    assert fast.images == paper.images
    assert fast.synthesis == paper.synthesis
    for field in ("backbone", "members", "latent_size", "memory_slots", "memory_entropy_weight"):
        assert getattr(fast.reconstruction, field) == getattr(paper.reconstruction, field)
    assert fast.reconstruction.ndm_epochs < paper.reconstruction.ndm_epochs
    assert fast.reconstruction.udm_epochs < paper.reconstruction.udm_epochs
    assert fast.refinement.epochs < paper.refinement.epochs


def test_an_unknown_preset_is_named_with_what_there_is() -> None:
    with pytest.raises(SettingError, match=r"'slow'.*'fast'.*'paper'"):
        Recipe.preset("slow")


@pytest.mark.parametrize(
    "changes",
    [
        {"refinement.epochs": 7, "images.image_size": 128},
        {"refinement": {"epochs": 7}, "images": {"image_size": 128}},
        {"refinement": {"epochs": 7}, "images.image_size": 128},
    ],
)
def test_dotted_and_nested_changes_say_the_same_and_leave_the_rest(changes: dict[str, Any]) -> None:
    recipe = Recipe()
    changed = recipe.changed(changes)
    assert (changed.refinement.epochs, changed.images.image_size) == (7, 128)
    back = {"refinement.epochs": recipe.refinement.epochs, "images.image_size": recipe.images.image_size}
    assert changed.changed(back) == recipe
    assert recipe == Recipe()


def test_a_recipe_cannot_be_changed_in_place() -> None:
    recipe = Recipe()
    with pytest.raises(ValidationError):
        recipe.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        recipe.refinement.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "suggestion"),
    [
        ("refinement.epoch", "refinement.epochs"),
        ("refinment.epochs", "refinement.epochs"),
        ("image_size", "images.image_size"),
        ("reconstruction.learning_rat", "reconstruction.learning_rate"),
        ("sead", "seed"),
        ("focal_gama", "refinement.focal_gamma"),
    ],
)
def test_an_unknown_field_is_named_and_the_nearest_suggested(field: str, suggestion: str) -> None:
    with pytest.raises(SettingError) as caught:
        Recipe().changed({field: 1})
    assert f"'{field}'" in str(caught.value)
    assert f"'{suggestion}'" in str(caught.value)


@pytest.mark.parametrize("field", ["members", "member"])
def test_all_fields_of_a_name_are_suggested(field: str) -> None:
    with pytest.raises(SettingError, match=r"'reconstruction\.members' or .*'classification\.members'"):
        Recipe().changed({field: 3})


@pytest.mark.parametrize("field", ["zzzzzz", "refinement.zzzzzz.deeper", "seed.deeper", "refinement"])
def test_an_unknown_field_that_resembles_none_is_still_named(field: str) -> None:
    with pytest.raises(SettingError, match=field):
        Recipe().changed({field: 1})


@pytest.mark.parametrize("size", [0, 8, 15, 17, 50, 100, 511, 513, 528, -16, 64.5])
def test_an_image_size_that_is_no_multiple_of_16_up_to_512_is_refused(size: float) -> None:
    with pytest.raises(SettingError, match=r"images\.image_size"):
        Recipe().changed({"images.image_size": size})


@pytest.mark.parametrize("size", [16, 32, 64, 80, 256, 512])
def test_every_multiple_of_16_up_to_512_is_taken(size: int) -> None:
    assert Recipe().changed({"images.image_size": size}).images.image_size == size


def test_the_nearest_usable_image_sizes_are_suggested() -> None:
    with pytest.raises(SettingError, match="96 or 112"):
        Recipe().changed({"images.image_size": 100})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("seed", 1.5),
        ("seed", "first"),
        ("seed", None),
        ("holdout", 1),
        ("holdout", -0.1),
        ("holdout", float("nan")),
        ("precision", "fp16"),
        ("preset_name", "mine"),
        ("images.channels", 2),
        ("images.intensity", "guess"),
        ("reconstruction.backbone", "resnet"),
        ("reconstruction.members", 0),
        ("reconstruction.ndm_epochs", 0),
        ("reconstruction.batch_size", 1),
        ("reconstruction.learning_rate", 0),
        ("reconstruction.learning_rate", float("inf")),
        ("reconstruction.memory_slots", 1),
        ("reconstruction.schedule", "cosine"),
        ("synthesis.untouched_share", 1),
        ("synthesis.half_width", [0.2, 0.05]),
        ("synthesis.half_width", [0.1]),
        ("synthesis.centre", [0.1, 1.1]),
        ("synthesis.centre", 0.5),
        ("refinement.network", "unet"),
        ("refinement.epochs", 0),
        ("refinement.weight_decay", -1),
        ("refinement.focal_gamma", -0.5),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_field_and_itself(field: str, value: object) -> None:
    with pytest.raises(SettingError) as caught:
        Recipe().changed({field: value})
    assert field in str(caught.value)
    shown = value[0] if field == "synthesis.half_width" and len(value) == 1 else value  # type: ignore[arg-type, index]
    assert str(shown) in str(caught.value).replace("'", "")


@pytest.mark.parametrize("value", ["0.5,0.1", 0.5, [0.1], [0.1, 0.2, 0.3], "[0.1", None])
def test_how_a_pair_is_written_is_said_of_what_is_none(value: object) -> None:
    with pytest.raises(SettingError, match=r"synthesis\.half_width = .*: must be two numbers, .* \[0\.1, 0\.5\]"):
        Recipe().changed({"synthesis.half_width": value})


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(SettingError) as caught:
        Recipe().changed({"seed": -1, "refinement.epochs": 0})
    assert "seed" in str(caught.value)
    assert "refinement.epochs" in str(caught.value)


def test_a_yaml_file_keeps_what_it_leaves_out_of_its_preset(tmp_path: Path) -> None:
    file = tmp_path / "mein Rezept é.yaml"
    file.write_text("preset_name: paper\nrefinement:\n  epochs: 5\nimages.image_size: 32\n", encoding="utf-8")
    expected = Recipe.preset("paper").changed({"refinement.epochs": 5, "images.image_size": 32})
    assert Recipe.from_file(file) == expected


def test_a_json_file_without_a_preset_starts_from_fast(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"seed": 4, "synthesis": {"centre": [0.2, 0.8]}}))
    assert Recipe.from_file(file) == Recipe().changed({"seed": 4, "synthesis.centre": [0.2, 0.8]})


@pytest.mark.parametrize("preset", ["fast", "paper"])
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_written_recipe_reads_back_as_itself(preset: str, suffix: str, tmp_path: Path) -> None:
    recipe = Recipe.preset(preset).changed(
        {"reconstruction.learning_rate": 1e-05, "seed": 2**63 - 1, "images.channels": 3, "holdout": 1e-7}
    )
    content = recipe.to_json()
    if suffix == "yaml":
        content = yaml.safe_dump(json.loads(content))
    file = tmp_path / f"recipe.{suffix}"
    file.write_text(content)
    assert Recipe.from_file(file) == recipe


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a\n- list\n",
        b"just words",
        b"refinement: {epochs: 3",
        b'{"seed": }',
        b"\xff\xfe\x00binary",
        b"seed: !!python/object/apply:os.system ['echo hacked']",
        b"preset_name: slow\n",
        b"preset_name: [1]\n",
        b"1: 2\n",
        b"images: 64\n",
        b"seed: {a: 1}\n",
    ],
)
def test_a_malformed_file_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingError) as caught:
        Recipe.from_file(file)
    if b"preset_name" not in content:
        assert str(file) in str(caught.value)


def test_a_file_that_contains_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("refinement: &loop\n  epochs: *loop\n")
    with pytest.raises(SettingError, match=r"loop\.yaml"):
        Recipe.from_file(file)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for place in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SettingError, match=str(place)):
            Recipe.from_file(place)
    with pytest.raises(SettingError, match=r"none\.yaml: there is no such file"):
        Recipe.from_file(tmp_path / "none.yaml")


def test_a_field_of_a_file_that_cannot_be_used_is_named_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("refinement: {epoch: 3}\n")
    with pytest.raises(SettingError, match=r"r\.yaml.*refinement\.epoch.*refinement\.epochs"):
        Recipe.from_file(file)
    file.write_text("refinement: {epochs: 0}\n")
    with pytest.raises(SettingError, match=r"r\.yaml.*refinement\.epochs.*0"):
        Recipe.from_file(file)


def test_every_field_can_be_set_by_the_name_that_is_listed() -> None:
    recipe = Recipe()
    rows = recipe.describe()
    assert [name for name, _, _ in rows] == recipe.field_names()
    for name, value, meaning in rows:
        assert recipe.changed({name: json.loads(value)}) == recipe
        assert meaning


def test_the_name_of_a_preset_is_not_a_label_that_can_be_stuck_on() -> None:
    """A recipe that says `paper` must not have the values of `fast`: the name is written into results."""
    try:
        changed = Recipe().changed({"preset_name": "paper"})
    except SettingError:
        return
    assert changed == Recipe.preset("paper")


def test_a_value_out_of_range_is_a_setting_error_wherever_it_is_given() -> None:
    for make in (
        lambda: Recipe(seed=-1),
        lambda: Recipe().changed({"seed": -1}),
        lambda: Recipe.model_validate({**Recipe().model_dump(), "seed": -1}),
    ):
        with pytest.raises(SettingError, match=r"recipe: seed = -1: .* greater than or equal to 0"):
            make()


def test_other_sections_take_the_values_of_the_preset() -> None:
    recipe = Recipe.preset("paper").changed({"seed": 3, "igd.epochs": 7, "refinement.epochs": 9, "images.channels": 3})
    assert recipe.keeping({"images", "igd"}).changes_from_preset() == {"seed": 3, "igd.epochs": 7, "images.channels": 3}
