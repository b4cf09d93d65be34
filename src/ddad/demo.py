"""The whole way on images made by program: phantoms, fit, score, evaluate, report."""

from __future__ import annotations

from pathlib import Path

from ddad.cohorts import Cohort, Role
from ddad.cohorts.phantom_cohort import write_phantom
from ddad.errors import writing_to
from ddad.experiments.evaluation import Evaluation, evaluate, write_evaluation
from ddad.experiments.tables import evaluation_table, to_markdown
from ddad.files import MARKER, output_folder, remove_folder, write_atomically
from ddad.fitting import fit
from ddad.progress import Progress
from ddad.recipe import Recipe
from ddad.report.findings import write_findings
from ddad.report.page import write_report
from ddad.training.device import DeviceName

_COUNTS = {
    "normals": 300,
    "unlabeled_normals": 120,
    "unlabeled_abnormals": 180,
    "test_normals": 60,
    "test_abnormals": 60,
}
# Few images make few steps an epoch; small batches give a short fit enough of them.
_SHORTER = {
    "reconstruction.ndm_epochs": 40,
    "reconstruction.udm_epochs": 40,
    "reconstruction.batch_size": 16,
    "refinement.epochs": 2,
}


def run_demo(out: Path, *, seed: int, device: DeviceName, overwrite: bool, progress: Progress) -> Evaluation:
    """Write phantom images, a model, findings with heat maps, a results table and a report under `out`.

    Raises:
        OutputError: `out` exists and `overwrite` is False.
    """
    out = output_folder(out, overwrite=overwrite)
    with writing_to(out):
        if out.exists():
            remove_folder(out)
        out.mkdir(parents=True)
        (out / MARKER).touch()
        progress.message("making phantom images")
        images = out / "images"
        write_phantom(images, **_COUNTS, seed=seed)
        cohort = Cohort.from_manifest(images / "manifest.csv")
        model = fit(cohort, Recipe(seed=seed).changed(_SHORTER), device=device, progress=progress)
        model.save(out / "model")
        test = cohort.paths(Role.TEST)
        write_findings(model, test, out / "scores", heatmaps=True, model_name="model", device=device, progress=progress)
        evaluation = evaluate(model, cohort, device=device, progress=progress)
        write_evaluation(evaluation, out / "evaluation", model_name="model")
        write_atomically(out / "results.md", to_markdown(evaluation_table(evaluation)).encode())
        write_report(out, progress=progress)
    return evaluation
