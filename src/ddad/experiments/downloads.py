"""The paper's public data sets as their publishers ship them: which images there are, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ddad.errors import CohortError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the source."""
NORMAL = "normal"
_LARGEST = 1e9
_LEFT_OUT = ""
_RSNA = {"Normal": NORMAL, "Lung Opacity": "lung-opacity", "No Lung Opacity / Not Normal": _LEFT_OUT}
_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Source:
    """One image of a download.

    Attributes:
        path: the file.
        kind: `normal`, or the class of anomaly.
        patient: whose it is; the file itself where the publisher does not say.
        boxes: around findings, where the publisher has them.
    """

    path: Path
    kind: str
    patient: str
    boxes: tuple[Box, ...] = ()

    @property
    def is_normal(self) -> bool:
        """Whether nothing abnormal was found in it."""
        return self.kind == NORMAL


def rsna(folder: Path) -> list[Source]:
    """RSNA Pneumonia Detection Challenge: DICOM; what is neither normal nor shows opacities is left out.

    Raises:
        CohortError: a table or an image is missing, a patient is of two classes or an unknown one, or a side of a box
            is no number.
    """
    of_classes, of_boxes = "stage_2_detailed_class_info.csv", "stage_2_train_labels.csv"
    classes = _table(folder, of_classes, ("patientId", "class"))
    classes = classes.assign(kind=_kinds(folder / of_classes, classes)).drop(columns="class").drop_duplicates()
    _check_one_class(folder / of_classes, classes)
    sides = ("x", "y", "width", "height")
    labels = _numbered(folder / of_boxes, _table(folder, of_boxes, ("patientId", *sides, "Target")), ("Target",))
    found = _numbered(folder / of_boxes, labels[labels["Target"] == 1], sides).drop(columns="Target")
    boxes: dict[str, list[Box]] = {}
    for patient, x, y, width, height in found.itertuples(index=False, name=None):
        boxes.setdefault(patient, []).append((x, y, x + width, y + height))
    files = _by_stem(folder / "stage_2_train_images", (".dcm",))
    chosen = classes[classes["kind"] != _LEFT_OUT]
    return [
        Source(_file(files, name, folder), kind, name, tuple(boxes.get(name, ())))
        for name, kind in zip(chosen["patientId"], chosen["kind"], strict=True)
    ]


def vindr(folder: Path) -> list[Source]:
    """VinDr-CXR, from Kaggle or PhysioNet: DICOM; normal is what no radiologist found anything in.

    Raises:
        CohortError: the table or an image is missing, a finding has no name, or a side of a box is no number.
    """
    sides = ("x_min", "y_min", "x_max", "y_max")
    names = ("train.csv", "annotations/annotations_train.csv")
    name = next((one for one in names if (folder / one).is_file()), None)
    if name is None:
        raise CohortError(f"{folder}: has neither {names[0]}, as from Kaggle, nor {names[1]}, as from PhysioNet.")
    table = _table(folder, name, ("image_id", "class_name", *sides))
    unnamed = table[table["class_name"].isna()]
    if len(unnamed):
        raise CohortError(
            f"{folder / name}: class_name of {unnamed['image_id'].iloc[0]} is missing. Correct the table, or download "
            "it again."
        )
    is_finding = table["class_name"].str.strip().str.casefold() != "no finding"
    boxed = is_finding & table[list(sides)].notna().any(axis=1)
    boxes: dict[str, list[Box]] = {}
    for image, _, *box in _numbered(folder / name, table[boxed], sides).itertuples(index=False, name=None):
        boxes.setdefault(image, []).append((box[0], box[1], box[2], box[3]))
    files = _by_stem(folder / "train", (".dicom", ".dcm"))
    found = is_finding.groupby(table["image_id"]).any()
    return [
        Source(_file(files, image, folder), "finding" if any_found else NORMAL, image, tuple(boxes.get(image, ())))
        for image, any_found in zip(found.index.astype(str), found, strict=True)
    ]


def lag(folder: Path) -> list[Source]:
    """LAG: folders `non_glaucoma` and `suspicious_glaucoma`; attention maps are left out."""
    return _from_folders(folder, {"non_glaucoma": NORMAL, "suspicious_glaucoma": "glaucoma"}, without="attention_map")


def brain_tumor(folder: Path) -> list[Source]:
    """Brain Tumor MRI (Nickparvar): folders by class in `Training` and `Testing`; pituitary tumours are left out."""
    return _from_folders(folder, {"notumor": NORMAL, "glioma": "glioma", "meningioma": "meningioma"})


DOWNLOADS: dict[str, tuple[str, Callable[[Path], list[Source]]]] = {
    "rsna": ("rsna", rsna),
    "vindr": ("vindr-cxr", vindr),
    "lag": ("lag", lag),
    "brain-tumor": ("brain-tumor", brain_tumor),
}
"""By name on the command line: the paper's benchmark, and how its download is read."""


def _table(folder: Path, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read these columns of a table, as text.

    Raises:
        CohortError: the table or a column is missing, or it is no table.
    """
    file = folder / name
    try:
        table = pd.read_csv(file, dtype=str)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CohortError(f"{file}: there is no such file. Name the folder of the unpacked download.") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CohortError(f"{file}: is not a CSV file ({error}). Download it again.") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise CohortError(f"{file}: lacks the column {', '.join(missing)}. Download it again.")
    return table[list(columns)]


def _kinds(file: Path, classes: pd.DataFrame) -> pd.Series:
    """Return what kind of image each row of RSNA's classes names, however its letters are written.

    Raises:
        CohortError: a class is missing or unknown.
    """
    kinds = classes["class"].str.strip().str.casefold().map({name.casefold(): kind for name, kind in _RSNA.items()})
    unknown = classes[kinds.isna()]
    if len(unknown):
        patient, value = unknown.iloc[0]
        what = "is missing" if pd.isna(value) else f"is {value!r}"
        raise CohortError(
            f"{file}: class of {patient} {what}; it must be one of {', '.join(map(repr, _RSNA))}. "
            "Correct the table, or download it again."
        )
    return kinds


def _check_one_class(file: Path, classes: pd.DataFrame) -> None:
    twice = classes[classes["patientId"].duplicated(keep=False)]
    if len(twice):
        patient = twice["patientId"].iloc[0]
        names = {kind: name for name, kind in _RSNA.items()}
        named = " and ".join(repr(name) for name in twice.loc[twice["patientId"] == patient, "kind"].map(names))
        raise CohortError(f"{file}: {patient} is of two classes, {named}. Correct the table, or download it again.")


def _numbered(file: Path, table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of text with numbers in these columns; its first column says whose a row is.

    Raises:
        CohortError: a value is no number, missing, or beyond any image.
    """
    numbers = {column: pd.to_numeric(table[column], errors="coerce").astype(float) for column in columns}
    for column, values in numbers.items():
        wrong = table[~(values.abs() < _LARGEST)]
        if len(wrong):
            owner, value = wrong.iloc[0][[table.columns[0], column]]
            what = "is missing" if pd.isna(value) else f"is {value!r}"
            raise CohortError(
                f"{file}: {column} of {owner!s} {what}; it must be a number. Correct the table, or download it again."
            )
    return table.assign(**numbers)


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise CohortError(f"{folder}: there is no such folder. Name the folder of the unpacked download.")
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in suffixes}


def _file(files: dict[str, Path], stem: str, folder: Path) -> Path:
    if stem not in files:
        raise CohortError(
            f"{folder}: the table names image {stem}, but there is no such file. Unpack the download again."
        )
    return files[stem]


def _from_folders(folder: Path, kinds: dict[str, str], without: str = "") -> list[Source]:
    sources = []
    for name, kind in kinds.items():
        places = sorted(path for path in folder.rglob(name) if path.is_dir())
        if not places:
            raise CohortError(f"{folder}: holds no folder {name}. Name the folder of the unpacked download.")
        files = sorted(path for place in places for path in place.rglob("*") if _is_picture(path))
        sources += [Source(path, kind, str(path.relative_to(folder))) for path in files if path.parent.name != without]
    return sources


def _is_picture(path: Path) -> bool:
    # macOS puts a hidden ._x.jpg beside each x.jpg that it unpacks elsewhere.
    return path.suffix.lower() in _PICTURES and not path.name.startswith(".")
