"""Detectors: one file each, one contract."""

from ddad.detectors.base import Detector, FitContext, Scored
from ddad.detectors.ddad import DDAD

DETECTORS: dict[str, type[Detector]] = {detector.name: detector for detector in (DDAD,)}

__all__ = ["DDAD", "DETECTORS", "Detector", "FitContext", "Scored"]
