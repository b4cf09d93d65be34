from __future__ import annotations

from pathlib import Path

import pytest

from ddad import Recipe
from ddad.errors import SettingError
from ddad.selecting.candidates import CANDIDATES, Candidate, distinct_recipes, read_candidates


def test_the_usual_candidates_are_valid_and_begin_with_the_recipe_as_given() -> None:
    for preset in ("fast", "paper"):
        given = Recipe.preset(preset)
        recipes = distinct_recipes(CANDIDATES, given)
        assert next(iter(recipes.values())) == given
        assert "ddad" not in recipes  # the same as given
        assert {recipe.detector for recipe in recipes.values()} == {"ddad", "ddad+", "normal-vs-unlabeled"}
        assert all(recipe.images == given.images and recipe.seed == given.seed for recipe in recipes.values())


def test_epochs_are_a_factor_of_all_of_them() -> None:
    recipe = Candidate("short", {"detector": "ddad+"}, epochs=0.1).recipe(Recipe())
    assert (recipe.reconstruction.ndm_epochs, recipe.refinement.epochs, recipe.classification.epochs) == (12, 1, 5)
    assert recipe.detector == "ddad+"


@pytest.mark.parametrize("field", ["images.image_size", "seed", "holdout"])
def test_what_all_candidates_share_cannot_be_changed(field: str) -> None:
    with pytest.raises(SettingError, match=f"{field} cannot be changed"):
        Candidate("other", {field: 1}).recipe(Recipe())


def test_what_all_candidates_share_cannot_be_changed_as_a_section_either(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("- {name: cropped, set: {images: {aspect: crop}}}\n")
    with pytest.raises(SettingError, match="candidate 'cropped': images cannot be changed"):
        distinct_recipes(read_candidates(str(file)), Recipe())


def test_candidates_that_change_nothing_are_no_choice(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("- name: x\n- {name: 5, set: {reconstruction.members: 3}}\n")
    with pytest.raises(SettingError, match="x, 5: no candidate changes the recipe as given"):
        distinct_recipes(read_candidates(str(file)), Recipe())


def test_a_file_of_candidates(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("- name: five\n  set: {reconstruction.members: 5}\n- name: short\n  epochs: 0.5\n")
    found = read_candidates(str(file))
    assert [candidate.name for candidate in found] == ["as given", "five", "short"]
    recipes = distinct_recipes(found, Recipe())
    assert recipes["five"].reconstruction.members == 5
    assert recipes["short"].reconstruction.ndm_epochs == 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: five", "is no list of candidates"),
        ("- set: {seed: 1}", "entry 1: has no name"),
        ("- {name: a, epoch: 2}", "entry 1: unknown key 'epoch'"),
        ("- {name: a, epochs: many}", "epochs is 'many'"),
        ("- {name: a, set: [1]}", "set is no mapping"),
        ("- name: a\n- name: a", "two candidates are called 'a'"),
        ("[", "can be read"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(SettingError, match=message):
        read_candidates(str(file))


def test_a_wrong_field_names_the_candidate() -> None:
    with pytest.raises(SettingError, match=r"candidate 'a': unknown field 'refinement.epoch'"):
        distinct_recipes([Candidate("a", {"refinement.epoch": 2})], Recipe())
    for epochs in (0, float("inf"), float("nan")):
        with pytest.raises(SettingError, match="factor above 0"):
            distinct_recipes([Candidate("a", epochs=epochs)], Recipe())
