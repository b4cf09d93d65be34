"""The five benchmarks of the paper: their counts (Table 1) and figures (Tables 2 and 3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ddad.errors import SettingError
from ddad.recipe_sections import Backbone

SCORE_TITLES = {
    "rec": "Rec.",
    "rec_ensemble": "Rec. (ensemble)",
    "a_intra": "A_intra",
    "a_inter": "A_inter",
    "r_intra": "R_intra",
    "r_dual": "R_dual",
}
"""The rows of Table 3, in its order."""

METHOD_TITLES: dict[str, str] = {
    "ddad": "DDAD",
    "ae": "AE",
    "memae": "MemAE",
    "ganomaly": "GANomaly",
    "cutpaste": "CutPaste",
    "draem": "DRAEM",
    "f-anogan": "f-AnoGAN",
    "igd": "IGD",
    "ae-u": "AE-U",
    "vae": "VAE",
    "fpi": "FPI",
    "pii": "PII",
    "normal-vs-unlabeled": "Normal vs unlabeled",
    "ddad+": "DDAD+",
}
"""The methods of Table 2 that are here, and what the paper does not have."""

BACKBONE_TITLES: dict[Backbone, str] = {"ae": "AE", "memae": "MemAE", "ae-u": "AE-U", "vae": "VAE"}


def method_title(method: str, backbone: str | None) -> str:
    """Return a method's name in tables: of DDAD with its backbone."""
    title = METHOD_TITLES.get(method, method)
    return f"{title} ({backbone_title(backbone)})" if method == "ddad" else title


def backbone_title(backbone: str | None) -> str:
    """Return a backbone's name in tables."""
    return {str(name): title for name, title in BACKBONE_TITLES.items()}.get(str(backbone), str(backbone))


_BACKBONES: tuple[Backbone, ...] = ("ae", "memae", "ae-u")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark as the paper has it.

    Attributes:
        name: on the command line.
        title: in tables.
        normal: images in D_n.
        unlabeled: images in D_u, M.
        test: normal and abnormal test images.
        anomaly_rate: of D_u in Tables 2 and 3.
        auc: AUC in percent by (score, backbone), Table 3.
        ap: AP in percent by (score, backbone), Table 2, which has three of the six scores.
        rivals: AUC and AP in percent by method, Table 2.
    """

    name: str
    title: str
    normal: int
    unlabeled: int
    test: tuple[int, int]
    anomaly_rate: float = 0.6
    auc: dict[tuple[str, Backbone], float] = field(default_factory=dict)
    ap: dict[tuple[str, Backbone], float] = field(default_factory=dict)
    rivals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def figures(self, method: str, backbone: Backbone | None, score: str) -> tuple[float | None, float | None]:
        """Return the paper's AUC and AP of a cell, in percent; None where it has none.

        The reconstruction baselines of Table 2 are the rows `rec` of Table 3.
        """
        if method in _BACKBONES:
            method, backbone, score = "ddad", next(name for name in _BACKBONES if name == method), "rec"
        if method != "ddad" or backbone is None:
            return self.rivals.get(method, (None, None))
        return self.auc.get((score, backbone)), self.ap.get((score, backbone))


def _table(rows: dict[str, tuple[float, float, float]]) -> dict[tuple[str, Backbone], float]:
    return {
        (score, backbone): value
        for score, values in rows.items()
        for backbone, value in zip(_BACKBONES, values, strict=True)
    }


# Columns of every row: AE, MemAE, AE-U.
OTHER_NAMES = {"vindr": "vindr-cxr"}
"""What benchmarks may be called on the command line, too."""

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "rsna", "RSNA", 3851, 4000, (1000, 1000),
            auc=_table({
                "rec": (66.9, 68.0, 86.7), "rec_ensemble": (66.9, 67.0, 86.6), "a_intra": (69.4, 72.9, 87.3),
                "a_inter": (81.5, 78.8, 91.0), "r_intra": (86.3, 87.2, 88.3), "r_dual": (89.3, 88.5, 91.3),
            }),
            ap=_table({"rec": (66.1, 67.1, 84.7), "r_intra": (85.5, 86.1, 87.6), "r_dual": (89.5, 87.8, 91.6)}),
            rivals={
                "ganomaly": (71.4, 69.1), "cutpaste": (79.4, 74.4), "draem": (62.3, 61.6),
                "f-anogan": (79.8, 75.6), "igd": (81.2, 78.0),
            },
        ),
        Benchmark(
            "vindr-cxr", "VinDr-CXR", 4000, 4000, (1000, 1000),
            auc=_table({
                "rec": (55.9, 55.8, 73.8), "rec_ensemble": (55.5, 55.3, 73.1), "a_intra": (60.1, 59.5, 74.3),
                "a_inter": (71.0, 69.0, 85.9), "r_intra": (77.2, 73.9, 78.2), "r_dual": (77.4, 75.3, 85.9),
            }),
            ap=_table({"rec": (60.3, 59.8, 72.8), "r_intra": (74.2, 72.1, 74.6), "r_dual": (77.7, 74.1, 84.3)}),
            rivals={
                "ganomaly": (59.6, 60.3), "cutpaste": (70.2, 69.8), "draem": (63.0, 68.3),
                "f-anogan": (76.3, 74.8), "igd": (59.2, 58.7),
            },
        ),
        Benchmark(
            "cxad", "CXAD", 2000, 2000, (499, 501),
            auc=_table({
                "rec": (55.6, 56.0, 66.4), "rec_ensemble": (55.0, 55.2, 65.9), "a_intra": (59.8, 59.4, 69.2),
                "a_inter": (62.1, 59.9, 71.4), "r_intra": (63.8, 62.4, 69.4), "r_dual": (65.0, 64.5, 71.0),
            }),
            ap=_table({"rec": (59.6, 60.0, 66.9), "r_intra": (65.4, 64.5, 69.3), "r_dual": (67.2, 64.3, 72.7)}),
            rivals={
                "ganomaly": (62.5, 63.0), "cutpaste": (53.6, 57.3), "draem": (54.3, 55.6),
                "f-anogan": (61.9, 67.3), "igd": (55.2, 57.6),
            },
        ),
        Benchmark(
            "brain-tumor", "Brain Tumor", 1000, 1000, (600, 600),
            auc=_table({
                "rec": (79.7, 77.4, 94.0), "rec_ensemble": (81.3, 79.2, 93.3), "a_intra": (55.9, 52.6, 84.5),
                "a_inter": (84.4, 83.2, 97.1), "r_intra": (85.0, 82.9, 94.2), "r_dual": (93.0, 91.4, 97.2),
            }),
            ap=_table({"rec": (71.9, 70.0, 89.0), "r_intra": (77.6, 78.6, 91.9), "r_dual": (87.1, 84.8, 95.2)}),
            rivals={
                "ganomaly": (75.1, 69.7), "cutpaste": (92.0, 89.4), "draem": (72.1, 64.6),
                "f-anogan": (82.5, 74.3), "igd": (94.3, 90.6),
            },
        ),
        Benchmark(
            "lag", "LAG", 1500, 1500, (811, 811),
            auc=_table({
                "rec": (79.3, 78.5, 81.3), "rec_ensemble": (78.8, 79.2, 82.1), "a_intra": (72.1, 71.3, 75.3),
                "a_inter": (87.2, 88.5, 80.6), "r_intra": (79.5, 80.1, 86.0), "r_dual": (89.0, 88.7, 93.1),
            }),
            ap=_table({"rec": (76.1, 74.9, 78.9), "r_intra": (74.5, 77.6, 84.0), "r_dual": (86.9, 86.5, 92.3)}),
            rivals={
                "ganomaly": (77.7, 75.7), "cutpaste": (69.1, 64.6), "draem": (47.2, 49.0),
                "f-anogan": (84.2, 77.5), "igd": (80.7, 75.3),
            },
        ),
    )
}  # fmt: skip


def benchmark_named(name: str) -> Benchmark | None:
    """Return the benchmark of this name; None for `custom`, any folder in the same form.

    Raises:
        SettingError: no benchmark has this name.
    """
    if name == "custom":
        return None
    name = OTHER_NAMES.get(name, name)
    if name not in BENCHMARKS:
        raise SettingError(f"dataset: {name!r} is unknown. Use one of {', '.join(BENCHMARKS)}, or custom.")
    return BENCHMARKS[name]
