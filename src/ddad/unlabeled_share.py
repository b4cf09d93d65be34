"""The share of abnormal images among the unlabeled ones of a fit, estimated while a GPU trains, or after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ddad.cohorts.held_out import groups_with_copies
from ddad.cohorts.near_copies import small_images
from ddad.detectors import FitContext
from ddad.evaluation.prevalence import STEPS, estimate_prevalence
from ddad.files import write_atomically
from ddad.normals import Stored
from ddad.training.jobs import Job, meanwhile, run_jobs
from ddad.training.seeds import derived_seed

_TITLE = "estimating the share of abnormal images"


@contextmanager
def share_estimate(
    normal: Stored, unlabeled: Stored, seed: int, context: FitContext
) -> Iterator[Callable[[], dict[str, Any] | None]]:
    """Yield a function that returns the estimate as JSON; None where there are too few images.

    On a GPU another process makes the estimate meanwhile, for the processor has little else to do. On a CPU it is made
    when it is asked for.

    Args:
        normal: known normal images.
        unlabeled: unlabeled ones.
        seed: the recipe's.
        context: workspace, device and progress of the fit.
    """
    output = context.workspace / "prevalence.json"
    job = Job(
        title=_TITLE,
        function="ddad.unlabeled_share:estimate_share_job",
        arguments={
            "normal": str(normal.file),
            "unlabeled": str(unlabeled.file),
            "patients": [normal.groups, unlabeled.groups],
            "seed": seed,
            "into": str(output),
        },
        steps=STEPS,
        output=output,
    )
    with meanwhile(job) if context.compute.device == "cuda" else nullcontext() as wait:

        def found() -> dict[str, Any] | None:
            if wait is None:
                run_jobs([job], workers=0, progress=context.progress, title=_TITLE)
            else:
                wait()
            estimate: dict[str, Any] | None = json.loads(output.read_text(encoding="utf-8"))
            return estimate

        yield found


def estimate_share_job(
    *,
    normal: str,
    unlabeled: str,
    patients: list[list[str]],
    seed: int,
    into: str,
    report: Callable[..., None],
) -> None:
    """Do `estimate_share` with arguments that travel as JSON, and write what it returns to a file."""
    left = iter(range(STEPS))

    def advance() -> None:
        next(left)
        report("")

    sides = [np.load(file, mmap_mode="r", allow_pickle=False) for file in (normal, unlabeled)]
    found = estimate_share(sides[0], sides[1], patients, seed, advance)
    if steps := len(list(left)):
        report("", steps)  # too few images end it early
    write_atomically(Path(into), json.dumps(found).encode())


def estimate_share(
    normal: NDArray[np.float32],
    unlabeled: NDArray[np.float32],
    patients: Sequence[Sequence[str]],
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any] | None:
    """Estimate the share of abnormal images among the unlabeled ones; None where there are too few images.

    Args:
        normal: (N, C, S, S) in [-1, 1].
        unlabeled: (M, C, S, S).
        patients: the group of each normal and of each unlabeled image; near copies are looked for here.
        seed: the recipe's.
        advance: called for each of the `STEPS`.
    """
    names = [name for side in patients for name in side]
    groups = groups_with_copies(small_images([normal, unlabeled]), names)
    own_seed = derived_seed(seed, "prevalence")
    with threadpool_limits(1):  # on so few numbers, threads wait for one another far longer than they compute
        found = estimate_prevalence(normal, unlabeled, groups, seed=own_seed, advance=advance)
    return None if found is None else found.to_json()
