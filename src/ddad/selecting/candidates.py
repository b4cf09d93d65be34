"""What `ddad fit --select` chooses from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ddad.errors import SettingError
from ddad.recipe import Recipe

_NO_LENGTH = ("igd.estimation_epochs",)  # how often something is done, not how long
_FIXED = ("seed", "holdout", "images")
_KEYS = {"name", "set", "epochs"}


@dataclass(frozen=True)
class Candidate:
    """A recipe to try, as what it changes in the recipe that was given.

    Attributes:
        name: in a word or two.
        changes: fields by their dotted names.
        epochs: factor of every number of epochs.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    epochs: float = 1.0

    def recipe(self, given: Recipe) -> Recipe:
        """Return the recipe to try.

        Raises:
            SettingError: a field is unknown, out of range, or one that all candidates share.
        """
        source = f"candidate {self.name!r}"
        for name in self.changes:
            if name.split(".")[0] in _FIXED:  # "images" alone is a mapping of its fields
                raise SettingError(
                    f"{source}: {name} cannot be changed, for all candidates are judged on the same images. "
                    "Set it for all of them, by --set or --recipe."
                )
        if not 0 < self.epochs < math.inf:
            raise SettingError(f"{source}: epochs is {self.epochs}; it is a factor above 0, such as 0.5.")
        content = given.changed(self.changes, source=source)
        if self.epochs == 1:
            return content
        lengths = {
            name: int(value)
            for name, value, _ in content.describe()
            if name.endswith("epochs") and name not in _NO_LENGTH
        }
        return content.changed({name: max(1, round(self.epochs * count)) for name, count in lengths.items()})


AS_GIVEN = Candidate("as given")
"""The default: what is fitted without a selection."""

CANDIDATES: tuple[Candidate, ...] = (
    AS_GIVEN,
    Candidate("ddad", {"detector": "ddad"}),
    Candidate("normal-vs-unlabeled", {"detector": "normal-vs-unlabeled"}),
    Candidate("ddad+", {"detector": "ddad+"}),
    Candidate("ddad, half the epochs", {"detector": "ddad"}, epochs=0.5),
    Candidate("ddad, code of 8", {"detector": "ddad", "reconstruction.latent_size": 8}),
    Candidate("ddad, code of 32", {"detector": "ddad", "reconstruction.latent_size": 32}),
    Candidate("ddad, plain autoencoders", {"detector": "ddad", "reconstruction.backbone": "ae"}),
)
"""`--select auto`, the default first, which a tie goes to; then what differs most is tried early."""


def read_candidates(name: str) -> tuple[Candidate, ...]:
    """Return `CANDIDATES` for `auto`, or read a YAML or JSON file; the recipe as given always comes first.

    The file is a list; each entry has a `name`, and `set`, fields and their values, or `epochs`, a factor, or both.

    Raises:
        SettingError: the file is missing or malformed, or two candidates have one name.
    """
    if name == "auto":
        return CANDIDATES
    try:
        content = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(
            f"--select {name}: write auto, or name a YAML or JSON file that can be read ({error})."
        ) from error
    if not isinstance(content, list) or not content:
        raise SettingError(f"{name}: is no list of candidates, each with a name and what it sets.")
    found = [AS_GIVEN, *(_candidate(entry, f"{name}, entry {place}") for place, entry in enumerate(content, start=1))]
    names = [candidate.name for candidate in found]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise SettingError(f"{name}: two candidates are called {twice!r}. Give each a name of its own.")
    return tuple(found)


def distinct_recipes(candidates: Sequence[Candidate], given: Recipe) -> dict[str, Recipe]:
    """Return the recipes to try by name; one that an earlier candidate has already is left out.

    Raises:
        SettingError: a candidate's recipe is not valid, or all have the same.
    """
    recipes: dict[str, Recipe] = {}
    for candidate in candidates:
        recipe = candidate.recipe(given)
        if recipe not in recipes.values():
            recipes[candidate.name] = recipe
    if len(recipes) == 1 < len(candidates):
        raise SettingError(
            f"selection: {', '.join(one.name for one in candidates[1:])}: no candidate changes the recipe as given, so "
            "there is nothing to choose from. Let one set a field to another value, or give epochs other than 1."
        )
    return recipes


def _candidate(entry: Any, where: str) -> Candidate:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str | int | float) or isinstance(name, bool):
        raise SettingError(f"{where}: has no name. Write it as - name: ..., then set: or epochs:.")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise SettingError(f"{where}: unknown key {unknown[0]!r}. A candidate has name, set and epochs.")
    changes, epochs = entry.get("set", {}), entry.get("epochs", 1.0)
    if not isinstance(changes, dict) or not all(isinstance(name, str) for name in changes):
        raise SettingError(f"{where}: set is no mapping of recipe fields to values, such as detector: ddad+.")
    if isinstance(epochs, bool) or not isinstance(epochs, int | float):
        raise SettingError(f"{where}: epochs is {epochs!r}; it is a factor above 0, such as 0.5.")
    return Candidate(str(name), changes, float(epochs))
