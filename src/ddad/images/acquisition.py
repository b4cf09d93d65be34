"""Who made a DICOM image and when: for audits, which ask whether that alone tells two groups of images apart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom

from ddad.images.decoding import decoding
from ddad.images.deflated import check_deflated
from ddad.images.reader import on_disk

_ELEMENTS = ["Manufacturer", "ManufacturerModelName", "AcquisitionDate", "ContentDate", "StudyDate"]


@dataclass(frozen=True)
class Acquisition:
    """What a DICOM header says of the machine and the day; nothing of other formats.

    Attributes:
        maker: of the machine; empty if unknown.
        model: of the machine; empty if unknown.
        day: of the acquisition, counted from the year 1; NaN if unknown.
    """

    maker: str = ""
    model: str = ""
    day: float = np.nan


def read_acquisition(path: str | Path) -> Acquisition:
    """Read maker, model and day of a file.

    Raises:
        ImageError: the file is missing, unreadable or damaged.
    """
    with on_disk(path) as (file, file_format):
        if file_format != "dicom":
            return Acquisition()
        with decoding(file, "DICOM"):
            check_deflated(file)
            header = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(_ELEMENTS))
            maker, model = (str(header.get(name) or "").strip() for name in _ELEMENTS[:2])
            days = [_day(str(header.get(name) or "")) for name in _ELEMENTS[2:]]
    return Acquisition(maker, model, next((day for day in days if day == day), np.nan))


def _day(text: str) -> float:
    try:
        return float(datetime.strptime(text[:8], "%Y%m%d").toordinal())
    except ValueError:
        return np.nan
