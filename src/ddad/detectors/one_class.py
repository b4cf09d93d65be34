"""What the detectors share that are one network, learned from normal images alone, with one score and one map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ddad.detectors.base import Curves, Detector, FitContext
from ddad.training.checkpoint import load_tensors
from ddad.training.jobs import Job, run_jobs


class OneClassDetector(Detector):
    """One network, fitted on D_n; its score and its map are called `image`. Unlabeled images are not looked at.

    Attributes:
        network: holds everything learned.
    """

    network: nn.Module

    @property
    def primary_score(self) -> str:
        """The one score, `image`."""
        return "image"

    def modules(self) -> dict[str, nn.Module]:
        """Return the network."""
        return {"network": self.network}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned."""
        self._load_modules(tensors)

    def _train(
        self, part: nn.Module, train: str, into: Path, normal: Path, context: FitContext,
        *, title: str, steps: int, **arguments: Any,
    ) -> Curves:  # fmt: skip
        """Run a training function as a job and take what it wrote into `part`.

        Args:
            part: of the network.
            train: `module:function` within `ddad.training`, as `training.one_class.train_job` calls it.
            into: file for the weights.
            normal: file of the normal images.
            context: workspace, device, workers and progress.
            title: of the progress bar, which counts epochs.
            steps: epochs.
            arguments: of this function alone, JSON-serialisable.

        Returns:
            Training curves by name.
        """
        job = Job(
            title=self.name,
            function="ddad.training.one_class:train_job",
            arguments={
                **arguments,
                "train": train,
                "recipe": self.recipe.model_dump(mode="json"),
                "normal": str(normal),
                "into": str(into),
                "compute": context.compute.to_json(),
            },
            steps=steps,
            output=into,
        )
        run_jobs([job], workers=context.processes, progress=context.progress, title=f"{title}, epochs")
        tensors, notes = load_tensors(into)
        part.load_state_dict(tensors)
        curves: Curves = notes["losses"] if isinstance(notes["losses"], dict) else {"network": notes["losses"]}
        return curves
