"""`ddad figures`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, print_json, say_blank
from ddad.errors import SettingError


def figures(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Folders that ddad benchmark wrote: histograms of their scores.")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", help="Fitted model: maps of some test images.")] = None,
    test_normal: options.TestNormal = None,
    test_abnormal: options.TestAbnormal = None,
    test_masks: options.TestMasks = None,
    manifest: options.Manifest = None,
    data: options.Data = None,
    split: options.Split = options.DEFAULT_SPLIT,
    images: Annotated[int, typer.Option("--images", min=1, help="With --model: how many, drawn by chance.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of that chance.")] = 0,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the figures; those of the same name are replaced.")
    ] = Path("figures"),
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Draw the paper's Fig. 6 from stored runs, and its Fig. 7 from a model and test images: PDF, SVG and PNG."""
    from ddad.cli.terminal import say
    from ddad.cohorts import SkippedImage
    from ddad.cohorts.rows import described
    from ddad.experiments.histograms import distinct_names, write_histograms
    from ddad.experiments.score_maps import write_score_maps
    from ddad.files import folder_for
    from ddad.model import Model

    if not results and model is None:
        raise SettingError("figures: give folders of benchmark results, or --model with test images, or both.")
    cohort = None
    given = {
        "--test-normal": test_normal, "--test-abnormal": test_abnormal, "--test-masks": test_masks,
        "--manifest": manifest, "--data": data,
    }  # fmt: skip
    if model is None and any(given.values()):
        raise SettingError(f"{', '.join(option for option in given if given[option])}: goes with --model.")
    if model is not None:
        cohort = options.build_cohort(
            test_normal=test_normal,
            test_abnormal=test_abnormal,
            test_masks=test_masks,
            manifest=manifest,
            data=data,
            split=split,
        )
    folders = results or []
    skipped: list[SkippedImage] = []
    with folder_for(out):
        named = zip(folders, distinct_names(folders), strict=True)
        written = [path for folder, name in named for path in write_histograms(folder, out, name)]
        if model is not None and cohort is not None:
            written += write_score_maps(
                Model.load(model), cohort, out, count=images, seed=seed, device=device, on_skipped=skipped.append
            )
    lost = described(skipped)
    if as_json:
        print_json({"figures": [str(path) for path in written], "skipped": lost["skipped"]})
    else:
        for path in written:
            say(str(path))
    say_blank(len(lost["blank"]))
    exit_if_skipped(lost["skipped"])
