"""Decoders of compressed DICOM frames, as a plug-in of pydicom: JPEG extended and lossless, JPEG 2000 and HTJ2K.

imagecodecs reads what pydicom's own plug-ins leave out (JPEG of 12 bits, lossless JPEG), and lets other threads run
while it decodes: those for JPEG 2000 do not.
"""

from __future__ import annotations

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder

PLUGIN = "imagecodecs"
"""Name under which pydicom knows the decoders of this module."""

_JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_2000 = (uid.JPEG2000, uid.JPEG2000Lossless, uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL)

# The last marker of JPEG and JPEG 2000 alike, and how many bytes of padding may be behind it.
_END, _PADDING = b"\xff\xd9", 64

# Part of pydicom's protocol of a plug-in.
DECODER_DEPENDENCIES = dict.fromkeys((*_JPEG, *_JPEG_2000), ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Say whether frames of a transfer syntax are decoded here; part of pydicom's protocol of a plug-in."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """Return a frame's pixels as bytes, and tell pydicom how they are laid out.

    Raises:
        ValueError: the frame is cut off. (imagecodecs raises errors of its own on other damage.)
    """
    # libjpeg fills up with grey what is missing.
    if _END not in stream[-_PADDING:]:
        raise ValueError("the frame is cut off")
    if runner.transfer_syntax in _JPEG_2000:
        pixels = imagecodecs.jpeg2k_decode(stream, numthreads=1)
        # The multiple component transformation is part of the codestream, and undone with it.
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
            runner.set_option("photometric_interpretation", "RGB")
    elif runner.samples_per_pixel == 1:
        pixels = imagecodecs.jpeg8_decode(stream)
    else:
        # Components as they are stored: the DICOM header says what they mean.
        pixels = imagecodecs.jpeg8_decode(stream, colorspace="RGB", outcolorspace="RGB")
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(pixels).tobytes()


def plugin_for(syntax: str) -> str:
    """Return the plug-in that pydicom is to use; empty for its own choice."""
    return PLUGIN if is_available(syntax) else ""


for _syntax in DECODER_DEPENDENCIES:
    if PLUGIN not in get_decoder(_syntax).available_plugins:
        get_decoder(_syntax).add_plugin(PLUGIN, (__name__, "decode_frame"))
