"""Detectors: one file each, one contract."""

from ddad.detectors.base import Detector, FitContext, Scored
from ddad.detectors.ddad import DDAD
from ddad.detectors.normal_vs_unlabeled import NormalVsUnlabeled
from ddad.detectors.reconstruction import AE, AEU, MemAE

DETECTORS: dict[str, type[Detector]] = {
    detector.name: detector for detector in (DDAD, AE, MemAE, AEU, NormalVsUnlabeled)
}

__all__ = ["AE", "AEU", "DDAD", "DETECTORS", "Detector", "FitContext", "MemAE", "NormalVsUnlabeled", "Scored"]
