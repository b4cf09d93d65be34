"""Which images, what for, and their pixels."""

from ddad.cohorts.cohort import Cohort
from ddad.cohorts.held_out import hold_out_unseen
from ddad.cohorts.listing import Listing, find_images
from ddad.cohorts.masks import read_mask
from ddad.cohorts.pixels import DecodedImage, DecodedImages, ImageWarning, decode, iterate, prepared
from ddad.cohorts.rows import Role, SkippedImage
from ddad.cohorts.split import hold_out

__all__ = [
    "Cohort",
    "DecodedImage",
    "DecodedImages",
    "ImageWarning",
    "Listing",
    "Role",
    "SkippedImage",
    "decode",
    "find_images",
    "hold_out",
    "hold_out_unseen",
    "iterate",
    "prepared",
    "read_mask",
]
