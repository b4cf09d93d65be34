"""Options that several verbs share, and what they mean together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, Unpack

import typer
import yaml

from ddad.errors import CohortError, SettingError

if TYPE_CHECKING:
    from ddad.cohorts import Cohort
    from ddad.progress import Progress
    from ddad.recipe import Recipe

_IMAGES = "Images"
_RECIPE = "Recipe"
DEFAULT_SPLIT = "data.json"

# Inputs are not checked before the work: one file that may not be read would hold up all others.
_input = partial(typer.Option, readable=False, rich_help_panel=_IMAGES)

Normal = Annotated[
    list[Path] | None,
    _input("--normal", help="Folder of known normal images. Repeatable."),
]
Unlabeled = Annotated[
    list[Path] | None,
    _input("--unlabeled", help="Folder of unlabeled images. Repeatable."),
]
Abnormal = Annotated[
    list[Path] | None,
    _input(
        "--abnormal",
        help="Folder of a few images known to be abnormal, to learn from; for a detector that takes them (ddad+). "
        "Repeatable.",
    ),
]
TestNormal = Annotated[
    list[Path] | None,
    _input("--test-normal", help="Folder of normal test images. Repeatable."),
]
TestAbnormal = Annotated[
    list[Path] | None,
    _input("--test-abnormal", help="Folder of abnormal test images. Repeatable."),
]
TestMasks = Annotated[
    Path | None,
    _input(
        "--test-masks",
        help="Folder of masks, named like the abnormal test images (any suffix); non-zero is abnormal.",
    ),
]
Manifest = Annotated[
    Path | None,
    _input("--manifest", help="CSV with columns path, role, label, group, mask."),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Benchmark folder: images/ and data.json.", rich_help_panel=_IMAGES),
]
Split = Annotated[str, typer.Option("--split", help="Split file within --data.", rich_help_panel=_IMAGES)]
AnomalyRate = Annotated[
    float | None,
    typer.Option(
        "--anomaly-rate",
        help="Share of abnormal images among the unlabeled ones of --data; default: as listed there.",
        rich_help_panel=_IMAGES,
    ),
]
PublishedAnomalyRate = Annotated[
    float | None,
    typer.Option(
        "--anomaly-rate",
        help="Share of abnormal images among the unlabeled ones of --data; default: the published rate (0.6) for the "
        "named data sets, as listed there for custom.",
        rich_help_panel=_IMAGES,
    ),
]
Unseen = Annotated[
    str | None,
    typer.Option(
        "--unseen",
        metavar="[NAME=]PATTERN",
        help="Keep a class of anomaly out of the unlabeled images and test on it alone: a pattern of its files' names, "
        "with a word for it before it if you like, e.g. 'meningioma=*-me*'.",
        rich_help_panel=_IMAGES,
    ),
]
Slices = Annotated[
    str,
    typer.Option(
        "--slices",
        metavar="all|middle|every:N",
        help="Which slices or frames of files that hold several.",
        rich_help_panel=_IMAGES,
    ),
]
Volume = Annotated[
    int,
    typer.Option("--volume", min=1, help="Which volume of four-dimensional files.", rich_help_panel=_IMAGES),
]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", help="fast, paper, or a YAML or JSON file of recipe fields.", rich_help_panel=_RECIPE),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set any recipe field, e.g. --set refinement.epochs=10. 'ddad fields' lists them. Repeatable.",
        rich_help_panel=_RECIPE,
    ),
]
DetectorOption = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="What to fit: ddad, ddad+, or a rival: ae, memae, ganomaly, cutpaste, draem, f-anogan, igd, ae-u, vae, "
        "fpi, pii, normal-vs-unlabeled.",
        rich_help_panel=_RECIPE,
    ),
]
BackboneName = Annotated[
    str | None, typer.Option("--backbone", help="ae, memae, ae-u or vae.", rich_help_panel=_RECIPE)
]
BackboneNames = Annotated[
    list[str] | None,
    typer.Option(
        "--backbones",
        "--backbone",
        help="Of ddad: ae, memae, ae-u or vae; several with commas, or repeated. Default: ae-u.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        help="Side of the network's input: a multiple of 16, up to 512.",
        rich_help_panel=_RECIPE,
    ),
]
Members = Annotated[
    int | None, typer.Option("--members", help="K, networks in each ensemble.", rich_help_panel=_RECIPE)
]
Seed = Annotated[int | None, typer.Option("--seed", help="All randomness follows from it.", rich_help_panel=_RECIPE)]
FalseAlarmRate = Annotated[
    float | None,
    typer.Option(
        "--false-alarm-rate",
        help="Share of normal images that may be flagged, e.g. 0.05. Default: that of the model's calibration file.",
    ),
]
Select = Annotated[
    str | None,
    typer.Option(
        "--select",
        metavar="auto|FILE",
        help="Try several recipes, without a label, and fit the best: auto, or a YAML or JSON list of candidates.",
        rich_help_panel=_RECIPE,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="With --select: begin no further candidate after this time, e.g. 90s, 30m or 2h.",
        rich_help_panel=_RECIPE,
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where to compute.")]
PrecisionName = Annotated[
    Literal["auto", "fp32", "bf16"] | None,
    typer.Option(
        "--precision", help="fp32 is exact; auto takes bf16 where the processor has it. Default: the recipe's."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Networks trained side by side; default: one for each processor core, or with --jobs a share of them.",
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", help="Runs side by side, each in processes of its own; they share the processor cores.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def each_of(name: str, option: list[str] | None) -> list[str]:
    """Return the values of an option that takes several, repeated or with commas between them.

    Raises:
        SettingError: one is empty.
    """
    found = []
    for values in option or ():
        parts = [value.strip() for value in values.split(",")]
        if "" in parts:
            raise SettingError(
                f"{name} {values}: a value is missing beside a comma. Leave the comma out, or add the value."
                if "," in values
                else f"{name}: is empty. Give a value, or leave the option out."
            )
        found += parts
    return found


def unread_backbones(backbones: list[str] | None, detectors: Iterable[str]) -> list[str]:
    """Say that backbones have no effect, where none of the detectors is DDAD, which alone is given them."""
    if not backbones or "ddad" in detectors:
        return []
    return [
        f"--backbones {','.join(backbones)} has no effect: it is for the method ddad, which is not among --methods."
    ]


def build_recipe(
    name: str,
    settings: list[str] | None,
    *,
    detector: str | None = None,
    backbone: str | None = None,
    image_size: int | None = None,
    members: int | None = None,
    seed: int | None = None,
    precision: str | None = None,
    preset_changes: dict[str, Any] | None = None,
) -> Recipe:
    """Combine a preset or file, `--set` fields and the options that name a field of their own.

    Args:
        name: of a preset, or path of a recipe file.
        settings: `FIELD=VALUE`, as `--set` takes them.
        detector: an option of its own, as are the following.
        backbone: of the reconstruction networks.
        image_size: side of the network's input.
        members: K.
        seed: of all randomness.
        precision: of matrix products.
        preset_changes: what the verb changes in a preset; a recipe file and `--set` have the last word.

    Raises:
        SettingError: a field is unknown or its value cannot be used.
    """
    from ddad.recipe import Recipe

    is_file = Path(name).suffix.lower() in {".yaml", ".yml", ".json"}
    changed = preset_changes or {}
    recipe = Recipe.from_file(name, changed) if is_file else Recipe.preset(name).changed(changed)
    changes: dict[str, Any] = {}
    for setting in settings or []:
        field, equals, value = setting.partition("=")
        if not equals:
            raise SettingError(f"--set {setting}: write it as FIELD=VALUE, e.g. --set refinement.epochs=10.")
        try:
            changes[field.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SettingError(f"--set {setting}: the value cannot be read ({error}).") from error
    named = {
        "detector": detector,
        "reconstruction.backbone": backbone,
        "images.image_size": image_size,
        "reconstruction.members": members,
        "seed": seed,
        "precision": precision,
    }
    changes |= {field: value for field, value in named.items() if value is not None}
    return recipe.changed(changes)


def seconds_of(budget: str) -> float:
    """Read a time such as 90s, 30m or 2h.

    Raises:
        SettingError: it is no time.
    """
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        seconds = float(budget[:-1]) * units[budget[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingError(f"--budget {budget}: write a time with its unit, such as 90s, 30m or 2h.")
    return seconds


class Sources(TypedDict, total=False):
    """Where images come from: those of these options that a verb has, given or not."""

    normal: list[Path] | None
    unlabeled: list[Path] | None
    abnormal: list[Path] | None
    test_normal: list[Path] | None
    test_abnormal: list[Path] | None
    test_masks: Path | None
    manifest: Path | None
    data: Path | None


def build_cohort(
    *,
    split: str = "data.json",
    anomaly_rate: float | None = None,
    slices: str = "all",
    volume: int = 1,
    allow_torn: bool = False,
    progress: Progress | None = None,
    **sources: Unpack[Sources],
) -> Cohort:
    """Assemble the cohort from whichever of the forms that the verb takes was given.

    With `allow_torn`, a group of a manifest may be in both training and test. `progress` is told of each file.

    Raises:
        CohortError: no form, or more than one, was given; or the images cannot be assembled.
        SettingError: the anomaly rate or a split is given without a benchmark folder, or slices without other folders.
    """
    from ddad.cohorts import Cohort
    from ddad.images import ALL, Selection

    selection = Selection(slices, volume)
    manifest, data = sources.get("manifest"), sources.get("data")
    single = [f"--{name}" for name in ("manifest", "data") if name in sources]
    folders = [f"--{name.replace('_', '-')}" for name in sources if name not in ("manifest", "data", "test_masks")]
    any_folder = any(given for name, given in sources.items() if name not in ("manifest", "data"))
    if sum((any_folder, manifest is not None, data is not None)) != 1:
        forms = ", or ".join([f"folders ({', '.join(folders)})", *single])
        raise CohortError(f"images: give {forms}; exactly one of these.")
    if selection != ALL and not any_folder:
        raise SettingError("--slices, --volume: go with folders; a manifest names each slice by itself, as FILE#12.")
    if split != DEFAULT_SPLIT and data is None:
        raise SettingError("--split: goes with --data, within whose folder it lies.")
    if anomaly_rate is not None and data is None:
        raise SettingError("--anomaly-rate: goes with --data, whose lists say which unlabeled images are abnormal.")
    if manifest is not None:
        return Cohort.from_manifest(manifest, allow_torn=allow_torn, progress=progress)
    if data is not None:
        return Cohort.from_benchmark(data, split=split, anomaly_rate=anomaly_rate, progress=progress)
    return Cohort.from_folders(
        normal=sources.get("normal"),
        unlabeled=sources.get("unlabeled"),
        abnormal=sources.get("abnormal"),
        test_normal=sources.get("test_normal"),
        test_abnormal=sources.get("test_abnormal"),
        test_masks=sources.get("test_masks"),
        selection=selection,
        progress=progress,
    )
