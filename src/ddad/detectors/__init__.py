"""Detectors: one file each, one contract."""

from ddad.detectors.base import Detector, FitContext, Scored
from ddad.detectors.cutpaste import CutPaste
from ddad.detectors.ddad import DDAD
from ddad.detectors.ddad_plus import DDADPlus
from ddad.detectors.ddad_training import DDADTraining, train_side_by_side
from ddad.detectors.draem import DRAEM
from ddad.detectors.f_anogan import FAnoGAN
from ddad.detectors.ganomaly import GANomaly
from ddad.detectors.igd import IGD
from ddad.detectors.normal_vs_unlabeled import NormalVsUnlabeled
from ddad.detectors.patch_regression import FPI, PII
from ddad.detectors.reconstruction import AE, AEU, VAE, MemAE
from ddad.detectors.unseen import score_held_out, score_unseen

# Those that take longest come first: of the runs of a grid side by side, no core waits for a long one at the end.
DETECTORS: dict[str, type[Detector]] = {
    detector.name: detector
    for detector in (
        DDADPlus, DDAD, FAnoGAN, DRAEM, NormalVsUnlabeled, CutPaste, IGD, PII, FPI, AEU, VAE, GANomaly, AE, MemAE,
    )
}  # fmt: skip

__all__ = [
    "AE",
    "AEU",
    "DDAD",
    "DETECTORS",
    "DRAEM",
    "FPI",
    "IGD",
    "PII",
    "VAE",
    "CutPaste",
    "DDADPlus",
    "DDADTraining",
    "Detector",
    "FAnoGAN",
    "FitContext",
    "GANomaly",
    "MemAE",
    "NormalVsUnlabeled",
    "Scored",
    "score_held_out",
    "score_unseen",
    "train_side_by_side",
]
