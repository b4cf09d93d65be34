"""Benchmark cells as tables in the paper's layout, with the paper's figure beside ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from ddad.evaluation import Interval, Resampled
from ddad.experiments.comparisons import Contender, in_order
from ddad.experiments.evaluation import Evaluation
from ddad.experiments.published import SCORE_TITLES, backbone_title, method_title

Measures = dict[Contender, dict[str, Resampled]]


def summary(cells: Sequence[dict[str, Any]], measures: Measures | None = None) -> pd.DataFrame:
    """Reduce cells to one row for each method, backbone and score, in the order of the paper's tables.

    Args:
        cells: from `cells_of`, or rows of `results.csv`.
        measures: where given, each mean has its 95 % bootstrap interval over test images.

    Returns:
        Columns method, backbone, score, seeds; for `auc` and `ap` in percent the mean, `_sd` over seeds (missing
        with one seed), `_low`, `_high`, `_paper`; and the means of seconds and memory_mb of a run, those by a processor
        where both it and a GPU computed some; by_gpu says that only a GPU did.
    """
    table = pd.DataFrame(list(cells))
    table["backbone"] = table["backbone"].astype(object).where(table["backbone"].notna(), None)
    for column in ("memory_mb", "device"):
        if column not in table:
            table[column] = None
    table[["auc", "ap"]] = table[["auc", "ap"]].apply(pd.to_numeric)  # of a constant score there are none
    rows = []
    there = zip(table["method"], table["backbone"], table["score"], strict=True)
    for contender in in_order(Contender(method, _text(backbone), score) for method, backbone, score in there):
        chosen = table[
            (table["method"] == contender.method)
            & (table["backbone"].fillna("") == (contender.backbone or ""))
            & (table["score"] == contender.score)
        ]
        row: dict[str, Any] = {**contender._asdict(), "seeds": len(chosen)}
        for measure in ("auc", "ap"):
            row[measure] = chosen[measure].mean()
            row[f"{measure}_sd"] = chosen[measure].std() if len(chosen) > 1 else None
            interval = measures[contender][measure].interval() if measures and contender in measures else None
            row[f"{measure}_low"] = 100 * interval.low if interval else None
            row[f"{measure}_high"] = 100 * interval.high if interval else None
            row[f"{measure}_paper"] = chosen[f"{measure}_paper"].iloc[0]
        by_processor = chosen["device"] == "cpu"
        timed = chosen[by_processor] if by_processor.any() else chosen
        row["seconds"] = timed["seconds"].mean()
        memory = pd.to_numeric(timed["memory_mb"])
        row["memory_mb"] = None if memory.isna().all() else memory.mean()
        row["by_gpu"] = bool((timed["device"] == "cuda").all())
        rows.append(row)
    return pd.DataFrame(rows)


def methods_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 2: a row for each method; DDAD with R_intra, and with R_dual where it sees unlabeled images.

    Of the methods that do not see them the best is **bold** and the second best <ins>underlined</ins>, of the others
    the best is both, as in the paper.

    Args:
        rows: from `summary`.
    """
    contenders = [
        Contender(row["method"], _text(row["backbone"]), row["score"])
        for row in rows[["method", "backbone", "score"]].to_dict("records")
    ]
    table = pd.DataFrame(
        {
            "Unlabeled images": ["yes" if one.sees_unlabeled else "no" for one in contenders],
            "Method": [method_title(one.method, one.backbone) for one in contenders],
            "Score": [SCORE_TITLES[one.score] if one.method == "ddad" else "" for one in contenders],
            "AUC": spreads(rows, "auc"),
            "AUC (paper)": rows["auc_paper"].map(_figure),
            "AP": spreads(rows, "ap"),
            "AP (paper)": rows["ap_paper"].map(_figure),
            "Seeds": rows["seeds"],
            "Time a run": rows["seconds"].map(_duration) + _where_mixed(rows["by_gpu"]),
            "Memory": rows["memory_mb"].map(_memory),
        }
    )
    shown = pd.Series([one.in_table_2 for one in contenders], index=rows.index)
    for sees, best, second in (("no", _bold, _underlined), ("yes", lambda text: _bold(_underlined(text)), None)):
        group = shown & (table["Unlabeled images"] == sees)
        for column, measure in (("AUC", "auc"), ("AP", "ap")):
            _mark(table, column, rows[measure], group, best, second)
    return _without_empty(table[shown].sort_values("Unlabeled images", kind="stable"))


def scores_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 3: DDAD's six scores by backbone, AUC.

    The best score of each backbone is <ins>**underlined and bold**</ins>, the second best **bold**, as in the paper.

    Args:
        rows: from `summary`.
    """
    own = rows[rows["method"] == "ddad"]
    table = pd.DataFrame({"Score": [title for score, title in SCORE_TITLES.items() if (own["score"] == score).any()]})
    for backbone in dict.fromkeys(own["backbone"]):
        chosen = own[own["backbone"] == backbone].copy()
        chosen.index = pd.Index(chosen["score"].map(SCORE_TITLES))
        chosen = chosen.reindex(table["Score"])
        title = backbone_title(backbone)
        marked = pd.DataFrame({title: spreads(chosen, "auc")}, index=chosen.index)
        everyone = chosen["auc"].notna()
        _mark(marked, title, chosen["auc"], everyone, lambda text: _bold(_underlined(text)), _bold)
        table[title] = marked[title].to_numpy()
        table[f"{title} (paper)"] = chosen["auc_paper"].map(_figure).to_numpy()
    return _without_empty(table)


def significance_table(pairs: pd.DataFrame, family: str) -> pd.DataFrame:
    """Say of each contender of a family which ones it beats in AUC, and which it cannot be told apart from.

    Args:
        pairs: from `comparisons`.
        family: which tests.
    """
    chosen = pairs[pairs["family"] == family]
    names = dict.fromkeys([*chosen["first"], *chosen["second"]])
    better: dict[str, list[str]] = {name: [] for name in names}
    alike: dict[str, list[str]] = {name: [] for name in names}
    for row in chosen.to_dict("records"):
        pair = (row["first"], row["second"])
        first, second = pair if row["auc_difference"] >= 0 else pair[::-1]
        if row["auc_significant"]:
            better[first].append(second)
        else:
            alike[first].append(second)
            alike[second].append(first)
    rows = [(name, ", ".join(better[name]) or "–", ", ".join(alike[name]) or "–") for name in better]
    return pd.DataFrame(rows, columns=["Method", "significantly better than", "not told apart from"])


def constant_note(rows: pd.DataFrame) -> str:
    """Say under a table what its dashes stand for: scores that are the same for every image; nothing without any.

    Args:
        rows: from `summary`.
    """
    constant = rows[rows["auc"].isna()]
    if constant.empty:
        return ""
    titles = dict.fromkeys(
        Contender(method, _text(backbone), score).title
        for method, backbone, score in zip(constant["method"], constant["backbone"], constant["score"], strict=True)
    )
    why = " One network (K = 1) has no discrepancy." if constant["score"].isin(("a_intra", "r_intra")).any() else ""
    return f"\n–: constant, the same for every image: {', '.join(titles)}.{why}\n"


def evaluation_table(evaluation: Evaluation) -> pd.DataFrame:
    """Show each score's image metrics with their intervals, and its map's pixel metrics, in percent."""
    rows = []
    for name, metrics in evaluation.images.items():
        row = {"score": name, "AUC": _interval(metrics.auc), "AP": _interval(metrics.ap)}
        if name in evaluation.constant():
            row |= {"AUC": "–", "AP": "–"}
        if name in evaluation.pixels:
            pixels = evaluation.pixels[name]
            row |= {
                "pixel AP": f"{100 * pixels.ap:.1f}",
                "pixel AUROC": f"{100 * pixels.auroc:.1f}",
                "AUPRO": f"{100 * pixels.aupro:.1f}",
                "best Dice": f"{100 * pixels.best_dice:.1f}",
            }
        rows.append(row)
    return pd.DataFrame(rows)


def spreads(rows: pd.DataFrame, measure: str) -> list[str]:
    """Write the mean of each row with standard deviation and interval, as far as it has them.

    Args:
        rows: from `summary`.
        measure: `auc` or `ap`.
    """
    texts = []
    for _, row in rows.iterrows():
        text = _figure(row[measure])
        if not pd.isna(row[f"{measure}_sd"]):
            text += f" ± {row[f'{measure}_sd']:.1f}"
        if not pd.isna(row[f"{measure}_low"]):
            text += f" [{row[f'{measure}_low']:.1f}, {row[f'{measure}_high']:.1f}]"
        texts.append(text)
    return texts


def to_markdown(table: pd.DataFrame) -> str:
    """Write a table as Markdown."""
    header = "| " + " | ".join(table.columns) + " |"
    rule = "|" + "---|" * len(table.columns)
    rows = ["| " + " | ".join(str(value) for value in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join([header, rule, *rows]) + "\n"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _mark(
    table: pd.DataFrame,
    column: str,
    values: pd.Series[float],
    group: pd.Series[bool],
    best: Callable[[str], str],
    second: Callable[[str], str] | None,
) -> None:
    """Mark the best and the second best of a group, as they are printed: equal figures are marked alike."""
    figures = values[group].dropna().map(lambda value: float(_figure(value)))
    if figures.nunique() < 2:
        return
    first, next_best = figures.drop_duplicates().nlargest(2)
    for figure, mark in ((first, best), (next_best, second)):
        if mark is not None:
            chosen = figures.index[figures == figure]
            table.loc[chosen, column] = table.loc[chosen, column].map(mark)


def _bold(text: str) -> str:
    return f"**{text}**"


def _underlined(text: str) -> str:
    return f"<ins>{text}</ins>"


def _without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns that say nothing: no figure of the paper, no memory, no score to choose from."""
    return table[[name for name in table if not table[name].isin(("", "–")).all()]]


def _interval(interval: Interval) -> str:
    return f"{100 * interval.estimate:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _figure(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.1f}"


def _where_mixed(by_gpu: pd.Series) -> pd.Series:
    """Mark what a GPU computed, in a table in which a processor computed other methods."""
    return by_gpu.map({True: "" if by_gpu.all() else " (GPU)", False: ""})


def _memory(megabytes: float | None) -> str:
    return "–" if megabytes is None or pd.isna(megabytes) else f"{megabytes / 1000:.1f} GB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
