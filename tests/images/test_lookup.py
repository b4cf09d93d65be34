"""Lookup tables, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ddad.images.lookup import LookupTable


def test_values_beyond_a_table_take_its_ends() -> None:
    table = LookupTable.read([3, 10, 16], np.array([5, 600, 70], "<u2").tobytes(), little_endian=True)
    assert table.apply(np.array([-3, 10, 11, 12, 900], np.int16)).tolist() == [5, 5, 600, 70, 70]
    assert table.largest == 65535


def test_bytes_of_big_endian_tables_are_swapped() -> None:
    table = LookupTable.read([2, 0, 16], b"\x01\x00\x00\x02", little_endian=False)
    assert table.apply(np.array([0, 1])).tolist() == [256, 2]


def test_a_table_of_many_entries_of_8_bits_is_not_wrapped_around() -> None:
    # pydicom's own wraps values beyond 255.
    data = np.repeat(np.arange(256, dtype=np.uint8), 16)
    for packed in (data.tobytes(), data.astype("<u2").tobytes(), data.tolist()):
        table = LookupTable.read([4096, 0, 8], packed, little_endian=True)
        np.testing.assert_array_equal(table.apply(np.arange(4096)), data)


def test_no_entries_means_all_of_sixteen_bits() -> None:
    table = LookupTable.read([0, 0, 16], np.arange(65536, dtype="<u2").tobytes(), little_endian=True)
    assert table.apply(np.array([65535])).tolist() == [65535]


def test_a_short_table_is_refused() -> None:
    with pytest.raises(ValueError, match="has 2 entries and says 3"):
        LookupTable.read([3, 0, 16], bytes(4), little_endian=True)
