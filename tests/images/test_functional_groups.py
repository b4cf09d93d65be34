from __future__ import annotations

import pydicom
from pydicom.dataset import Dataset

from ddad.images.functional_groups import elements_in, groups_of_frame

WANTED = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
}


def group(**sequences: dict[str, object]) -> Dataset:
    made = Dataset()
    for name, elements in sequences.items():
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(made, name, [item])
    return made


def said(header: pydicom.Dataset, index: int) -> dict[str, object]:
    return {element.keyword: element.value for element in elements_in(groups_of_frame(header, index), WANTED)}


def test_what_a_frame_says_itself_comes_after_what_all_share() -> None:
    header = Dataset()
    header.SharedFunctionalGroupsSequence = [
        group(PixelMeasuresSequence={"PixelSpacing": [1, 1], "SliceThickness": 5, "SpacingBetweenSlices": 6})
    ]
    header.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePositionSequence={"ImagePositionPatient": [0, 0, place]}, PixelMeasuresSequence={"SliceThickness": 4}
        )
        for place in range(2)
    ]
    assert said(header, 1) == {"PixelSpacing": [1, 1], "SliceThickness": 4, "ImagePositionPatient": [0, 0, 1]}
    assert said(header, 7) == {"PixelSpacing": [1, 1], "SliceThickness": 5}


def test_a_plain_object_has_none() -> None:
    header = Dataset()
    header.PixelSpacing = [1, 1]
    assert groups_of_frame(header, 0) == []
