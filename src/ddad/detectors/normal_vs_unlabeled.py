"""Normal-vs-unlabeled: a plain classifier of D_n against D_u, the rival that a practical person would try first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ddad.detectors.base import Curves, Detector, FitContext, Scored
from ddad.errors import SettingError
from ddad.networks.classifier import Classifier, enlarge
from ddad.recipe import Recipe
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from ddad.training.jobs import Job, run_jobs


class NormalVsUnlabeled(Detector):
    """Classifiers trained, under augmentations, to tell normal from unlabeled images; the mean logit is the score.

    An unlabeled image that looks normal has as many twins among the normals, so the logit ranks images by
    what only the unlabeled ones show. It sees the kinds of anomaly that the unlabeled pile holds, and no others.
    """

    name = "normal-vs-unlabeled"
    sections = ("augmentation", "classification")
    needs_unlabeled = True
    sees_unlabeled = True

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        settings = recipe.classification
        self.classifiers = nn.ModuleList(
            Classifier(recipe.images.channels, settings.width) for _ in range(settings.members)
        )

    @property
    def primary_score(self) -> str:
        """The one score, `image`: the mean logit."""
        return "image"

    def fit(self, normal: Path, unlabeled: Path | None, context: FitContext) -> Curves:
        """Train every classifier; each goes on from its own checkpoint in the workspace.

        Raises:
            SettingError: there are no unlabeled images.
        """
        if unlabeled is None:
            raise SettingError(f"detector {self.name}: it needs unlabeled images. Give some, or take --detector ddad.")
        paths = [context.workspace / f"classifier-{k}.safetensors" for k in range(len(self.classifiers))]
        jobs = [classifier_job(self.recipe, k, paths, normal, unlabeled, context) for k in range(len(paths))]
        run_jobs(jobs, workers=context.processes, progress=context.progress, title="classifiers, epochs")
        curves: Curves = {}
        for k, path in enumerate(paths):
            tensors, notes = load_tensors(path)
            self.classifiers[k].load_state_dict(tensors)
            curves[f"classifiers.{k}"] = notes["losses"]
        return curves

    def _score_block(self, images: Tensor, compute: Compute) -> Scored:
        with compute.autocast():
            evidence = torch.stack([classifier.activation(images) for classifier in self._members()]).mean(dim=0)
        return Scored(
            {"image": evidence.flatten(1).mean(dim=1)}, {"image": enlarge(evidence, self.recipe.images.image_size)}
        )

    def _members(self) -> list[Classifier]:
        return [member for member in self.classifiers if isinstance(member, Classifier)]

    def modules(self) -> dict[str, nn.Module]:
        """Return the classifiers."""
        return {"classifiers": self.classifiers}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned."""
        self._load_modules(tensors)


def classifier_job(
    recipe: Recipe,
    member: int,
    paths: Sequence[Path],
    normal: Path,
    unlabeled: Path,
    context: FitContext,
    *,
    abnormal: Path | None = None,
    kept: Sequence[Sequence[int]] | None = None,
    suspicion: Sequence[float] | None = None,
) -> Job:
    """Describe the training of one classifier of several.

    Args:
        recipe: settings.
        member: number of the classifier, from 0.
        paths: of all of them.
        normal: `.npy` file of D_n.
        unlabeled: of D_u.
        context: what the detector is fitted with.
        abnormal: `.npy` file of images known to be abnormal, if there are any.
        kept: the places in each file to train on; None for all.
        suspicion: the label of each unlabeled image that is kept, in [0, 1]; None for 1.
    """
    return Job(
        title=f"classifier {member + 1} of {len(paths)}",
        function="ddad.training.classification:train_classifier_job",
        arguments={
            "recipe": recipe.model_dump(mode="json"),
            "normal": str(normal),
            "unlabeled": str(unlabeled),
            "member": member,
            "into": str(paths[member]),
            "compute": context.compute.to_json(),
            "abnormal": None if abnormal is None else str(abnormal),
            "kept": kept,
            "suspicion": suspicion,
        },
        steps=recipe.classification.epochs,
        output=paths[member],
    )
