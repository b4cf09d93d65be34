"""Which images, what for, and their pixels."""

from ddad.cohorts.cohort import Cohort
from ddad.cohorts.folders import find_images
from ddad.cohorts.masks import read_mask
from ddad.cohorts.pixels import DecodedImage, DecodedImages, ImageWarning, SkippedImage, decode, iterate
from ddad.cohorts.rows import Role
from ddad.cohorts.split import hold_out

__all__ = [
    "Cohort",
    "DecodedImage",
    "DecodedImages",
    "ImageWarning",
    "Role",
    "SkippedImage",
    "decode",
    "find_images",
    "hold_out",
    "iterate",
    "read_mask",
]
