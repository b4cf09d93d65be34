"""From a plan to a model at its place: found there, gone on with, or made."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ddad.errors import CalibrationError, FitWarning, ModelError, writing_to
from ddad.files import output_folder, real
from ddad.model import Model
from ddad.progress import Progress
from ddad.workspace import Workspace, digest


def make_model(
    make: Callable[[Path], Model],
    plan: dict[str, Any],
    identity: dict[str, Any],
    out: str | Path | None,
    *,
    overwrite: bool,
    progress: Progress,
) -> Model:
    """Make a model in a workspace and save it, unless it lies at `out` already.

    Args:
        make: makes it, in a folder that may hold unfinished work of the same plan.
        plan: what the unfinished work belongs to.
        identity: what the model belongs to; its card gets the digest. A model of the same at `out` is taken as it is
            with `overwrite`, and where its workspace is still there: then a kill came between saving and tidying up.
        out: where it is saved, with the workspace beside it; None keeps it in memory alone.
        overwrite: whether another model at `out`, or other work in the workspace, may be replaced.
        progress: told if the model, or unfinished work, is there.

    Raises:
        OutputError: `out` exists, other unfinished work lies there, or the disk is full.
    """

    def made(folder: Path) -> Model:
        model = make(folder)
        model.card["plan"] = digest(identity)
        return model

    if out is None:
        with TemporaryDirectory(prefix="ddad-", ignore_cleanup_errors=True) as temporary:
            return made(Path(temporary))
    workspace = Workspace.beside(real(out))
    going_on = workspace.holds(plan)
    model = _saved_model(Path(out), identity) if overwrite or going_on else None
    if model is None:
        output_folder(out, overwrite=overwrite)
    with workspace.claimed(plan, overwrite=overwrite) as folder:
        if model is not None:
            progress.message(f"{out}: is there already, of the same images and settings; delete it to fit it anew")
        else:
            if going_on:
                progress.message(f"going on with the unfinished fit in {workspace.folder}")
            model = made(folder)
            model.save(out, overwrite=overwrite)
        workspace.remove()  # while it is claimed: another process may wait to claim it
    return model


def warn_of_fit(model: Model) -> None:
    """Issue, at the line that called `fit`, a `FitWarning` for skipped files and for each doubt."""
    cohort = model.card["cohort"]
    texts = list(cohort["warnings"])
    if skipped := cohort["skipped"]:
        path, reason = skipped[0]
        texts.insert(0, f"files skipped: {len(skipped)}, the first: {path}: {reason}")
    if model.calibration is not None and (doubt := model.calibration.caution()):
        texts.append(doubt)
    for text in texts:
        warnings.warn(text, FitWarning, stacklevel=3)


def _saved_model(out: Path, identity: dict[str, Any]) -> Model | None:
    """Return the model at `out` if it belongs to `identity`; none that is damaged, or of another version."""
    try:
        with writing_to(out):
            model = Model.load(out)
    except (ModelError, CalibrationError):
        return None
    return model if model.card.get("plan") == digest(identity) else None
