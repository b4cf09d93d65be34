"""The two stages in which DDAD is trained, each a list of jobs; those of several fits go side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ddad.detectors.base import Curves
from ddad.networks.factory import refining_memory, training_memory
from ddad.progress import Progress
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.jobs import Job, run_jobs

INPUTS = {"r_intra": ["a_intra"], "r_dual": ["a_intra", "a_inter"]}
"""The maps that each ASR-Net reads (equations 13 and 8)."""


@dataclass(frozen=True)
class DDADTraining:
    """What one DDAD is trained on, and where; every network goes on from its own checkpoint in the workspace.

    Attributes:
        recipe: settings.
        normal: `.npy` file of D_n.
        unlabeled: of D_u; None for no UDM and no R_dual.
        workspace: folder for unfinished work.
        compute: device and precision.
        name: what stands before its networks beside a progress bar, such as `part 2: `.
    """

    recipe: Recipe
    normal: Path
    unlabeled: Path | None
    workspace: Path
    compute: Compute
    name: str = ""

    def reconstruction_jobs(self) -> list[Job]:
        """Describe stage 1: NDM networks learn D_n, UDM networks D_n ∪ D_u."""
        settings = self.recipe.reconstruction
        epochs = {"ndm": settings.ndm_epochs, "udm": settings.udm_epochs}
        files = self._members()
        # The UDM sees more images: begun first, it ends beside the NDM.
        return [
            self._job(
                f"{module.upper()} network {', '.join(str(k + 1) for k in group)} of {settings.members}",
                "ddad.training.reconstruction:train_members_job",
                files[module][group[-1]],
                steps=epochs[module] * len(group),
                memory=training_memory(self.recipe.images, settings),
                into=[str(files[module][k]) for k in group],
                module=module,
                members=group,
                pixels=[str(self.normal), *([str(self.unlabeled)] if module == "udm" else [])],
                moves_few=True,
            )
            for module in sorted(files, reverse=True)
            for group in self._groups(list(range(settings.members)))
        ]

    def refinement_jobs(self) -> list[Job]:
        """Describe stage 2: an ASR-Net for each refined score, once stage 1 is done."""
        files = self._refiners()
        return [
            self._job(
                f"ASR-Net for {' and '.join(group)}",
                "ddad.training.refinement:train_refiners_job",
                files[group[-1]],
                steps=self.recipe.refinement.epochs * len(group),
                memory=refining_memory(self.recipe.images, self.recipe.reconstruction),
                into=[str(files[score]) for score in group],
                inputs=[INPUTS[score] for score in group],
                pixels=str(self.normal),
                members={  # who reads no A_inter has no need of the UDM
                    module: [str(path) for path in paths]
                    for module, paths in self._members().items()
                    if module == "ndm" or any("a_inter" in INPUTS[score] for score in group)
                },
            )
            for group in self._groups(sorted(files))
        ]

    def trained(self) -> tuple[dict[str, Tensor], Curves]:
        """Return the tensors of all networks and their training curves, once both stages are done."""
        tensors: dict[str, Tensor] = {}
        curves: Curves = {}
        parts = {
            f"{module}.members.{k}": path for module, paths in self._members().items() for k, path in enumerate(paths)
        }
        for part, path in {**parts, **self._refiners()}.items():
            loaded, notes = load_tensors(path)
            tensors |= {f"{part}.{name}": tensor for name, tensor in loaded.items()}
            curves[part] = notes["losses"]
        return tensors, curves

    def _members(self) -> dict[str, list[Path]]:
        modules = ("ndm",) if self.unlabeled is None else ("ndm", "udm")
        count = self.recipe.reconstruction.members
        return {module: [self.workspace / f"{module}-{k}.safetensors" for k in range(count)] for module in modules}

    def _refiners(self) -> dict[str, Path]:
        scores = ("r_intra",) if self.unlabeled is None else ("r_intra", "r_dual")
        return {score: self.workspace / f"{score}.safetensors" for score in scores}

    def _groups(self, parts: list[Any]) -> list[list[Any]]:
        """On a GPU networks of one kind learn together."""
        return [parts] if self.compute.device == "cuda" else [[part] for part in parts]

    def _job(self, title: str, function: str, output: Path, *, steps: int, memory: int, **arguments: Any) -> Job:
        return Job(
            title=f"{self.name}{title}",
            function=function,
            arguments={
                **arguments,
                "recipe": self.recipe.model_dump(mode="json"),
                "compute": self.compute.to_json(),
            },
            steps=steps,
            output=output,
            memory=memory,
        )


def train_side_by_side(trainings: Sequence[DDADTraining], processes: int, progress: Progress) -> None:
    """Do stage 1 of all, then stage 2 of all, so that no processor core waits for the last network of one of them.

    Args:
        trainings: each with a workspace of its own, which exists.
        processes: side by side, 0 for none but this one.
        progress: told of every epoch.

    Raises:
        DivergenceError: a network did not learn.
        OutputError: the disk is full.
    """
    stage_1 = [job for training in trainings for job in training.reconstruction_jobs()]
    run_jobs(stage_1, workers=processes, progress=progress, title="reconstruction networks, epochs")
    stage_2 = [job for training in trainings for job in training.refinement_jobs()]
    run_jobs(stage_2, workers=processes, progress=progress, title="refinement networks, epochs")
