"""The table that grows while images are scored, and results that are published one after another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.data import get_testdata_file

from ddad import Cohort, Model, fit
from ddad.errors import CohortError, OutputError
from ddad.evaluation.calibration import Calibration
from ddad.report import findings as findings_module
from ddad.report.findings import ScoringSummary, _Table, write_findings
from ddad.report.nifti_maps import NiftiMaps
from ddad.report.results import read_results
from support import RecordedProgress, contents, tiny_recipe, write_images

ROWS = [
    {"path": "a.png", "flagged": True, "warnings": ""},
    {"path": 'b, "é".png', "flagged": False, "warnings": "a doubt"},
    {"path": "c.png", "flagged": True, "warnings": "a doubt; no DICOM results: it lacks something"},
]


def written(path: Path) -> bytes:
    table = _Table(path)
    assert not table.open().paths
    for row in ROWS:
        table.append(row)
    return path.read_bytes()


@pytest.mark.parametrize("lines", range(5))
def test_a_row_that_was_cut_off_is_dropped_and_the_table_goes_on(tmp_path: Path, lines: int) -> None:
    """Killed before anything, after the header, or within a row: the table ends as without the kill."""
    file = tmp_path / "findings.csv"
    whole = written(file)
    kept = b"".join(whole.splitlines(keepends=True)[:lines])
    file.write_bytes(kept + whole[len(kept) :][:5])
    table = _Table(file)
    done = table.open()
    finished = ROWS[: max(0, lines - 1)]
    assert file.read_bytes() == kept
    assert done.paths == {row["path"] for row in finished}
    assert done.flagged == sum(row["flagged"] is True for row in finished)
    assert done.doubtful == sum(bool(row["warnings"]) for row in finished)
    assert (done.without_dicom, done.without_nifti) == (len(finished) == 3, 0)
    for row in ROWS[len(finished) :]:
        table.append(row)
    assert file.read_bytes() == whole
    assert pd.read_csv(file)["path"].tolist() == [row["path"] for row in ROWS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = write_images(tmp_path_factory.mktemp("fit") / "normal", 12)[0].parent
    return fit(Cohort.from_folders(normal=folder), tiny_recipe(detector="ae", reconstruction__ndm_epochs=1), workers=0)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A DICOM file, two NIfTI volumes of one slice each beside blank ones, and a file that cannot be read."""
    folder = tmp_path / "sources"
    folder.mkdir()
    shutil.copy(str(get_testdata_file("CT_small.dcm")), folder / "a.dcm")
    for seed, name in enumerate(("b", "c")):
        volume = np.zeros((20, 24, 3), np.float32)
        volume[..., 1] = np.random.default_rng(seed).random((20, 24))
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"{name}.nii")
    (folder / "d.png").write_bytes(b"no picture")
    return folder


def results(folder: Path) -> dict[str, object]:
    """Return what lies in `out`, `dicom` and `nifti`, without the UIDs and times in DICOM files."""
    found: dict[str, object] = contents(folder)
    for name in found:
        if name.endswith(".nii.gz"):
            found[name] = np.nan_to_num(np.asarray(nibabel.load(folder / name).dataobj)).tolist()
        elif name.endswith(".dcm"):
            found[name] = None
    return found


def scored(model: Model, sources: Path, into: Path, **options: Any) -> ScoringSummary:
    return write_findings(
        model, [sources], into / "out", dicom_results=into / "dicom", nifti_maps=into / "nifti", **options
    )


def test_words_for_missing_values_are_names_like_others(model: Model, tmp_path: Path) -> None:
    """Files without a suffix and anonymised patients are called so."""
    (tmp_path / "sources").mkdir()
    for name in ("NA", "null"):
        source = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
        source.PatientID, source.PatientName, source.AccessionNumber = "N/A", "None", "NA"
        source.save_as(tmp_path / "sources" / name)
    write_findings(model, [tmp_path / "sources"], tmp_path / "out", keep_identifiers=True)
    table = pd.read_parquet(tmp_path / "out" / "findings.parquet")
    assert [Path(path).name for path in table["path"]] == ["NA", "null"]
    assert table["patient_id"].tolist() == ["N/A"] * 2
    assert table["patient_name"].tolist() == ["None"] * 2
    assert table["accession_number"].tolist() == ["NA"] * 2
    write_findings(model, [tmp_path / "sources" / "NA"], tmp_path / "one")
    (tmp_path / "one" / "findings.csv").write_text("path,score\nNA,1.5\n")
    assert read_results(tmp_path / "one").findings["path"].tolist() == ["NA"]


def test_a_name_with_a_carriage_return_keeps_its_row(model: Model, tmp_path: Path) -> None:
    (source,) = write_images(tmp_path / "sources", 1)
    odd = source.rename(source.with_name("a\rb.png"))
    write_findings(model, [odd], tmp_path / "out")
    assert pd.read_parquet(tmp_path / "out" / "findings.parquet")["path"].tolist() == [str(odd)]
    assert _Table(tmp_path / "out" / "findings.csv").open().paths == {str(odd)}


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_a_kill_between_publications_loses_nothing(
    published: int, overwrite: bool, model: Model, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scored(model, sources, tmp_path / "whole", overwrite=overwrite)
    publish, done = findings_module.publish, []

    def killed_in_between(folder: Path, target: Path) -> None:
        if len(done) == published:
            raise KeyboardInterrupt
        publish(folder, target)
        done.append(target)

    with monkeypatch.context() as patch:
        patch.setattr(findings_module, "publish", killed_in_between)
        with pytest.raises(KeyboardInterrupt):
            scored(model, sources, tmp_path / "cut", overwrite=overwrite)
    assert not (tmp_path / "cut" / "out").exists()
    # Whatever was scored is not scored again, and what was published stays as it is.
    monkeypatch.setattr(Model, "score_listed", lambda *_, **__: pytest.fail("scored again"))
    before = contents(tmp_path / "cut")
    again = scored(model, sources, tmp_path / "cut", overwrite=overwrite)
    after = contents(tmp_path / "cut")
    for place in done:
        assert {name: after[name] for name in after if name.startswith(f"{place.name}/")} == {
            name: before[name] for name in before if name.startswith(f"{place.name}/")
        }
    assert again == whole
    assert [image.path.name for image in again.skipped] == ["d.png"]
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"out", "dicom", "nifti"}


def test_a_kill_while_volumes_are_written_loses_none(
    model: Model, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(model, sources, tmp_path / "whole")
    unlink = Path.unlink

    def killed_after_the_first(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.suffix == ".npy":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            scored(model, sources, tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["out.unfinished"]
    scored(model, sources, tmp_path / "cut")
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


def test_nothing_is_kept_of_a_start_that_goes_on_and_can_score_no_image(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = write_images(tmp_path / "sources", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Model, "score_listed", lambda *_, **__: killed())
        with pytest.raises(KeyboardInterrupt):
            write_findings(model, [source], tmp_path / "out")
    assert (tmp_path / "out.unfinished").exists()
    source.write_bytes(b"no picture")
    with pytest.raises(CohortError, match="no image could be scored"):
        write_findings(model, [source], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["sources"]


def test_results_that_were_published_elsewhere_are_not_passed_over(
    model: Model, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(NiftiMaps, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            scored(model, sources, tmp_path)
    with pytest.raises(OutputError, match="other settings"):
        write_findings(
            model, [sources], tmp_path / "out", dicom_results=tmp_path / "other", nifti_maps=tmp_path / "nifti"
        )


def test_a_rate_may_be_asked_for_after_a_kill(
    model: Model, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(findings_module, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            scored(model, sources, tmp_path, false_discovery_rate=0.5)
    scored(model, sources, tmp_path)
    assert not (tmp_path / "out" / "discoveries.csv").exists()


def test_scores_by_another_calibration_do_not_stand_in_one_table(
    model: Model, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        Calibration.from_scores(values, range(10), of="normals", score=model.detector.primary_score)
        for values in (np.arange(10.0), [0, 1, 2, 3, 4, 5, 6, 7, 8.5, 9])
    )
    assert first.summary() == second.summary()
    with monkeypatch.context() as patch:
        patch.setattr(findings_module, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            scored(Model(model.detector, model.card, first), sources, tmp_path)
    with pytest.raises(OutputError, match="unfinished"):
        scored(Model(model.detector, model.card, second), sources, tmp_path)
    scored(Model(model.detector, model.card, first), sources, tmp_path)


@pytest.mark.parametrize(
    ("dicom_results", "nifti_maps"),
    [
        ("out", None),
        ("out/dicom", None),
        (".", None),
        ("out.unfinished/mine", None),
        (None, "out"),
        (None, "out/nifti"),
        ("results", "results"),
        ("results", "results/nifti"),
        ("results/dicom", "results"),
    ],
)
def test_an_output_in_another_is_refused_before_any_work(
    dicom_results: str | None, nifti_maps: str | None, model: Model, sources: Path, tmp_path: Path
) -> None:
    """Publishing the outer one would remove the inner one."""
    places = {
        name: None if place is None else tmp_path / "new" / place
        for name, place in (("dicom_results", dicom_results), ("nifti_maps", nifti_maps))
    }
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"is read or written too\. Choose another place"):
            write_findings(model, [sources], tmp_path / "new" / "out", overwrite=overwrite, **places)
    assert [path.name for path in tmp_path.iterdir()] == ["sources"]


def test_a_bar_moves_when_the_pictures_of_an_image_are_drawn(model: Model, tmp_path: Path) -> None:
    """Not once a block of images: pictures of large ones take seconds each."""
    files = write_images(tmp_path / "in", 5, seed=7)
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    progress = RecordedProgress()

    write_findings(model, [files[0].parent], tmp_path / "out", heatmaps=True, progress=progress)

    (scoring,) = (task for task in progress.tasks if task.title == "scoring")
    assert (scoring.total, scoring.done, len(scoring.notes)) == (6, 6, 6)
