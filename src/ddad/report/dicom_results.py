"""Findings as DICOM objects for a PACS: a parametric map, a secondary capture and a structured report.

All three lie in the study of their source and refer to it; series and instances have new UIDs. They bear the
patient's identity, which a PACS needs to file them.
"""

from __future__ import annotations

import logging
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from ddad import __version__
from ddad.errors import ImageError, writing_to
from ddad.images.source_header import SourceHeader, read_source_header
from ddad.model import Finding
from ddad.report.heatmaps import draw, picture_name

logging.getLogger("highdicom").addHandler(logging.NullHandler())

_MANUFACTURER = "ddad"
_SCHEME = "99DDAD"
_SERIES_NUMBERS = {"map": 9101, "overlay": 9102, "report": 9103}
_UNSEEN = np.float32(-1e30)
_PROCEDURES: dict[str, Any] = {
    "CT": codes.LN.CTUnspecifiedBodyRegion,
    "MR": codes.LN.MRIUnspecifiedBodyRegion,
    "NM": codes.LN.NMUnspecifiedBodyRegion,
    "PT": codes.LN.PETUnspecifiedBodyRegion,
    **dict.fromkeys(("CR", "DX", "MG", "RF", "XA"), codes.LN.XRUnspecifiedBodyRegion),
}
_ANY_PROCEDURE = hd.sr.CodedConcept("363679005", "SCT", "Imaging")


@dataclass(frozen=True)
class ModelIdentity:
    """What the objects say of the model.

    Attributes:
        name: of its folder.
        detector: such as `ddad`.
        fingerprint: SHA-256 of recipe and weights.
        score: name of the main score and of its map.
        scale: values drawn as the two ends of the colours.
    """

    name: str
    detector: str
    fingerprint: str
    score: str
    scale: tuple[float, float]


class DicomResults:
    """Writes three files for each finding of a DICOM source into a folder."""

    def __init__(self, folder: Path, model: ModelIdentity) -> None:
        self._folder = folder
        self._model = model
        with writing_to(folder):
            folder.mkdir(exist_ok=True)
            key = folder / ".run"
            if not key.exists():
                key.write_text(uuid.uuid4().hex)
            # A run that goes on must put its files into the same series.
            self._run = key.read_text()

    def write(self, finding: Finding, number: int) -> str | None:
        """Write the objects of one finding; a source that is not DICOM gets none.

        Returns:
            Why there are none, in a sentence; None if they were written, or the source is not DICOM.

        Raises:
            OutputError: the disk is full.
        """
        try:
            source = read_source_header(finding.path)
        except ImageError as error:
            return error.reason
        if source is None:
            return None
        try:
            with warnings.catch_warnings():
                # highdicom's repeat the patient's name, and would come to the terminal or a log.
                warnings.simplefilter("ignore")
                objects = {
                    "map": self._map(finding, source, number),
                    "overlay": self._overlay(finding, source, number),
                    "report": self._report(finding, source, number),
                }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, KeyError) and error.args == (source.sop_class,):
                # highdicom looks SOP classes up in those of today's standard.
                return f"its SOP class {source.sop_class} is retired or unknown"
            # What highdicom raises on a source that lacks what its object needs.
            return source.without_identity(" ".join(str(error).split()))
        for kind, made in objects.items():
            file = self._folder / f"{picture_name(number, finding.path)}_{kind}.dcm"
            with writing_to(file):
                made.save_as(file)
        return None

    def _place(self, source: SourceHeader, kind: str, number: int) -> dict[str, Any]:
        of = str(source.data.SeriesInstanceUID)
        if kind == "map" and not source.has_place:
            of = str(source.data.SOPInstanceUID)  # a series has one frame of reference, and this one is its own
        return {
            "series_instance_uid": generate_uid(entropy_srcs=[self._run, of, kind]),
            "series_number": _SERIES_NUMBERS[kind],
            "sop_instance_uid": hd.UID(),
            "instance_number": number + 1,
            "manufacturer": _MANUFACTURER,
            "series_description": f"ddad {kind}, research only",
        }

    def _own_frame_of_reference(self, source: SourceHeader) -> str:
        return str(generate_uid(entropy_srcs=[self._run, str(source.data.SOPInstanceUID), "frame of reference"]))

    def _equipment(self) -> dict[str, Any]:
        return {
            "manufacturer_model_name": self._model.detector,
            "software_versions": __version__,
            "device_serial_number": self._model.fingerprint,
        }

    def _map(self, finding: Finding, source: SourceHeader, number: int) -> Any:
        """Return the main map, float32 at the source's size; what the network did not see is padding."""
        values = finding.placement.to_source(finding.maps[self._model.score])
        seen = np.isfinite(values)
        low, high = float(values[seen].min()), float(values[seen].max())
        mapping = hd.pm.RealWorldValueMapping(
            lut_label=self._model.score[:16],
            lut_explanation=f"Anomaly map {self._model.score}, higher is more unusual"[:64],
            unit=codes.UCUM.NoUnits,
            value_range=(low, high),
            slope=1.0,
            intercept=0.0,
            quantity_definition=_code("anomaly-map", "Anomaly map"),
        )
        dark, bright = self._model.scale
        made: Any = hd.pm.ParametricMap(
            source_images=[source.placed(self._own_frame_of_reference(source))],
            pixel_array=np.where(seen, values, _UNSEEN).astype(np.float32),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[
                hd.VOILUTTransformation(window_center=(dark + bright) / 2, window_width=max(bright - dark, 1e-6))
            ],
            content_label="ANOMALY_MAP",
            content_description="Anomaly map, not for diagnosis",
            **self._place(source, "map", number),
            **self._equipment(),
        )
        if not seen.all():
            made.FloatPixelPaddingValue = float(_UNSEEN)
        if not source.data.get("SpacingBetweenSlices"):
            # Of a single slice highdicom makes one up.
            for measures in made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence:
                measures.pop("SpacingBetweenSlices", None)
        made.Laterality = ""
        _name_source(made, source)
        return made

    def _overlay(self, finding: Finding, source: SourceHeader, number: int) -> Any:
        _, overlay = draw(finding, self._model.score, self._model.scale, finding.source_size)
        levels: NDArray[np.uint8] = (overlay * 255).round().astype(np.uint8)
        made: Any = hd.sc.SCImage.from_ref_dataset(
            ref_dataset=source.data,
            pixel_array=levels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            **self._place(source, "overlay", number),
        )
        orientation = source.data.get("PatientOrientation")
        made.PatientOrientation = list(orientation) if orientation and len(orientation) == 2 else None
        made.Laterality = ""
        made.ImageType = ["DERIVED", "SECONDARY"]
        made.DerivationDescription = f"Anomaly map {self._model.score} over the image, not for diagnosis"
        made.SourceImageSequence = [source.reference()]
        if "BurnedInAnnotation" in source.data:
            made.BurnedInAnnotation = source.data.BurnedInAnnotation
        for keyword, value in self._equipment().items():
            setattr(made, _KEYWORDS[keyword], value)
        return made

    def _report(self, finding: Finding, source: SourceHeader, number: int) -> Any:
        measurements = [_measured("anomaly-score", "Anomaly score", finding.score)]
        if finding.p_value is not None:
            measurements.append(_measured("p-value", "p-value against held-out normal images", finding.p_value))
        calibration = finding.calibration
        if calibration is not None:
            measurements.append(_measured("normal-groups", "Groups of held-out normals", len(calibration.groups)))
            if calibration.threshold is None:
                measurements.append(_measured("false-alarm-rate", "False-alarm rate", calibration.false_alarm_rate))
        evaluations = []
        if finding.flagged is not None:
            answer = codes.SCT.Yes if finding.flagged else codes.SCT.No
            evaluations.append(hd.sr.QualitativeEvaluation(_code("flagged", "Flagged as unusual"), answer))
        model = self._model
        group = hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier="whole image"),
            algorithm_id=hd.sr.AlgorithmIdentification(
                name=f"ddad {model.detector}",
                version=__version__,
                parameters=[f"model {model.name}", f"fingerprint {model.fingerprint}", f"score {model.score}"],
                manufacturer=_MANUFACTURER,
            ),
            measurements=measurements,
            qualitative_evaluations=evaluations,
            source_images=[
                hd.sr.SourceImageForMeasurementGroup(
                    source.sop_class, source.data.SOPInstanceUID, None if source.frame is None else [source.frame]
                )
            ],
        )
        if calibration is not None:
            # A flag alone would read as a verdict: "No" also where nothing can be flagged.
            group[0].ContentSequence.append(_text("flagging", "What is flagged", calibration.promise()))
        observer = hd.sr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
                uid=generate_uid(entropy_srcs=[model.fingerprint]),
                name="ddad",
                manufacturer_name=_MANUFACTURER,
                model_name=model.name or model.detector,
                serial_number=model.fingerprint,
            ),
        )
        report = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_device_context=observer),
            procedure_reported=_PROCEDURES.get(str(source.data.get("Modality", "")), _ANY_PROCEDURE),
            imaging_measurements=[group],
        )
        return hd.sr.Comprehensive3DSR(
            evidence=[source.data],
            content=report,
            is_complete=True,
            is_verified=False,
            **self._place(source, "report", number),
        )


_KEYWORDS = {
    "manufacturer_model_name": "ManufacturerModelName",
    "software_versions": "SoftwareVersions",
    "device_serial_number": "DeviceSerialNumber",
}


def _code(value: str, meaning: str) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(value, _SCHEME, meaning)


def _measured(value: str, meaning: str, number: float) -> hd.sr.Measurement:
    return hd.sr.Measurement(name=_code(value, meaning), value=float(number), unit=codes.UCUM.NoUnits)


def _text(value: str, meaning: str, text: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(
        name=_code(value, meaning), value=text, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )


def _name_source(made: Any, source: SourceHeader) -> None:
    """Put the source's own class, and its frame, wherever the map refers to it."""
    for sequence in (element for element in made.iterall() if element.VR == "SQ"):
        for item in sequence.value:
            if item.get("ReferencedSOPInstanceUID") == source.data.SOPInstanceUID:
                item.update(source.reference())
