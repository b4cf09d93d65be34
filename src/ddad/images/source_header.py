"""The header of a DICOM source, patient and study included, for objects that are filed beside it.

The one place that reads identifying elements: what it returns goes into DICOM objects, and into a table only if the
user asks for it (`--keep-identifiers`); never into a log.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.uid import CTImageStorage

from ddad.errors import ImageError
from ddad.images.address import Address
from ddad.images.archive import unpacked
from ddad.images.decoding import decoding
from ddad.images.deflated import check_deflated
from ddad.images.dicom import is_dicom
from ddad.images.functional_groups import FUNCTIONAL_GROUPS, elements_in, groups_of_frame
from ddad.images.reader import on_disk

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Rows", "Columns")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
_UNICODE = "ISO_IR 192"
_FORMS = {"DA": re.compile(r"\d{8}"), "TM": re.compile(r"\d\d(\d\d(\d\d(\.\d{1,6})?)?)?")}
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_FRAME_GEOMETRY = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
}
IDENTIFIERS = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "accession_number": "AccessionNumber",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "instance_uid": "SOPInstanceUID",
}
"""Columns that say whose image it is, and the elements that they hold."""


@dataclass(frozen=True)
class SourceHeader:
    """A source as a single frame.

    Attributes:
        data: its elements without pixels; of an object with several frames, the geometry is that of the frame.
        frame: its number, from 1; None if the object holds a single one.
    """

    data: pydicom.Dataset
    frame: int | None

    @property
    def sop_class(self) -> str:
        """SOP class of the source."""
        return str(self.data.SOPClassUID)

    @property
    def has_place(self) -> bool:
        """Whether it says where in a frame of reference its pixels lie."""
        return bool(self.data.get("FrameOfReferenceUID"))

    def placed(self, frame_of_reference: str) -> pydicom.Dataset:
        """Return the elements as of a single slice with a place, which a parametric map must have.

        Args:
            frame_of_reference: UID for a source without a place, related to no other, which so says nothing of where in
                the patient it lies.
        """
        data: pydicom.Dataset = deepcopy(self.data)
        # The kind of object by which highdicom knows a single slice.
        data.SOPClassUID = CTImageStorage
        if not self.has_place:
            data.FrameOfReferenceUID = frame_of_reference
            data.ImagePositionPatient = [0, 0, 0]
            data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            data.PixelSpacing = data.get("PixelSpacing") or data.get("ImagerPixelSpacing") or [1, 1]
            data.SliceThickness = 1
        data.SliceThickness = data.get("SliceThickness")  # may be empty, but not left out
        return data

    def without_identity(self, text: str) -> str:
        """Return a text in which nothing of patient and study is left, of what an error message may repeat."""
        values = {str(self.data.get(keyword) or "") for keyword in _MAY_BE_EMPTY}
        for value in sorted(values - {""}, key=len, reverse=True):
            text = text.replace(value, "…")
        return text

    def reference(self) -> pydicom.Dataset:
        """Return an item that refers to the instance, and to the frame in it."""
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID = self.data.SOPClassUID
        item.ReferencedSOPInstanceUID = self.data.SOPInstanceUID
        if self.frame is not None:
            item.ReferencedFrameNumber = self.frame
        return item


def read_source_header(path: str | Path) -> SourceHeader | None:
    """Read the header of the image at an address; None if it is not DICOM.

    Missing elements that may be empty (Type 2) are there, and empty.

    Raises:
        ImageError: the file cannot be read, or lacks an identifier that no object in the study can do without.
    """
    address = Address.parse(path)
    if address.member is None:
        return _read(address, address.file)
    with unpacked(address.file, address.member) as file:
        return _read(address, file)


def read_identifiers(path: str | Path) -> dict[str, str]:
    """Return by column of `IDENTIFIERS` what a DICOM header says.

    Empty where it says nothing, of other formats, and of files that cannot be read any more.
    """
    keywords = list(IDENTIFIERS.values())
    try:
        with on_disk(path) as (file, file_format), decoding(file, "DICOM"):
            header: Any = {}
            if file_format == "dicom":
                check_deflated(file)
                header = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=keywords)
            return {column: str(header.get(keyword) or "") for column, keyword in IDENTIFIERS.items()}
    except ImageError:
        return dict.fromkeys(IDENTIFIERS, "")


def _read(address: Address, file: Path) -> SourceHeader | None:
    with decoding(file, "DICOM"):
        with file.open("rb") as opened:
            if not is_dicom(opened.read(256)):
                return None
        check_deflated(file)
        data: Any = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    missing = [keyword for keyword in _NEEDED if not data.get(keyword)]
    if missing:
        raise ImageError(str(file), f"the source lacks {', '.join(missing)}")
    several = int(data.get("NumberOfFrames") or 1) > 1
    frame = (address.frame.number if address.frame else 1) if several else None
    groups = groups_of_frame(data, (frame or 1) - 1)
    if several and not groups:
        # Where its frames lie, an object without functional groups does not say in one place.
        for keyword in _GEOMETRY[:2]:
            data.pop(keyword, None)
    for element in elements_in(groups, _FRAME_GEOMETRY):
        data.add(element)
    for keyword in (*FUNCTIONAL_GROUPS, "NumberOfFrames"):
        data.pop(keyword, None)
    if not all(data.get(keyword) for keyword in _GEOMETRY):
        for keyword in ("FrameOfReferenceUID", *_GEOMETRY[:2]):
            data.pop(keyword, None)
    if "DeidentificationMethod" not in data and "DeidentificationMethodCodeSequence" not in data:
        # Said without saying how, it would be an error in each object that repeats it.
        data.pop("PatientIdentityRemoved", None)
    for keyword in _MAY_BE_EMPTY:
        kind = dictionary_VR(keyword)
        value = data.get(keyword, "")
        data[keyword] = pydicom.DataElement(keyword, kind, _sound(value, kind) if kind in _FORMS else value)
    # What is filed beside a source repeats its texts, and says more than its character set may have letters for.
    data.decode()
    data.SpecificCharacterSet = _UNICODE
    return SourceHeader(data, frame)


def _sound(value: object, kind: str) -> str:
    """Return a date or a time as the standard wants it; empty, not handed on, if it is none.

    ACR-NEMA wrote 1996.10.29 and 15:18:59 (PS3.5, 6.2).
    """
    text = re.sub(r"^(\d{4})\.(\d\d)\.(\d\d)$|:", r"\1\2\3", str(value or "").strip())
    return text if _FORMS[kind].fullmatch(text) else ""
