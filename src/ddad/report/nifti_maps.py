"""Score maps of NIfTI sources as NIfTI volumes with the same affine, put together slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddad.errors import ImageError, writing_to
from ddad.files import whole_file
from ddad.images import Address
from ddad.images.nifti import NiftiGrid, read_nifti_grid
from ddad.images.reader import on_disk
from ddad.model import Finding
from ddad.report.heatmaps import picture_name

_Volume = tuple[str, int]


class NiftiMaps:
    """Collects the main map of each slice in files that grow, and turns them into NIfTI at the end.

    A volume is NaN where there is no map: in slices that were not scored, and where `crop` showed the network nothing.
    """

    def __init__(self, folder: Path, files: Sequence[Path], score: str, scale: tuple[float, float]) -> None:
        self._folder, self._score, self._scale = folder, score, scale
        self._numbers: dict[_Volume, int] = {}
        for number, path in enumerate(files):
            self._numbers.setdefault(_volume_of(str(path)), number)
        self._grids: dict[_Volume, NiftiGrid | None] = {}
        with writing_to(folder):
            folder.mkdir(exist_ok=True)

    def write(self, finding: Finding) -> str | None:
        """Put the map of a slice into its volume; a source that is not NIfTI has none.

        Returns:
            Why it is not there, in a sentence; None if it is, or the source is not NIfTI.

        Raises:
            OutputError: the disk is full.
        """
        key = _volume_of(finding.path)
        try:
            grid = self._grid(key)
            if grid is None:
                return None
        except ImageError as error:
            return error.reason
        file = self._folder / f"{self._name(key)}.npy"
        frame = Address.parse(finding.path).frame
        with writing_to(file):
            if not file.exists():
                # Whole, or not at all: a mapped file that was cut off would be read as a volume.
                _write_empty(file, grid.shape)
            volume = np.load(file, mmap_mode="r+", allow_pickle=False)
            shown = finding.placement.to_source(finding.maps[self._score])
            grid.put(volume, 1 if frame is None else frame.number, shown)
            volume.flush()
        return None

    def finish(self) -> None:
        """Write the volumes as NIfTI, on the colour scale that all maps share.

        Raises:
            OutputError: the disk is full.
        """
        for key in self._numbers:
            file = self._folder / f"{self._name(key)}.npy"
            if not file.exists():
                continue
            grid = self._grid(key)
            assert grid is not None
            header = grid.header.copy()
            header["cal_min"], header["cal_max"] = self._scale
            header["intent_name"] = self._score[:16].encode()
            header["descrip"] = f"ddad anomaly map {self._score}, research only"[:79].encode()
            with writing_to(file):
                grid.kind(np.load(file, mmap_mode="r", allow_pickle=False), None, header).to_filename(
                    file.with_name(f"{self._name(key)}_map.nii.gz")
                )
                file.unlink()

    def _name(self, key: _Volume) -> str:
        container, volume = key
        return picture_name(self._numbers[key], container) + ("" if volume == 1 else f"_{volume}")

    def _grid(self, key: _Volume) -> NiftiGrid | None:
        """Return the grid of a source, None if it is not NIfTI."""
        if key not in self._grids:
            with on_disk(key[0]) as (file, file_format):
                self._grids[key] = read_nifti_grid(file) if file_format == "nifti" else None
        return self._grids[key]


def _volume_of(path: str) -> _Volume:
    address = Address.parse(path)
    return address.container, 1 if address.frame is None else address.frame.volume


def _write_empty(file: Path, shape: tuple[int, ...]) -> None:
    # Written, not mapped: where a mapped file does not fit on the disk, the system ends the process.
    with whole_file(file) as opened:
        np.lib.format.write_array_header_1_0(opened, {"descr": "<f4", "fortran_order": False, "shape": shape})
        plane = np.full(shape[1:], np.nan, "<f4").tobytes()
        for _ in range(shape[0]):
            opened.write(plane)
