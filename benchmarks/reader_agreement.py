"""Whether DICOM files are read as trusted readers read them: every test file of pydicom and of pydicom-data.

    python benchmarks/reader_agreement.py

Writes `benchmarks/results/readers/results.md` and `results.json`. The references are pydicom with its own decoders,
SimpleITK (GDCM) and dcm2pnm (DCMTK; `apt-get install dcmtk`), each where it reads the file. Of a file with several
frames, the first, the middle and the last are compared.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.data.download import get_url_map
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, get_decoder, pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ddad.errors import ImageError
from ddad.images import MedicalImage, expand, normalise, read_image
from ddad.images.codecs import PLUGIN
from ddad.recipe_sections import Preprocessing

OUT = Path(__file__).parent / "results" / "readers"
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
ROUNDING = 2e-5
"""Largest difference allowed, as a share of the range: float32, and 16 bits of a PNG."""
LOSSY = 0.008
"""So where lossy JPEG or YCbCr becomes RGB: programs round in their own ways, by two of 255 levels."""
PALETTE = 1 / 255
"""So of SimpleITK, which keeps 8 of the 16 bits of a palette."""
KNOWN = {
    ("SC_rgb_rle_16bit*", "simpleitk"): "differs from the other two, which agree",
    ("SC_rgb_rle_32bit*", "simpleitk"): "differs from the other two, which agree",
    ("rtdose_expb*", "simpleitk"): "swaps 16-bit words of 32-bit big endian pixels; ours equal the little endian twin",
    ("rtdose_expb*", "dcm2pnm"): "swaps 16-bit words of 32-bit big endian pixels; ours equal the little endian twin",
    ("OBXXXX1A_expb*", "pydicom"): "does not swap the bytes of a big endian palette",
}
"""Where a reference is known to be wrong: by file and reference, why. It is not compared there."""


@dataclass
class Agreement:
    """What became of a file.

    Attributes:
        file: its place among the test files.
        syntax: how it is written.
        photometric: PhotometricInterpretation.
        status: `read`, `refused`, or `no image`.
        reason: why not read.
        differences: by reference, the largest difference of any pixel as a share of the range.
        left_out: by reference, why it was not compared.
        tolerances: by reference, the largest difference allowed.
    """

    file: str
    syntax: str = ""
    photometric: str = ""
    status: str = "read"
    reason: str = ""
    differences: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether it was read, at least one reference reads it too, and all that do agree."""
        within = [difference <= self.tolerances[name] for name, difference in self.differences.items()]
        return self.status == "read" and bool(within) and all(within)


def test_files() -> dict[str, Path]:
    """Return by name the DICOM files that pydicom ships, and those of pydicom-data if it is installed."""
    folders = [BUNDLED]
    try:
        import data_store

        folders.append(Path(data_store.__file__).parent / "data")
    except ImportError:
        pass
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not name.startswith("dicomdirtests/TINY_ALPHA") and _may_be_dicom(path):
                found[name] = path
    return found


def compare(name: str, path: Path) -> Agreement:
    """Read a file, and compare it with each reference that reads it."""
    try:
        addresses = expand(path)
        chosen = sorted({0, len(addresses) // 2, len(addresses) - 1})
        images = [read_image(addresses[index]) for index in chosen]
    except ImageError as error:
        no_image = "DICOM without an image" in error.reason or "DICOMDIR" in error.reason
        return Agreement(name, status="no image" if no_image else "refused", reason=error.reason)
    data = pydicom.dcmread(path, force=True)
    syntax = data.file_meta.get("TransferSyntaxUID")
    found = Agreement(name, syntax.name if syntax else "not said", data.get("PhotometricInterpretation", ""))
    for reference in (against_pydicom, against_simpleitk, against_dcm2pnm):
        label = reference.__name__.removeprefix("against_")
        try:
            if known := [why for (files, who), why in KNOWN.items() if who == label and fnmatch(name, files)]:
                raise LookupError(known[0])
            differences = [reference(path, data, index, image) for index, image in zip(chosen, images, strict=True)]
        except LookupError as error:
            found.left_out[label] = str(error.args[0])
        else:
            found.differences[label] = float(max(differences))
            found.tolerances[label] = tolerance(label, found, data, images[0])
    return found


def tolerance(reference: str, found: Agreement, data: pydicom.Dataset, image: MedicalImage) -> float:
    """Return the largest difference that is allowed."""
    if found.photometric == "PALETTE COLOR" and reference == "simpleitk":
        return PALETTE
    if image.channels == 3 and (found.photometric.startswith("YBR") or "Baseline" in found.syntax):
        return LOSSY
    whole = float(data.get("RescaleSlope") or 1).is_integer()
    if reference == "dcm2pnm" and not whole:
        # It rounds modality values to whole numbers.
        return ROUNDING + 1 / (image.value_range[1] - image.value_range[0])
    return ROUNDING


def against_pydicom(path: Path, data: pydicom.Dataset, index: int, image: MedicalImage) -> float:
    """Compare values with pydicom's, and where a VOI LUT is applied, what it makes of them."""
    syntax = data.file_meta.get("TransferSyntaxUID")
    plugin = ""
    if syntax is not None and syntax.is_encapsulated:
        plugins = [name for name in get_decoder(syntax).available_plugins if name != PLUGIN]
        if not plugins:
            raise LookupError("has no decoder of its own")
        plugin = plugins[-1]
    try:
        stored = _stored(path, data, index, plugin)
    except Exception as error:
        raise LookupError("does not read it") from error
    if data.get("PhotometricInterpretation") == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)[..., :3]
    if stored.ndim == 3:
        return _difference(image, stored)
    settings = _settings(data, index)
    values = apply_modality_lut(stored, settings)
    if image.range_origin == "VOI LUT":
        return _difference(image, apply_voi(values, settings))
    padding = None if "PixelPaddingValue" not in data else stored == data.PixelPaddingValue
    return _difference(image, values, inverted=data.get("PhotometricInterpretation") == "MONOCHROME1", padding=padding)


def _stored(path: Path, data: pydicom.Dataset, index: int, plugin: str) -> np.ndarray[Any, Any]:
    """Return pixels by one of pydicom's own decoders."""
    if "TransferSyntaxUID" in data.file_meta:
        try:
            return pixel_array(path, index=index, decoding_plugin=plugin)
        except Exception:
            return pixel_array(data, index=index, decoding_plugin=plugin)
    implicit, little = data.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return pixel_array(data, index=index)


def against_simpleitk(path: Path, data: pydicom.Dataset, index: int, image: MedicalImage) -> float:
    """Compare values with those of SimpleITK."""
    read = _read_with_simpleitk(path)
    if image.range_origin in ("VOI LUT", "sigmoid window"):
        raise LookupError("does not apply a VOI LUT")
    if data.get("ModalityLUTSequence"):
        raise LookupError("does not apply a modality LUT")
    frame = read[index].astype(np.float64)
    if data.get("BitsStored") == 1:
        frame = frame / 255
    if frame.ndim == 3:
        # Palettes come out with 8 bits.
        return _difference(image, frame * 256 if read.dtype == np.uint8 and image.value_range[1] > 255 else frame)
    if data.PhotometricInterpretation == "MONOCHROME1":
        # Stored values are turned over, and then rescaled.
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        frame = slope * (2.0 ** int(data.BitsStored) - 1) + 2 * intercept - frame
    inverted = data.get("PhotometricInterpretation") == "MONOCHROME1"
    return _difference(image, frame, inverted=inverted, padding=_looks_padded(data, image))


def against_dcm2pnm(path: Path, data: pydicom.Dataset, index: int, image: MedicalImage) -> float:
    """Compare what is shown, from dark (0) to bright (1), with what dcm2pnm makes of the same window."""
    syntax = data.file_meta.get("TransferSyntaxUID")
    known = "" if syntax is None else syntax.name
    if "2000" in known:
        raise LookupError("does not read JPEG 2000")
    tool = "dcml2pnm" if "JPEG-LS" in known else "dcmj2pnm" if "JPEG" in known else "dcm2pnm"
    if shutil.which(tool) is None:
        raise LookupError("not installed")
    window = []
    if image.range_origin == "VOI LUT":
        window = ["+Wl", "1"]
    elif image.range_origin == "window" and "WindowCenter" in data:
        window = ["+Wi", "1"]
    elif image.channels == 1:
        low, high = image.value_range
        window = ["+Ww", str((low + high + 1) / 2), str(high - low + 1)]
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "a.png"
        command = [tool, "-q", "-O", "+on2", "+F", str(index + 1), *window, str(path), str(png)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode or not png.exists():
            raise LookupError("does not read it")
        theirs = np.asarray(imagecodecs.png_decode(png.read_bytes())).astype(np.float64)
    theirs = theirs.reshape(image.height, image.width, -1) / 65535
    ours = normalise(image, Preprocessing(channels=3))
    difference = np.abs(ours - theirs)
    padding = _looks_padded(data, image)
    return float((difference if padding is None else difference[~padding]).max())


def _difference(
    image: MedicalImage, theirs: np.ndarray[Any, Any], *, inverted: bool = False, padding: Any = None
) -> float:
    """Return the largest difference as a share of the range of values, or of colours."""
    ours = image.pixels.astype(np.float64)
    if inverted:
        ours = sum(image.value_range) - ours
    difference = np.abs(ours - theirs.astype(np.float64).reshape(image.height, image.width, -1))
    if padding is not None:
        difference = difference[~padding]
    span = float(np.ptp(theirs)) if image.channels == 1 else image.value_range[1]
    return float(difference.max() / max(span, 1e-9))


def _settings(data: pydicom.Dataset, index: int) -> pydicom.Dataset:
    """Return rescaling and window of a frame of an enhanced object, as highdicom and the standard have them."""
    groups = [*data.get("SharedFunctionalGroupsSequence", [])[:1]]
    groups += data.get("PerFrameFunctionalGroupsSequence", [])[index : index + 1]
    for group in groups:
        for item in group.get("PixelValueTransformationSequence", []):
            settings = pydicom.Dataset()
            settings.RescaleSlope, settings.RescaleIntercept = item.RescaleSlope, item.RescaleIntercept
            return settings
    return data


def _looks_padded(data: pydicom.Dataset, image: MedicalImage) -> Any:
    """Return where an image is darkest, if it has padding: of references that do not say what is padding."""
    return None if "PixelPaddingValue" not in data else image.pixels[..., 0] == image.pixels.min()


@cache
def _read_with_simpleitk(path: Path) -> np.ndarray[Any, Any]:
    try:
        import SimpleITK
    except ImportError as error:
        raise LookupError("not installed") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    except RuntimeError as error:
        raise LookupError("does not read it") from error


def _may_be_dicom(path: Path) -> bool:
    return path.suffix not in (".txt", ".json", ".icc", ".dump", ".gz", ".py", ".pyc")


def not_here() -> Iterator[str]:
    """Names of pydicom's test files that neither package ships: they need a download."""
    present = {Path(name).name for name in test_files()}
    yield from sorted(name for name in get_url_map() if name.endswith(".dcm") and name not in present)


def table(rows: list[Agreement]) -> list[str]:
    """Return the results as Markdown."""
    read = [row for row in rows if row.status == "read"]
    lines = [
        "# DICOM files, read as trusted readers read them",
        "",
        "`python benchmarks/reader_agreement.py`: every DICOM file of pydicom and pydicom-data. The figures are the",
        "largest difference of any pixel as a share of the range: of values from pydicom and SimpleITK, of what",
        f"is shown from dcm2pnm. Behind each is the largest allowed: {ROUNDING:g} is rounding, {LOSSY:g} lossy JPEG",
        f"and YCbCr, {PALETTE:.2g} a palette of which 8 of 16 bits are kept; where dcm2pnm rounds modality values, one",
        "of them.",
        "",
        f"{len(read)} files with an image are read, {sum(row.agrees for row in read)} of them agree; "
        f"{sum(row.status == 'refused' for row in rows)} are refused; "
        f"{sum(row.status == 'no image' for row in rows)} hold no image. "
        + ", ".join(f"{name} {version(name)}" for name in ("pydicom", "SimpleITK", "imagecodecs"))
        + ".",
        "",
        "| file | transfer syntax | photometric | pydicom | SimpleITK | dcm2pnm | agrees |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in read:
        cells = [_cell(row, name) for name in ("pydicom", "simpleitk", "dcm2pnm")]
        agrees = "yes" if row.agrees else "**no**"
        lines.append(f"| {row.file} | {row.syntax} | {row.photometric} | {' | '.join(cells)} | {agrees} |")
    lines += ["", "## Refused", "", "| file | reason |", "|---|---|"]
    lines += [f"| {row.file} | {row.reason} |" for row in rows if row.status == "refused"]
    lines += ["", "## Without an image", "", "| file | reason |", "|---|---|"]
    lines += [f"| {row.file} | {row.reason} |" for row in rows if row.status == "no image"]
    lines += [
        "",
        "## Not compared",
        "",
        "These test files of pydicom are in neither package; they need a download:",
        "",
    ]
    lines += [", ".join(not_here()) + "."]
    return lines


def _cell(row: Agreement, reference: str) -> str:
    if reference in row.left_out:
        return row.left_out[reference]
    difference = row.differences[reference]
    return f"{difference:.1e} ≤ {row.tolerances[reference]:.1e}" if difference else "0"


def main() -> None:
    rows = [compare(name, path) for name, path in test_files().items()]
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "results.json").write_text("[\n" + ",\n".join(json.dumps(asdict(row)) for row in rows) + "\n]\n")
    lines = table(rows)
    (OUT / "results.md").write_text("\n".join(lines) + "\n")
    print(lines[7])


if __name__ == "__main__":
    main()
