"""`Setting`: the images of a run, as a few values that another process can open them by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ddad.cohorts import Cohort
from ddad.errors import SettingError
from ddad.experiments.published import Benchmark, benchmark_named


@dataclass(frozen=True)
class Setting:
    """Which images of a benchmark folder a run fits and tests on.

    Attributes:
        dataset: a benchmark of the paper by name, or `custom`.
        data: the benchmark folder.
        split: name of the split file.
        anomaly_rate: of the unlabeled images; None: the published rate, or for `custom` as listed.
        unlabeled: how many unlabeled images; None: the published number, or for `custom` all.
        unseen: `NAME=PATTERN`, or the pattern alone: a class of anomaly, by the names of its files, that is kept out
            of the unlabeled images and tested on alone.
        normals: how many normal images to take; None: all.
        normals_seed: draws them.
    """

    dataset: str
    data: str
    split: str = "data.json"
    anomaly_rate: float | None = None
    unlabeled: int | None = None
    unseen: str | None = None
    normals: int | None = None
    normals_seed: int = 0

    def __post_init__(self) -> None:
        if self.unseen is not None and "" in self.unseen.split("=", 1):
            raise SettingError(
                f"--unseen {self.unseen}: write it as NAME=PATTERN, e.g. meningioma=*-me*, or as the pattern alone."
            )

    def open(self) -> tuple[Benchmark | None, Cohort]:
        """Open the folder; a benchmark of the paper has the published anomaly rate and size of D_u.

        Raises:
            SettingError: the data set is unknown.
            CohortError: the folder is not in the form of the paper's benchmarks.
        """
        known = benchmark_named(self.dataset)
        rate = known.anomaly_rate if known and self.anomaly_rate is None else self.anomaly_rate
        cohort = Cohort.from_benchmark(
            self.data,
            split=self.split,
            anomaly_rate=rate,
            unlabeled_total=known.unlabeled if known and self.unlabeled is None else self.unlabeled,
            unseen=None if self.unseen is None else self.unseen.split("=", 1)[-1],
            normals=None if self.normals is None else (self.normals, self.normals_seed),
        )
        return known, cohort

    def to_json(self) -> dict[str, Any]:
        """Return the arguments that make this object again."""
        return asdict(self)
