"""Findings on disk: a table that grows while images are scored, and pictures on request."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ddad import __version__
from ddad.cohorts import Listing, SkippedImage, find_images
from ddad.errors import CohortError, SettingError, writing_to
from ddad.evaluation.calibration import NOT_CALIBRATED, q_values
from ddad.files import NOTHING_BUT_EMPTY_IS_MISSING, flush, output_folder, write_atomically
from ddad.images import ALL, Selection
from ddad.images.source_header import IDENTIFIERS, read_identifiers
from ddad.model import Finding, Model, write_run
from ddad.progress import Progress
from ddad.report.heatmaps import picture_name, write_pictures
from ddad.report.map_strip import MAPS, write_strip
from ddad.training.device import Compute, DeviceName, Precision
from ddad.workspace import Workspace, digest, publish

if TYPE_CHECKING:
    from ddad.report.dicom_results import DicomResults
    from ddad.report.nifti_maps import NiftiMaps

_DICOM, _NIFTI = "dicom", "nifti"
_NO_DICOM_RESULTS, _NO_NIFTI_MAP = "no DICOM results", "no NIfTI map"
_SUMMARY = ".summary.json"
"""In a workspace whose images are all scored; from then on results are only finished and published."""
_TYPES = {"path": "string", "score": "float64", "p_value": "float64", "flagged": "boolean", "warnings": "string"}
_TYPES |= dict.fromkeys(IDENTIFIERS, "string")  # a patient's number may begin with zeros


@dataclass
class ScoringSummary:
    """What a scoring run did: how many images it scored, which it had to skip, and which files are no images.

    `discovered` counts the images that Benjamini-Hochberg takes over the whole batch, and is None where it is not asked
    or, at its rate, can take none. `blank` are slices or frames
    without content in a file with several; `without_dicom` counts DICOM sources of which no DICOM results could be
    made, `without_nifti` NIfTI slices whose map could not be kept.
    """

    scored: int = 0
    flagged: int = 0
    discovered: int | None = None
    doubtful: int = 0
    without_dicom: int = 0
    without_nifti: int = 0
    blank: list[SkippedImage] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)
    passed_over: list[SkippedImage] = field(default_factory=list)

    def leave_out(self, image: SkippedImage) -> None:
        """Note an image that was not scored."""
        (self.blank if image.blank else self.skipped).append(image)

    def left_out(self) -> list[tuple[str, str, str]]:
        """Return path, reason and kind of everything that was not scored."""
        kinds = {"unreadable": self.skipped, "blank": self.blank, "no image": self.passed_over}
        return [(str(image.path), image.reason, kind) for kind, images in kinds.items() for image in images]

    def store(self, file: Path) -> None:
        """Write it as JSON.

        Raises:
            OutputError: the disk is full.
        """
        write_atomically(file, json.dumps(asdict(self), default=str).encode())

    @classmethod
    def stored(cls, file: Path) -> ScoringSummary:
        """Read what `store` wrote."""
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for name in ("blank", "skipped", "passed_over"):
            content[name] = [SkippedImage(Path(path), reason, blank) for path, reason, blank in content[name]]
        return cls(**content)


def write_findings(
    model: Model,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    heatmaps: bool = False,
    model_name: str = "",
    overwrite: bool = False,
    device: DeviceName = "auto",
    precision: Precision | None = None,
    progress: Progress | None = None,
    selection: Selection = ALL,
    dicom_results: str | Path | None = None,
    nifti_maps: str | Path | None = None,
    keep_identifiers: bool = False,
    false_discovery_rate: float | None = None,
) -> ScoringSummary:
    """Score files and write `findings.csv`, `findings.parquet`, `run.json`, `skipped.csv` and, on request, pictures.

    Columns of the findings: path, score, p_value, flagged; then every score of the detector, the
    source's rows and columns, warnings, and the names of the pictures. `run.json` says which model it was,
    under the name `model_name`, on which scales its maps are drawn, and on which device and in which precision it was
    scored. In the folder `dicom_results`, DICOM sources
    get a parametric map, a secondary capture and a structured report each, and in `nifti_maps`, NIfTI sources get a
    volume of their slices' maps; where one cannot, `warnings` says why. With `keep_identifiers` the findings have the
    columns `IDENTIFIERS` of DICOM headers; without it, nothing that is written but DICOM results has them.

    With a `false_discovery_rate`, `discoveries.csv` says, once all images are scored, which ones Benjamini-Hochberg's
    procedure takes. It is a file of its own: a row of the findings belongs to its image alone, a q-value to the batch.

    While images are scored, the table grows in `OUT.unfinished`; a run that was killed goes on there when
    it is started again with the same model, paths, options and folders of results. Once all are scored, the results
    are published one after another, `out` last.

    Raises:
        OutputError: a folder to write exists and may not be replaced, lies in another one or in an input, or the disk
            is full.
        CohortError: no image could be scored; nothing is left behind then.
        SettingError: the false discovery rate is not between 0 and 1, or the model is not calibrated.
    """
    _check_rate(model, false_discovery_rate)
    target = output_folder(out, overwrite=overwrite, apart_from=paths)
    workspace = Workspace.beside(target)
    places: dict[str, Path] = {}
    for name, place in ((_DICOM, dicom_results), (_NIFTI, nifti_maps)):
        if place is not None:
            others = [*paths, target, workspace.folder, *places.values()]
            published = _is_published(name, workspace.folder)
            places[name] = output_folder(place, overwrite=overwrite or published, apart_from=others)
    listing = find_images(paths, selection)
    compute = Compute.choose(device, precision or model.recipe.precision)
    plan = {
        "model": model.fingerprint(),
        "files": [str(file) for file in listing.images],
        "heatmaps": heatmaps,
        "places": {name: str(place) for name, place in places.items()},
        "keep_identifiers": keep_identifiers,
        "compute": compute.to_json(),
        "calibration": None if model.calibration is None else digest(model.calibration.model_dump(mode="json")),
        "ddad": __version__,
    }
    with workspace.claimed(plan, overwrite=overwrite) as folder:
        left = [name for name in places if not _is_published(name, folder)]
        dicom = _dicom_results(model, model_name, folder) if _DICOM in left else None
        nifti = _nifti_maps(model, listing.images, folder) if _NIFTI in left else None
        if (folder / _SUMMARY).exists():
            summary = ScoringSummary.stored(folder / _SUMMARY)
        else:
            with writing_to(target):
                write_run(folder, model.summary() | {"name": model_name}, compute)
            scoring = _Scoring(model, folder, heatmaps, keep_identifiers, dicom, nifti)
            try:
                summary = scoring.of(listing, device, precision, progress)
            except CohortError:
                workspace.remove()  # no start has scored any: there is nothing to go on with
                raise
            summary.store(folder / _SUMMARY)
        summary.discovered = _write_discoveries(folder, model, false_discovery_rate)
        if nifti is not None:
            nifti.finish()
        for name in left:
            publish(folder / name, places[name])
        publish(folder, target)
    return summary


def _is_published(name: str, workspace: Path) -> bool:
    """Tell whether these results lie at their place already, because a run was killed before it published the others.

    Their folder is made before the first image is scored, and leaves the workspace when it is published.
    """
    return (workspace / _SUMMARY).exists() and not (workspace / name).exists()


@dataclass(frozen=True)
class _Scoring:
    """What is written of each image, and where.

    Attributes:
        model: scores them.
        folder: of the table and the pictures.
        heatmaps: whether pictures are written.
        keep_identifiers: whether the rows have the identifiers of DICOM headers.
        dicom: takes the findings of DICOM sources, if they are wanted.
        nifti: takes those of NIfTI sources, if they are wanted.
    """

    model: Model
    folder: Path
    heatmaps: bool
    keep_identifiers: bool
    dicom: DicomResults | None
    nifti: NiftiMaps | None

    def of(
        self, listing: Listing, device: DeviceName, precision: Precision | None, progress: Progress | None
    ) -> ScoringSummary:
        """Score the images that have no row yet, and return what all starts together did.

        Raises:
            CohortError: no image could be scored.
            OutputError: the disk is full.
        """
        table = _Table(self.folder / "findings.csv")
        done = table.open()
        rest = [file for file in listing.images if str(file) not in done.paths]
        summary = ScoringSummary(
            scored=len(done.paths),
            flagged=done.flagged,
            doubtful=done.doubtful,
            without_dicom=done.without_dicom,
            without_nifti=done.without_nifti,
            skipped=listing.skipped,
            passed_over=listing.passed_over,
        )
        findings = self.model.score_listed(
            rest,
            device=device,
            precision=precision,
            progress=progress,
            on_skipped=summary.leave_out,
            maps=self.heatmaps or self.dicom is not None or self.nifti is not None,
        )
        for number, finding in enumerate(findings if rest else (), start=len(done.paths)):
            finding = self._with_results(finding, number, summary)
            table.append(self._row(finding, number))
            summary.scored += 1
            summary.flagged += finding.flagged is True
            summary.doubtful += bool(finding.warnings)
        left_out = summary.left_out()
        if not summary.scored:
            path, reason, _ = left_out[0]
            raise CohortError(f"score: no image could be scored. Skipped: {len(left_out)}, the first: {path}: {reason}")
        with writing_to(self.folder):
            _read_table(self.folder).to_parquet(self.folder / "findings.parquet", index=False)
        for name in ("findings.csv", "findings.parquet"):
            flush(self.folder / name)
        if left_out:
            skipped = pd.DataFrame(left_out, columns=["path", "reason", "kind"])
            write_atomically(self.folder / "skipped.csv", skipped.to_csv(index=False).encode())
        return summary

    def _with_results(self, finding: Finding, number: int, summary: ScoringSummary) -> Finding:
        """Write the DICOM and NIfTI results of a finding; return it with a warning for each that cannot be made."""
        if self.dicom is not None and (lack := self.dicom.write(finding, number)):
            finding = replace(finding, warnings=(*finding.warnings, f"{_NO_DICOM_RESULTS}: {lack}"))
            summary.without_dicom += 1
        if self.nifti is not None and (lack := self.nifti.write(finding)):
            finding = replace(finding, warnings=(*finding.warnings, f"{_NO_NIFTI_MAP}: {lack}"))
            summary.without_nifti += 1
        return finding

    def _row(self, finding: Finding, number: int) -> dict[str, object]:
        """Return the row of a finding, with its pictures if they are wanted."""
        row = _row(finding)
        if self.keep_identifiers:
            row |= read_identifiers(finding.path)
        if self.heatmaps:
            row |= _pictures(self.model, finding, number, self.folder)
        return row


def _check_rate(model: Model, false_discovery_rate: float | None) -> None:
    if false_discovery_rate is None:
        return
    if not 0 < false_discovery_rate < 1:
        raise SettingError(
            f"--false-discovery-rate {false_discovery_rate:g}: it is a share of the images taken, above 0 and below 1."
        )
    if model.calibration is None:
        raise SettingError(f"--false-discovery-rate: {NOT_CALIBRATED}")


def _write_discoveries(folder: Path, model: Model, rate: float | None) -> int | None:
    """Write which findings Benjamini-Hochberg takes at a false discovery rate, if there is one; return how many.

    Where it can take none, whatever the scores, `discovered` is empty: False would read as normal.
    """
    file = folder / "discoveries.csv"
    if rate is None or model.calibration is None:
        file.unlink(missing_ok=True)
        return None
    table = _read_table(folder)[["path", "score", "p_value"]]
    table["q_value"] = q_values(table["p_value"].to_numpy())
    can_take = model.calibration.caution_of_discoveries(rate) is None
    table["discovered"] = table["q_value"] <= rate if can_take else None
    write_atomically(file, table.to_csv(index=False).encode())
    return int(table["discovered"].sum()) if can_take else None


def _read_table(folder: Path) -> pd.DataFrame:
    table: pd.DataFrame = pd.read_csv(folder / "findings.csv", dtype=_TYPES, **NOTHING_BUT_EMPTY_IS_MISSING)
    return table


def _dicom_results(model: Model, name: str, folder: Path) -> DicomResults:
    # highdicom takes a second to import.
    from ddad.report.dicom_results import DicomResults, ModelIdentity

    score = model.primary_score
    identity = ModelIdentity(name, model.detector.name, model.fingerprint(), score, model.map_scale(score))
    return DicomResults(folder / _DICOM, identity)


def _nifti_maps(model: Model, files: Sequence[Path], folder: Path) -> NiftiMaps:
    # nibabel takes a while to import.
    from ddad.report.nifti_maps import NiftiMaps

    return NiftiMaps(folder / _NIFTI, files, model.primary_score, model.map_scale(model.primary_score))


@dataclass
class _Done:
    """What an earlier run of the same work scored."""

    paths: set[str] = field(default_factory=set)
    flagged: int = 0
    doubtful: int = 0
    without_dicom: int = 0
    without_nifti: int = 0


class _Table:
    """A CSV file that rows are appended to; a row that was cut off by a kill is dropped and done again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._has_header = False

    def open(self) -> _Done:
        """Return what an earlier run wrote, row by row, and drop what was cut off."""
        done = _Done()
        if not self._path.exists():
            return done
        with writing_to(self._path), self._path.open("r+b") as file:
            file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))
        with self._path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            self._has_header = rows.fieldnames is not None
            for row in rows:
                done.paths.add(row["path"])
                done.flagged += row["flagged"] == "True"
                done.doubtful += bool(row["warnings"])
                done.without_dicom += _NO_DICOM_RESULTS in row["warnings"]
                done.without_nifti += _NO_NIFTI_MAP in row["warnings"]
        return done

    def append(self, row: dict[str, object]) -> None:
        lines = [_line(row.values())]
        if not self._has_header:
            lines.insert(0, _line(row))
            self._has_header = True
        with writing_to(self._path), self._path.open("a", encoding="utf-8", newline="") as file:
            file.write("".join(lines))


def _line(values: Iterable[object]) -> str:
    """Return a line of a CSV file; its writer quotes names with a carriage return, as that ends its own lines, too."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _row(finding: Finding) -> dict[str, object]:
    rows, columns = finding.source_size
    return {
        "path": finding.path,
        "score": finding.score,
        "p_value": finding.p_value,
        "flagged": finding.flagged,
        **finding.scores,
        "rows": rows,
        "columns": columns,
        "warnings": "; ".join(finding.warnings),
    }


def _pictures(model: Model, finding: Finding, number: int, folder: Path) -> dict[str, object]:
    name = model.primary_score
    file = f"{picture_name(number, finding.path)}.png"
    heat, overlay, strip = Path("heatmaps") / file, Path("overlays") / file, Path(MAPS) / file
    with writing_to(folder):
        for picture in (heat, overlay, strip):
            (folder / picture).parent.mkdir(exist_ok=True)
    write_pictures(finding, name, model.map_scale(name), folder / heat, folder / overlay)
    write_strip(finding, {name: model.map_scale(name) for name in finding.maps}, folder / strip)
    return {"heatmap": heat.as_posix(), "overlay": overlay.as_posix()}
