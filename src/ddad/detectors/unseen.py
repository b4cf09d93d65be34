"""What a detector says of images that it has not seen in fitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ddad.detectors.base import Detector, FitContext
from ddad.errors import DivergenceError
from ddad.training.device import Compute

_BATCH = 1024


def score_held_out(
    detector: Detector, normal: Path, unlabeled: Path | None, images: NDArray[np.float32], context: FitContext
) -> NDArray[np.float64]:
    """Fit a detector and return its main score of other images, (N,).

    Args:
        detector: not fitted yet.
        normal: `.npy` file of the normal images to fit on.
        unlabeled: the same of unlabeled images, if there are any.
        images: (N, C, S, S) in [-1, 1].
        context: where and with what.

    Raises:
        DivergenceError: a network did not learn, or a score is no number.
    """
    detector.fit(normal, unlabeled, context)
    return score_unseen(detector, images, context.compute)


def score_unseen(detector: Detector, images: NDArray[np.float32], compute: Compute) -> NDArray[np.float64]:
    """Return a fitted detector's main score of images, (N,).

    Args:
        detector: fitted.
        images: (N, C, S, S) in [-1, 1], which may lie on disk.
        compute: device and precision.

    Raises:
        DivergenceError: a score is no number.
    """
    scores = []
    for start in range(0, len(images), _BATCH):
        part = torch.from_numpy(np.array(images[start : start + _BATCH]))
        scores.append(detector.image_scores(part, compute)[detector.primary_score])
    main = torch.cat(scores).double().numpy()
    if not np.isfinite(main).all():
        raise DivergenceError(f"{detector.primary_score}: {np.sum(~np.isfinite(main))} of {len(main)} are no numbers.")
    return main
