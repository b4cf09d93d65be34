"""Image files: one reader a format behind `read_image`, and the way from pixels to network input."""

from ddad.images.acquisition import Acquisition, read_acquisition
from ddad.images.address import ALL, Address, Selection, byte_count, content
from ddad.images.archive import list_members
from ddad.images.in_memory import ImageSource, take_image
from ddad.images.medical_image import MedicalImage
from ddad.images.patient import Identity, read_identity
from ddad.images.placement import Placement
from ddad.images.prepare import (
    colour_warning,
    find_warnings,
    is_coloured,
    normalise,
    prepare,
    range_warning,
    size_warning,
)
from ddad.images.reader import IMAGE_SUFFIXES, decode_file, expand, is_image, read_image
from ddad.images.robust_range import robust_range

__all__ = [
    "ALL",
    "IMAGE_SUFFIXES",
    "Acquisition",
    "Address",
    "Identity",
    "ImageSource",
    "MedicalImage",
    "Placement",
    "Selection",
    "byte_count",
    "colour_warning",
    "content",
    "decode_file",
    "expand",
    "find_warnings",
    "is_coloured",
    "is_image",
    "list_members",
    "normalise",
    "prepare",
    "range_warning",
    "read_acquisition",
    "read_identity",
    "read_image",
    "robust_range",
    "size_warning",
    "take_image",
]
