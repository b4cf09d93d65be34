"""`Setting`: the images of a run, as a few values that another process can open them by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ddad.cohorts import Cohort
from ddad.experiments.published import Benchmark, benchmark_named


@dataclass(frozen=True)
class Setting:
    """Which images of a benchmark folder a run fits and tests on.

    Attributes:
        dataset: a benchmark of the paper by name, or `custom`.
        data: the benchmark folder.
        split: name of the split file.
        anomaly_rate: of the unlabeled images; None: the published rate, or for `custom` as listed.
    """

    dataset: str
    data: str
    split: str = "data.json"
    anomaly_rate: float | None = None

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
            unlabeled_total=known.unlabeled if known else None,
        )
        return known, cohort

    def to_json(self) -> dict[str, Any]:
        """Return the arguments that make this object again."""
        return asdict(self)
