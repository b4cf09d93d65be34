"""Whom a DICOM image shows, as digests that name nobody: so that images of one patient can be kept together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pydicom

from ddad.images.decoding import decoding
from ddad.images.deflated import check_deflated
from ddad.images.reader import on_disk

_PATIENT = ["PatientID", "IssuerOfPatientID"]


@dataclass(frozen=True)
class Identity:
    """Whom and what a DICOM file shows; equal digests mean the same, and nothing else follows from them.

    Attributes:
        patient: digest of the patient's identifier and its issuer; empty if there is none.
        study: digest of the study's UID; empty if there is none.
    """

    patient: str = ""
    study: str = ""


def read_identity(path: str | Path) -> Identity:
    """Read whom and what a file shows; empty for other formats than DICOM.

    Raises:
        ImageError: the file is missing, unreadable or damaged.
    """
    with on_disk(path) as (file, file_format):
        if file_format != "dicom":
            return Identity()
        with decoding(file, "DICOM"):
            check_deflated(file)
            tags = [*_PATIENT, "StudyInstanceUID"]
            header = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(tags))
            identifier, issuer, study = (str(header.get(tag) or "").strip() for tag in tags)
    return Identity(_digest(f"{identifier}\n{issuer}") if identifier else "", _digest(study) if study else "")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
