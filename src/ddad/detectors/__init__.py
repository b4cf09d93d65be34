"""Detectors: one file each, one contract."""

from ddad.detectors.base import Detector, FitContext, Scored
from ddad.detectors.ddad import DDAD
from ddad.detectors.ddad_plus import DDADPlus
from ddad.detectors.draem import DRAEM
from ddad.detectors.normal_vs_unlabeled import NormalVsUnlabeled
from ddad.detectors.patch_regression import FPI, PII
from ddad.detectors.reconstruction import AE, AEU, VAE, MemAE

DETECTORS: dict[str, type[Detector]] = {
    detector.name: detector for detector in (DDAD, AE, MemAE, AEU, VAE, DRAEM, FPI, PII, NormalVsUnlabeled, DDADPlus)
}

__all__ = [
    "AE",
    "AEU",
    "DDAD",
    "DETECTORS",
    "DRAEM",
    "FPI",
    "PII",
    "VAE",
    "DDADPlus",
    "Detector",
    "FitContext",
    "MemAE",
    "NormalVsUnlabeled",
    "Scored",
]
