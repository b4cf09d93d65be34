"""What an enhanced DICOM object says of one of its frames (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pydicom

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""The elements that hold the groups: of all frames, and of each."""


def groups_of_frame(header: pydicom.Dataset, index: int) -> list[pydicom.Dataset]:
    """Return the groups that hold for frame `index`, from 0: the shared ones, then its own; none of a plain object."""
    shared, per_frame = (header.get(keyword, []) for keyword in FUNCTIONAL_GROUPS)
    return [*shared[:1], *per_frame[index : index + 1]]


def elements_in(
    groups: Sequence[pydicom.Dataset], wanted: Mapping[str, Sequence[str]]
) -> Iterator[pydicom.DataElement]:
    """Yield elements of functional groups, one after another: where one comes twice, the later holds.

    Args:
        groups: as of `groups_of_frame`.
        wanted: keywords of elements, by that of the sequence that they lie in.
    """
    for group in groups:
        for sequence, keywords in wanted.items():
            for item in group.get(sequence, [])[:1]:
                yield from (item[keyword] for keyword in keywords if keyword in item)
