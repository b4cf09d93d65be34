"""Lookup tables of DICOM: modality, VOI and palette (PS3.3 C.11.1.1, C.11.2.1.1, C.7.6.3.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut


@dataclass(frozen=True)
class LookupTable:
    """Entries for consecutive values.

    Attributes:
        first: value that is mapped to the first entry; smaller ones are too, larger than the last to the last.
        entries: what values become.
        largest: that an entry can be, by its number of bits.
    """

    first: int
    entries: NDArray[Any]
    largest: float

    @classmethod
    def read(cls, descriptor: Sequence[int], data: bytes | Sequence[int], *, little_endian: bool) -> LookupTable:
        """Read a table from its descriptor (number of entries, first value, bits) and its data.

        Raises:
            ValueError: there are fewer entries than the descriptor says.
        """
        count, first, bits = int(descriptor[0]) or 2**16, int(descriptor[1]), int(descriptor[2])
        if not isinstance(data, bytes):
            entries = np.atleast_1d(np.asarray(data, np.int64))
        elif bits <= 8 and len(data) < 2 * count:
            entries = np.frombuffer(data, np.uint8)
        else:
            entries = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little_endian else ">u2")
        if len(entries) < count:
            raise ValueError(f"a lookup table has {len(entries)} entries and says {count}")
        return cls(first, entries[:count], float(2**bits - 1))

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the entry of each value; fractions are rounded."""
        place = np.rint(values).astype(np.int64) - self.first
        found: NDArray[Any] = self.entries[np.clip(place, 0, len(self.entries) - 1)]
        return found


def table_of(settings: pydicom.Dataset, sequence: str) -> LookupTable | None:
    """Return the first table of `ModalityLUTSequence` or `VOILUTSequence`, None if there is none."""
    if not settings.get(sequence):
        return None
    item = settings[sequence].value[0]
    return LookupTable.read(item.LUTDescriptor, item.LUTData, little_endian=_little_endian(settings))


def apply_palette(stored: NDArray[Any], settings: pydicom.Dataset) -> tuple[NDArray[Any], float]:
    """Return stored values (H, W) in the colours of the file's palette, (H, W, 3), and the largest level."""
    planes, largest = [], 0.0
    for colour in ("Red", "Green", "Blue"):
        data = settings.get(f"{colour}PaletteColorLookupTableData")
        if data is None:
            # Segmented, or known by its UID.
            colours = apply_color_lut(stored, settings)[..., :3]
            return colours, float(np.iinfo(colours.dtype).max)
        descriptor = settings[f"{colour}PaletteColorLookupTableDescriptor"].value
        table = LookupTable.read(descriptor, data, little_endian=_little_endian(settings))
        planes.append(table.apply(stored))
        largest = table.largest
    return np.stack(planes, axis=-1), largest


def _little_endian(settings: pydicom.Dataset) -> bool:
    return settings.original_encoding[1] is not False
