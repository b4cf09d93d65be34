"""Image files: one reader a format behind `read_image`, and the way from pixels to network input."""

from ddad.images.medical_image import MedicalImage
from ddad.images.prepare import find_warnings, prepare, range_warning, size_warning
from ddad.images.reader import IMAGE_SUFFIXES, decode_file, read_image

__all__ = [
    "IMAGE_SUFFIXES",
    "MedicalImage",
    "decode_file",
    "find_warnings",
    "prepare",
    "range_warning",
    "read_image",
    "size_warning",
]
