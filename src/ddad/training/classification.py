"""Train a classifier of D_n against D_u: what a practical person would try first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ddad.augmentation import apply_augmentations, draw_augmentations
from ddad.networks.classifier import Classifier
from ddad.recipe import Recipe
from ddad.recipe_sections import Supervision
from ddad.training.device import Compute
from ddad.training.epochs import balancing_repeats, epoch_batches, steps_in_epoch
from ddad.training.loop import LoopSettings, train_epochs
from ddad.training.pixels import ImagePool
from ddad.training.seeds import derived_seed, torch_generator
from ddad.training.steps import Batch

_LARGEST_WEIGHT = 10.0


def train_classifier_job(
    *, recipe: dict[str, Any], normal: str, unlabeled: str, member: int, into: str,
    compute: dict[str, Any], report: Callable[[str], None], abnormal: str | None = None,
    kept: list[list[int]] | None = None, suspicion: list[float] | None = None,
) -> None:  # fmt: skip
    """Do `train_classifier` with arguments that travel as JSON; `kept` are places in each file, None for all."""
    pools = [ImagePool.open([path]) for path in (normal, unlabeled, abnormal) if path is not None]
    if kept is not None:
        pools = [pool.subset(places) for pool, places in zip(pools, kept, strict=True)]
    train_classifier(
        Recipe.model_validate(recipe),
        pools[0],
        pools[1],
        member,
        Path(into),
        Compute(**compute),
        report,
        abnormal=pools[2] if len(pools) > 2 and len(pools[2]) else None,
        suspicion=suspicion,
    )


def train_classifier(
    recipe: Recipe,
    normal: ImagePool,
    unlabeled: ImagePool,
    member: int,
    into: Path,
    compute: Compute,
    report: Callable[[str], None],
    *,
    abnormal: ImagePool | None = None,
    suspicion: Sequence[float] | None = None,
) -> None:
    """Train one classifier and write its weights to `into`; go on from a checkpoint beside it.

    A side that is far smaller than D_u comes several times in an epoch, under other augmentations each time.

    Args:
        recipe: its `classification` and `augmentation` sections are followed.
        normal: D_n, label 0.
        unlabeled: D_u.
        member: number of the network, from 0; it names the random stream.
        into: the safetensors file to write; its notes hold the training curve.
        compute: device and precision.
        report: called after each epoch with a line about it.
        abnormal: images known to be abnormal, label 1; None if there are none.
        suspicion: the label of each unlabeled image, in [0, 1]; None for 1.
    """
    settings, size = recipe.classification, recipe.images.image_size
    purpose = "classifier" if suspicion is None else "second classifier"
    torch.manual_seed(derived_seed(recipe.seed, purpose, member, "weights"))
    network = compute.place(Classifier(recipe.images.channels, settings.width))
    normal = normal.repeated(balancing_repeats(len(normal), len(unlabeled)))
    images = normal + unlabeled
    labels = [torch.zeros(len(normal)), torch.ones(len(unlabeled)) if suspicion is None else torch.tensor(suspicion)]
    if abnormal is not None:
        abnormal = abnormal.repeated(balancing_repeats(len(abnormal), len(unlabeled)))
        images += abnormal
        labels.append(torch.ones(len(abnormal)))
    label = torch.cat(labels)
    images = images.near(compute)
    epoch_shape = (len(images), settings.batch_size, settings.least_steps)
    # Both labels weigh the same, however many images each has.
    weight = ((1 - label).sum() / label.sum().clamp_min(1)).to(compute.device)
    if suspicion is not None:
        weight = weight.clamp_max(_LARGEST_WEIGHT)  # of few suspected images, each would shout

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch_generator(recipe.seed, purpose, member, "epoch", epoch)
        for chosen in epoch_batches(*epoch_shape, generator):
            draw = draw_augmentations(len(chosen), size, recipe.augmentation, generator)
            target = label[chosen] * (1 - settings.label_smoothing) + settings.label_smoothing / 2
            yield apply_augmentations(compute.send(images.batch(chosen.numpy())), draw), target

    def loss(batch: Tensor, target: Tensor) -> Tensor:
        with compute.autocast():
            evidence = network.activation(batch)
        return classification_loss(evidence, target, weight, settings.supervision)

    loop = LoopSettings(
        settings.epochs,
        steps_in_epoch(*epoch_shape),
        settings.learning_rate,
        "one-cycle",
        0.9,
        settings.weight_decay,
        section="classification",
    )
    train_epochs(network, batches, loss, loop, into, compute, report)


def classification_loss(evidence: Tensor, target: Tensor, weight: Tensor, supervision: Supervision) -> Tensor:
    """Return the binary cross-entropy of a batch.

    By its image's logit alone a place is right as soon as the others are: one place that knows the image by heart
    leaves the rest nothing to learn. So by default each place answers for itself.

    Args:
        evidence: logits at the places of the grid, (N, h, w); their mean is the logit of an image.
        target: labels of the images, (N,) in [0, 1].
        weight: of label 1 beside label 0.
        supervision: whether the image's logit or that of each place is compared with the label.
    """
    logits = evidence.flatten(1)
    if supervision == "image":
        logits = logits.mean(dim=1, keepdim=True)
    return functional.binary_cross_entropy_with_logits(logits, target[:, None].expand_as(logits), pos_weight=weight)
