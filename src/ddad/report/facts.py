"""The plain facts of a page: counts, the model's card and its recipe, as pairs of words."""

from __future__ import annotations

from typing import Any

from ddad.report.results import Results
from ddad.wording import percent, whole_percent

Facts = list[tuple[str, str]]


def overview(results: Results) -> Facts:
    """Return the large figures at the top of the page."""
    facts: Facts = []
    if results.findings is not None:
        facts.append(("images scored", f"{len(results.findings):,}"))
        if "flagged" in results.findings:
            facts.append(("flagged", _flagged(results)))
        if "warnings" in results.findings:
            facts.append(("with a warning", f"{(results.findings['warnings'].fillna('') != '').sum():,}"))
    if results.metrics:
        facts.append(("normal tested", f"{results.metrics.get('test_normal', 0):,}"))
        facts.append(("abnormal tested", f"{results.metrics.get('test_abnormal', 0):,}"))
    if results.records:
        tested = sorted({len(record["labels"]) for record in results.records})
        facts.append(("runs", str(len(results.records))))
        facts.append(("tested in each", " to ".join(f"{count:,}" for count in dict.fromkeys((tested[0], tested[-1])))))
    if results.kind == "model":
        counts = {part: results.model["cohort"].get(part) for part in ("normal", "unlabeled", "abnormal")}
        facts += [(f"{part} images", f"{count:,}") for part, count in counts.items() if count]
    facts.append(("skipped", f"{results.skipped:,}"))
    if results.blank_or_no_image:
        facts.append(("blank or no images", f"{results.blank_or_no_image:,}"))
    return facts


def card_facts(results: Results) -> Facts:
    """Return what the model has seen."""
    model = results.model
    if not model:
        return []
    cohort, held_out = model.get("cohort", {}), model.get("held_out_normals", {})
    compute, calibration = model.get("compute", {}), model.get("calibration") or {}
    facts = [
        ("model", model.get("name")),
        ("detector", model.get("detector")),
        ("main score", model.get("primary_score")),
        ("cohort", cohort.get("name")),
        ("normal images", cohort.get("normal")),
        ("held-out normals", held_out.get("count") if held_out.get("of") == "held-out normals" else None),
        ("unlabeled images", cohort.get("unlabeled")),
        ("of these, unlike the normal ones in brightness or texture", _share(model.get("prevalence"))),
        ("calibration", calibration.get("promise", "none: no p-values, nothing is flagged")),
        ("files skipped in the fit", cohort.get("skipped_count")),
        ("warnings of the fit", cohort.get("warnings_count")),
        ("fitted", model.get("created")),
        ("on", ", ".join(str(compute[key]) for key in ("device", "precision", "gpu") if key in compute)),
        ("seconds", model.get("seconds")),
        ("recipe chosen among candidates", model.get("selection", {}).get("chosen")),
        ("trusted to be normal", _trusted(model.get("unsupervised"))),
        ("seed", model.get("seed")),
        ("ddad", model.get("ddad")),
        ("versions", ", ".join(f"{name} {version}" for name, version in model.get("versions", {}).items())),
        ("data fingerprint", cohort.get("fingerprint")),
        ("model fingerprint", model.get("fingerprint")),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _flagged(results: Results) -> str:
    assert results.findings is not None
    calibration = results.model.get("calibration") or {}
    if calibration and calibration.get("flagged_above") is None:
        return "none can be"  # a plain 0 would read as: all are normal
    known = results.findings["flagged"].dropna().str.lower()
    if known.empty:
        return "not calibrated"
    return f"{known.isin(('true', '1', '1.0')).sum():,}"


def _share(prevalence: dict[str, Any] | None) -> str | None:
    if not prevalence:
        return None
    share, low, high = (whole_percent(prevalence[part]) for part in ("estimate", "low", "high"))
    return f"about {share} ({percent(prevalence['level'])} interval {low} to {high})"


def candidate_facts(results: Results) -> list[tuple[str, str, str, str]]:
    """Return name, guide, how far it is ahead of the first with its standard error, and what each candidate changes."""
    rows = []
    selection = results.model.get("selection", {})
    for row in selection.get("candidates", ()):
        guide = row["guide"]
        rows.append(
            (
                row["name"],
                f"{guide['estimate']:.3f} ({guide['low']:.3f} – {guide['high']:.3f})",
                "–" if row is selection["candidates"][0] else f"{row['ahead']:+.3f} ± {row['standard_error']:.3f}",
                ", ".join(f"{name} = {value}" for name, value in row["changes"].items()) or "nothing",
            )
        )
    return rows


def recipe_facts(results: Results) -> Facts:
    """Return every field of the model's recipe under its full name."""
    recipe = results.model.get("recipe")
    return list(flat(recipe).items()) if isinstance(recipe, dict) else []


def flat(recipe: dict[str, Any], before: str = "") -> dict[str, str]:
    """Return the fields of a recipe under their full names, as words."""
    fields: dict[str, str] = {}
    for key, value in recipe.items():
        if isinstance(value, dict):
            fields |= flat(value, f"{before}{key}.")
        else:
            fields[f"{before}{key}"] = "–" if value is None else str(value)
    return fields


def _trusted(unsupervised: dict[str, Any] | None) -> str | None:
    return f"{unsupervised['trusted']} of {unsupervised['of']} unlabeled images" if unsupervised else None
