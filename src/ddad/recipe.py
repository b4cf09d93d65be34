"""`Recipe`: every decision of a fit in one validated, readable object, saved beside the weights."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError

from ddad.errors import SettingError
from ddad.recipe_sections import (
    IGD,
    Augmentation,
    Classification,
    CutPasteClassification,
    FAnoGAN,
    Fusion,
    GANomaly,
    Preprocessing,
    Reconstruction,
    Refinement,
    Section,
    Segmentation,
    Synthesis,
    Trimming,
)

PresetName = Literal["fast", "paper"]
DetectorName = Literal[
    "ddad", "ae", "memae", "ganomaly", "cutpaste", "draem", "f-anogan", "igd", "ae-u", "vae", "fpi", "pii",
    "normal-vs-unlabeled", "ddad+",
]  # fmt: skip


class Recipe(Section):
    """All settings of a fit.

    `Recipe()` is the `fast` preset; `Recipe.preset("paper")` is section 4.2 to the letter, in bf16 where the processor
    has it. Fields are changed with `recipe.changed({"refinement.epochs": 10})`.

    Raises:
        SettingError: a field is unknown or a value is out of range.
    """

    preset_name: PresetName = Field("fast", description="the preset that this recipe started from")
    detector: DetectorName = Field("ddad", description="what is fitted: the paper's method, or a rival")
    seed: int = Field(0, ge=0, lt=2**63, description="all randomness follows from it")
    holdout: float = Field(
        0.1, ge=0, lt=1, description="share of the normals kept out of fitting, to see what unseen normals score"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="matrix products in training, and in scoring unless told otherwise; auto: bf16 where the processor "
        "has it",
    )
    images: Preprocessing = Preprocessing()
    reconstruction: Reconstruction = Reconstruction(
        ndm_epochs=120, udm_epochs=120, move_below=100, learning_rate=3e-3, schedule="one-cycle", momentum=0.9
    )
    synthesis: Synthesis = Synthesis()
    refinement: Refinement = Refinement(network="anchored", epochs=3, learning_rate=1e-3, schedule="one-cycle")
    augmentation: Augmentation = Augmentation()
    classification: Classification = Classification()
    segmentation: Segmentation = Segmentation()
    f_anogan: FAnoGAN = FAnoGAN()
    ganomaly: GANomaly = GANomaly()
    igd: IGD = IGD()
    cutpaste: CutPasteClassification = CutPasteClassification()
    fusion: Fusion = Fusion()
    trimming: Trimming = Trimming()

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _setting_error(error, "recipe") from error

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a named preset, `fast` or `paper`.

        Raises:
            SettingError: no preset has this name.
        """
        if name == "fast":
            return cls()
        if name == "paper":
            return cls(
                preset_name="paper",
                holdout=0.0,
                reconstruction=Reconstruction(),
                refinement=Refinement(),
            )
        raise SettingError(f"recipe: there is no preset {name!r}. Use 'fast', 'paper', or a YAML or JSON file.")

    @classmethod
    def from_file(cls, path: str | Path, preset_changes: dict[str, Any] | None = None) -> Self:
        """Read a YAML or JSON file; fields that it leaves out keep the values of its `preset_name`.

        Args:
            path: of the file.
            preset_changes: other values for fields of the preset.

        Raises:
            SettingError: the file is missing or malformed, or a field is unknown or out of range.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SettingError(
                f"{path}: there is no such file. Use 'fast', 'paper', or a YAML or JSON file."
            ) from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingError(f"{path}: cannot be read as a recipe ({error}).") from error
        if not isinstance(content, dict):
            raise SettingError(f"{path}: a recipe is a mapping of fields to values, see docs/reference/recipe.md.")
        base = cls.preset(str(content.pop("preset_name", "fast"))).changed(preset_changes or {})
        try:
            return base.changed(content, source=str(path))
        except RecursionError:
            raise SettingError(f"{path}: the recipe contains itself.") from None

    def changed(self, changes: dict[str, Any], *, source: str = "recipe") -> Self:
        """Return a copy with some fields changed; nested fields by dotted names or nested mappings.

        Raises:
            SettingError: a field is unknown (the nearest name is suggested) or a value is out of range.
        """
        content = self.model_dump(mode="json")
        for name, value in _flatten(changes):
            section: dict[str, Any] = content
            *parents, leaf = name.split(".")
            for part in parents:
                inner = section.get(part)
                if not isinstance(inner, dict):
                    raise SettingError(f"{source}: unknown field '{name}'. {self._suggestion(name)}")
                section = inner
            if name == "preset_name" and value != self.preset_name:
                raise SettingError(f"{source}: preset_name is not a setting of its own. Use --recipe {value}.")
            if leaf not in section or isinstance(section[leaf], dict):
                raise SettingError(f"{source}: unknown field '{name}'. {self._suggestion(name)}")
            section[leaf] = value
        try:
            return type(self)(**content)
        except SettingError as error:
            raise _setting_error(error.__cause__, source) from error.__cause__

    def field_names(self) -> list[str]:
        """Return every field that can be set, dotted."""
        return [name for name, _ in _flatten(self.model_dump(mode="json"))]

    def changes_from_preset(self) -> dict[str, Any]:
        """Return the fields, dotted, that differ from the preset that this recipe started from."""
        usual = dict(_flatten(self.preset(self.preset_name).model_dump(mode="json")))
        own = _flatten(self.model_dump(mode="json"))
        return {name: value for name, value in own if value != usual[name]}

    def keeping(self, sections: Collection[str], *, but: Collection[str] = ()) -> Self:
        """Return a copy with the preset's values in all sections but these, and in the fields `but`, dotted.

        Fields outside sections stay.
        """
        usual = self.preset(self.preset_name)
        others = {
            name: getattr(usual, name)
            for name in type(self).model_fields
            if isinstance(getattr(self, name), Section) and name not in sections
        }
        for field in but:
            section, _, name = field.partition(".")
            kept = others.get(section, getattr(self, section))
            others[section] = kept.model_copy(update={name: getattr(getattr(usual, section), name)})
        return self.model_copy(update=others)

    def describe(self) -> list[tuple[str, str, str]]:
        """Return (dotted name, value, meaning) of every field."""
        rows: list[tuple[str, str, str]] = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Section):
                rows += [
                    (f"{name}.{inner}", json.dumps(getattr(value, inner)), info.description or "")
                    for inner, info in type(value).model_fields.items()
                ]
            else:
                rows.append((name, json.dumps(value), field.description or ""))
        return rows

    def to_json(self) -> str:
        """Return the recipe as indented JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def _suggestion(self, name: str) -> str:
        """Name the fields that may be meant: of the same last part, of a section, or the nearest by its letters."""
        names = self.field_names()
        leaves: dict[str, list[str]] = {}
        for field in names:
            leaves.setdefault(field.rsplit(".", 1)[-1], []).append(field)
        if within := [field for field in names if field.startswith(f"{name}.")]:
            return f"That is a section, with {', '.join(within)}."
        # As alike as the nearest: of two fields, one alone would mislead.
        near = leaves.get(name) or difflib.get_close_matches(name, names, 2, 0.9)
        near = near or difflib.get_close_matches(name, names, 1)
        if not near:
            alike = difflib.get_close_matches(name.rsplit(".", 1)[-1], leaves, 1)
            near = [field for leaf in alike for field in leaves[leaf]]
        meant = " or ".join(f"'{field}'" for field in near)
        return f"{f'Did you mean {meant}? ' if near else ''}ddad fields lists all."


def _flatten(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in content.items():
        if isinstance(value, dict):
            flat += _flatten(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", value))
    return flat


def _setting_error(error: BaseException | None, source: str) -> SettingError:
    assert isinstance(error, ValidationError)
    return SettingError("\n".join(_explain(problem, source) for problem in error.errors()))


def _explain(problem: Any, source: str) -> str:
    field = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{source}: {field} = {problem['input']!r}: {message}."
