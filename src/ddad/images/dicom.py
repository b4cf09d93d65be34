"""DICOM files as `MedicalImage`.

Only the elements in `_ELEMENTS` are ever read from a file: no name, no number and no date of a patient is among them.

What the standard or the files leave open:

- *Values*: grey pixels are modality values (rescaled, or by the modality LUT), such as Hounsfield units. The window
  is the `value_range`. A VOI LUT or a sigmoid is a curve, not a range: it is applied.
- *Windows*: a VOI LUT before a window, the first of several windows. Without either, all that can be stored in up to
  8 bits, as in PNG and JPEG files; of more bits few are in use, and nobody says which: the 0.5th and the 99.5th
  percentile of the image.
- *MONOCHROME1* is inverted, so that low is dark. Colour becomes RGB.
- *Padding* becomes the darkest value, and has no part in percentiles.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from ddad.errors import ImageError
from ddad.images.address import Frame
from ddad.images.codecs import plugin_for
from ddad.images.codestream import check_codestream
from ddad.images.decoding import check_size, decoding
from ddad.images.deflated import check_deflated
from ddad.images.functional_groups import FUNCTIONAL_GROUPS, elements_in, groups_of_frame
from ddad.images.lookup import apply_palette, table_of
from ddad.images.medical_image import MedicalImage
from ddad.images.orientation import plane_of
from ddad.images.pixel_data import PixelData, check_pixel_data, contradictions, pixel_data_at
from ddad.images.robust_range import robust_range

_ELEMENTS: list[Any] = [
    *("SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *(f"{kind}PixelPadding{name}" for kind in ("", "Float", "DoubleFloat") for name in ("Value", "RangeLimit")),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("PixelSpacing", "ImagerPixelSpacing", "ImageOrientationPatient"),
    *FUNCTIONAL_GROUPS,
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    "PaletteColorLookupTableUID",
    "BurnedInAnnotation",
]
_PIXEL_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# How pydicom begins to say which element it needs to decode.
_LACKS = "Missing required element: "
# Each functional group that is of use here, and what lies in it (PS3.3 C.7.6.16.2).
_OF_A_FRAME = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
}

# What pydicom says of odd files goes to the application's log if it has one, not to the terminal.
logging.getLogger("pydicom").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")


def is_dicom(head: bytes) -> bool:
    """Tell a DICOM file by its first bytes; without a preamble, by its first element."""
    if head[128:132] == b"DICM":
        return True
    for order in ("little", "big"):
        group, element = int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order)
        known_first = group in (0x0002, 0x0008) and element <= 0x0070 and len(head) >= 8
        if known_first and (head[4:6].isalpha() and head[4:6].isupper()):
            return True
        if known_first and order == "little" and int.from_bytes(head[4:8], "little") <= 256:
            return True
    return False


def count_dicom_frames(path: Path) -> int:
    """Return how many frames a file says that it holds; at least 1.

    Raises:
        ImageError: the file is damaged, or holds no image.
    """
    with decoding(path, "DICOM"):
        return _header(path).frames


def read_dicom(path: Path, frame: Frame | None = None) -> MedicalImage:
    """Read one frame of a DICOM file, the first if none is named.

    Raises:
        ImageError: the file is damaged, truncated, absurdly large, or no image, or it has no such frame.
    """
    with decoding(path, "DICOM"):
        header, count, notes = _header(path)
        number = frame.number if frame else 1
        if not 1 <= number <= count or (frame and frame.volume != 1):
            raise ImageError(path, f"has no frame {number}: it holds {count}, counted from 1")
        if frame is None and count > 1:
            notes += (f"holds {count} frames, only the first is read",)
        if header.get("BurnedInAnnotation") == "YES":
            notes += ("its header says that text is burnt into the pixels: it may name the patient, also in pictures",)
        settings = _settings_of_frame(header, number - 1)
        stored = _decode(path, header, number - 1, count)
        if stored.ndim == 3 or settings.PhotometricInterpretation == "PALETTE COLOR":
            pixels, value_range = _colour(stored, settings)
            origin = "stored range"
        else:
            _check_rescale(path, settings)
            pixels, value_range, origin, more = _grey(stored, settings)
            notes += more
        return MedicalImage(
            pixels=pixels,
            value_range=value_range,
            source=str(path),
            file_format="dicom",
            bits=int(settings.get("BitsStored") or settings.BitsAllocated),
            spacing=_spacing(settings),
            warnings=notes,
            range_origin=origin,
            orientation=plane_of(settings.get("ImageOrientationPatient")),
        )


class _Header(NamedTuple):
    """What precedes the pixels, of what is in `_ELEMENTS`; how many frames there are, and what cannot be true of it."""

    elements: pydicom.Dataset
    frames: int
    notes: tuple[str, ...]


def _header(path: Path) -> _Header:
    """Read what precedes the pixels; refuse what is no image or absurd.

    Raises:
        ImageError: the file holds no image, more pixels than are read, or fewer than it claims.
    """
    unpacked = check_deflated(path)
    with path.open("rb") as file:
        header: pydicom.Dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=_ELEMENTS)
        rows: object = header.get_item("Rows")
        if isinstance(rows, RawDataElement):
            # As the elements are written, not as the meta header says: pydicom finds single frames by this.
            header.set_original_encoding(rows.is_implicit_VR, rows.is_little_endian, header.original_character_set)
        pixels = pixel_data_at(file, header) if unpacked is None else PixelData(None, unpacked)
    if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise ImageError(path, "a DICOMDIR, which lists other files: the files themselves are read")
    if "Rows" not in header or "Columns" not in header:
        raise _no_image(path, header, "no Rows and Columns")
    samples, bits = int(header.get("SamplesPerPixel", 1)), int(header.get("BitsAllocated", 8))
    # A pixel takes at least the 4 bytes of the float that it becomes.
    check_size(path, int(header.Columns), int(header.Rows), max(samples, 1) * max(bits // 8, 4))
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax and syntax.is_private:
        raise ImageError(path, f"its transfer syntax {syntax} is private: not read here, export it uncompressed")
    frames = _frame_count(header)
    check_pixel_data(path, header, frames, pixels)
    return _Header(header, frames, contradictions(header, frames, pixels))


def _no_image(path: Path, header: pydicom.Dataset, lack: str) -> ImageError:
    """Say that a file holds no image; one that was meant to may have lost it."""
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or ""
    name = getattr(kind, "name", "")  # of an unknown class, its number
    name = "" if name == kind else name
    # Of an image's class, it may have been cut off there.
    again = "copy it again from its source, or " if "Image Storage" in name else ""
    return ImageError(path, f"DICOM without an image ({f'{name}, ' if name else ''}{lack}): {again}leave it out")


def _frame_count(header: pydicom.Dataset) -> int:
    try:
        return max(int(header.get("NumberOfFrames") or 1), 1)
    except ValueError as error:
        raise ValueError("NumberOfFrames is no whole number") from error


def _settings_of_frame(header: pydicom.Dataset, index: int) -> pydicom.Dataset:
    """Return the header with what an enhanced object says of this frame in its place."""
    settings = pydicom.Dataset()
    settings.file_meta = header.file_meta
    settings.set_original_encoding(*header.original_encoding)
    for element in header:
        if element.keyword not in FUNCTIONAL_GROUPS:
            settings.add(element)
    for element in elements_in(groups_of_frame(header, index), _OF_A_FRAME):
        settings.add(element)
    return settings


def _decode(path: Path, header: pydicom.Dataset, index: int, frames: int) -> NDArray[Any]:
    """Return the stored pixels of a frame: (H, W), or (H, W, 3) in RGB."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    says_how = syntax is not None and syntax.is_implicit_VR == header.original_encoding[0]
    if syntax is not None and syntax.is_encapsulated:
        says_how &= check_codestream(path, index, frames, int(header.Columns), int(header.Rows))
    try:
        if not says_how or syntax == DeflatedExplicitVRLittleEndian:
            # Only in files that are written as they say can pydicom find a single frame by itself.
            return _decode_whole(path, header, index)
        stored: NDArray[Any] = pixel_array(path, index=index, decoding_plugin=plugin_for(syntax))
    except AttributeError as error:
        if str(error).startswith(_LACKS):
            lack = str(error).removeprefix(_LACKS)
            raise ImageError(path, f"its header lacks {lack}: export it again from its source") from error
        if "no pixel data" not in str(error).lower() and "must contain" not in str(error).lower():
            raise
        raise _no_image(path, header, "no pixel data") from error
    except NotImplementedError as error:
        name = syntax.name if syntax is not None else "its transfer syntax"
        raise ImageError(path, f"{name}: no decoder here reads it, export it uncompressed") from error
    except RuntimeError as error:
        if "missing dependencies" in str(error):
            raise ImageError(path, f"{syntax.name}: no decoder here reads it, export it uncompressed") from error
        if "all available plugins" not in str(error):
            raise
        raise ImageError(path, f"truncated or damaged {syntax.name}: copy it again from its source") from error
    return stored


def _decode_whole(path: Path, header: pydicom.Dataset, index: int) -> NDArray[Any]:
    """Decode a file that must be read as a whole; without a meta header, pydicom guesses how it is written."""
    data = pydicom.dcmread(path, force=True, specific_tags=[*_ELEMENTS, *_PIXEL_DATA])
    if not any(keyword in data for keyword in _PIXEL_DATA):
        raise _no_image(path, header, "no pixel data")
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    plugin = plugin_for(data.file_meta.TransferSyntaxUID)
    stored: NDArray[Any] = pixel_array(data, index=index, decoding_plugin=plugin)
    return stored


def _colour(stored: NDArray[Any], settings: pydicom.Dataset) -> tuple[NDArray[np.float32], tuple[float, float]]:
    if settings.PhotometricInterpretation == "PALETTE COLOR":
        colours, largest = apply_palette(stored, settings)
        return colours.astype(np.float32), (0.0, largest)
    bits = int(settings.get("BitsStored") or settings.BitsAllocated)
    return stored.astype(np.float32), (0.0, float(2**bits - 1))


def _grey(
    stored: NDArray[Any], settings: pydicom.Dataset
) -> tuple[NDArray[np.float32], tuple[float, float], str, tuple[str, ...]]:
    """Return modality values (H, W, 1), the range that becomes dark to bright, where it is from, and notes."""
    padding = _padding(stored, settings)
    modality = table_of(settings, "ModalityLUTSequence")
    values = apply_rescale(stored, settings) if modality is None else modality.apply(stored)
    notes: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None
    origin = ""
    function = str(settings.get("VOILUTFunction") or "LINEAR").upper()
    window = _window(settings)
    voi = table_of(settings, "VOILUTSequence")
    if voi is not None:
        values = voi.apply(values)
        value_range, origin = (0.0, voi.largest), "VOI LUT"
    elif window is not None:
        centre, width = window
        if function == "SIGMOID" and width > 0:
            with np.errstate(over="ignore"):
                values = 1 / (1 + np.exp(-4 * (values - centre) / width))
            value_range, origin = (0.0, 1.0), "sigmoid window"
        elif function != "SIGMOID" and width >= (1 if function == "LINEAR" else 1e-6):
            value_range, origin = _linear_range(centre, width, function), "window"
        else:
            notes = (f"its window is {width:g} wide, and not used",)
    # Doubles beyond the reach of float32 become infinite, which the reader refuses.
    with np.errstate(over="ignore"):
        pixels = values.astype(np.float32)[..., None]
    shown = pixels if padding is None else pixels[~padding]
    if value_range is None:
        value_range, origin = _range_without_window(shown, settings)
    if settings.PhotometricInterpretation == "MONOCHROME1":
        pixels = np.float32(sum(value_range)) - pixels
        shown = np.float32(sum(value_range)) - shown
    if padding is not None and len(shown):
        pixels[padding] = min(value_range[0], float(shown.min()))
    return pixels, value_range, origin, notes


def _range_without_window(shown: NDArray[np.float32], settings: pydicom.Dataset) -> tuple[tuple[float, float], str]:
    """Return the range of modality values that becomes dark to bright where the file names none, and where it is from.

    Whoever writes 8 bits has chosen their range, as for a PNG file. What a modality LUT makes of them is open.
    """
    bits = int(settings.get("BitsStored") or settings.BitsAllocated)
    if bits > 8 or settings.get("ModalityLUTSequence"):
        return robust_range(shown), "percentiles"
    lowest = -(2 ** (bits - 1)) if settings.get("PixelRepresentation") else 0
    low, high = sorted(apply_rescale(np.array([lowest, lowest + 2**bits - 1]), settings).tolist())
    return (float(low), float(high)), "stored range"


def _window(settings: pydicom.Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window."""
    pair = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = settings.get(keyword)
        if isinstance(value, pydicom.multival.MultiValue):
            value = value[0] if len(value) else None
        if value is None or value == "":
            return None
        pair.append(float(value))
    return (pair[0], pair[1]) if np.isfinite(pair).all() else None


def _linear_range(centre: float, width: float, function: str) -> tuple[float, float]:
    """Values that become dark and bright (PS3.3 C.11.2.1.2): LINEAR is meant for whole numbers, LINEAR_EXACT not."""
    if function == "LINEAR_EXACT":
        return centre - width / 2, centre + width / 2
    low = centre - 0.5 - (width - 1) / 2
    # A width of 1 is a threshold.
    return low, low + max(width - 1, 1e-3)


def _padding(stored: NDArray[Any], settings: pydicom.Dataset) -> NDArray[np.bool_] | None:
    """Return where the stored pixels are padding, None if nowhere."""
    kind = next((kind for kind in ("", "Float", "DoubleFloat") if f"{kind}PixelPaddingValue" in settings), None)
    value, limit = (settings.get(f"{kind}PixelPadding{name}") for name in ("Value", "RangeLimit"))
    if not isinstance(value, int | float):
        return None
    limit = limit if isinstance(limit, int | float) else value
    if stored.dtype.kind in "iu" and stored.dtype.itemsize == 2:
        # Files write its 16 bits with or without a sign, whatever the pixels have.
        lowest = int(np.iinfo(stored.dtype).min)
        value, limit = ((int(one) - lowest) % 2**16 + lowest for one in (value, limit))
    low, high = sorted((value, limit))
    padding: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return padding if padding.any() else None


def _check_rescale(path: Path, settings: pydicom.Dataset) -> None:
    """Refuse a line of which a number is missing, where values are to be put on one."""
    both = ("RescaleSlope", "RescaleIntercept")
    if settings.get("ModalityLUTSequence") or not all(keyword in settings for keyword in both):
        return
    for keyword in both:
        value = settings.get(keyword)
        try:
            usable = np.isfinite(float(value))
        except (TypeError, ValueError):
            usable = False
        if not usable:
            raise ImageError(
                path, f"its {keyword} is {'empty' if value is None else value}, no number: export it again"
            )


def _spacing(settings: pydicom.Dataset) -> tuple[float, float] | None:
    spacing = settings.get("PixelSpacing") or settings.get("ImagerPixelSpacing")
    if spacing is None or len(spacing) != 2 or not all(float(step) > 0 for step in spacing):
        return None
    return float(spacing[0]), float(spacing[1])
