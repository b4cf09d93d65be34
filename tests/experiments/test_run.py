"""What a run's title says of its recipe."""

from __future__ import annotations

from ddad.experiments.run import own_settings
from ddad.recipe import Recipe


def test_a_title_names_what_makes_a_run_unlike_others_of_its_preset() -> None:
    recipe = Recipe().changed(
        {"detector": "draem", "seed": 3, "holdout": 0.0, "reconstruction.backbone": "ae", "reconstruction.members": 5}
    )
    assert own_settings(recipe) == {"reconstruction.members": 5}


def test_a_share_held_out_is_named() -> None:
    assert own_settings(Recipe.preset("paper").changed({"holdout": 0.2})) == {"holdout": 0.2}
    assert own_settings(Recipe()) == own_settings(Recipe.preset("paper")) == {}
