"""What all readers share: limits that are checked before anything is allocated, and errors that are understood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddad.errors import ImageError, OutputError

LARGEST_PIXEL_COUNT = 2**28
"""Images with more pixels than this are refused from their header, before anything is decoded."""

LARGEST_BYTE_COUNT = 2**30
"""So are images, and files within archives, that take more bytes than this when unpacked."""

TOO_LARGE_FOR_MEMORY = "too large for this machine's memory: make the image smaller"


def check_size(path: Path, width: int, height: int, bytes_per_pixel: int = 1) -> None:
    """Refuse empty and absurdly large images by what their header says.

    Raises:
        ImageError: there is no pixel, or there are more than `LARGEST_PIXEL_COUNT`, or than fit into
            `LARGEST_BYTE_COUNT`.
    """
    if width < 1 or height < 1:
        raise ImageError(path, f"has no pixels ({width}×{height}): export it again from its source")
    most = min(LARGEST_PIXEL_COUNT, LARGEST_BYTE_COUNT // bytes_per_pixel)
    if width * height > most:
        raise ImageError(
            path,
            f"claims {width}×{height} pixels, more than the {most} that are read: "
            "the header is damaged, or the image must be made smaller or cut into tiles",
        )


@contextmanager
def decoding(path: Path, name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a bad file into an `ImageError`."""
    try:
        yield
    except (ImageError, OutputError):
        raise
    except PermissionError as error:
        raise ImageError(path, "may not be read: ask for permission, or copy it") from error
    except MemoryError as error:
        raise ImageError(path, TOO_LARGE_FOR_MEMORY) from error
    except Exception as error:
        # Decoders raise nearly anything on bad bytes: SyntaxError, struct.error, zlib.error, ...
        detail = " ".join(str(error).split())
        detail = detail if " " in detail else type(error).__name__
        raise ImageError(path, f"truncated or damaged {name} ({detail}): copy it again from its source") from error
