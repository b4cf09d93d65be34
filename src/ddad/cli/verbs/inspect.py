"""`ddad inspect`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ddad.cli import options
from ddad.cli.output import exit_if_skipped, passed_over, print_json, say_blank
from ddad.wording import counted


def inspect(
    paths: Annotated[list[Path], typer.Argument(readable=False, help="Images, folders of images, or ZIP archives.")],
    save_pixels: Annotated[
        Path | None,
        typer.Option("--save-pixels", help="Folder for images as the network sees them, before resizing: 16-bit PNG."),
    ] = None,
    contact_sheet: Annotated[
        Path | None,
        typer.Option("--contact-sheet", help="PNG file to write: a small picture of each of the first 400 images."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace a file that is no contact sheet of ddad, or a folder that --save-pixels wrote."
        ),
    ] = False,
    slices: options.Slices = "all",
    volume: options.Volume = 1,
    recipe: options.RecipeName = "fast",
    settings: options.Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each file.")] = False,
) -> None:
    """Say what would be read of images: format, size, depth, window, orientation, problems."""
    from ddad.cli.terminal import say
    from ddad.files import check_apart
    from ddad.images import Selection
    from ddad.report.contact_sheet import ContactSheet, check_sheet
    from ddad.report.inspection import inspect_images

    images = options.build_recipe(recipe, settings).images
    if contact_sheet is not None:
        check_sheet(contact_sheet, overwrite=overwrite)
        check_apart(contact_sheet, paths)  # it would be an image the next time
    sheet = ContactSheet() if contact_sheet is not None else None
    skipped: list[tuple[str, str]] = []
    read = 0
    left_out: Counter[str] = Counter()
    for inspected in inspect_images(
        paths, images, Selection(slices, volume), save_pixels=save_pixels, overwrite=overwrite, sheet=sheet
    ):
        read += inspected.status == "ok"
        if inspected.status == "skipped":
            left_out[inspected.kind] += 1
        if inspected.status == "skipped" and inspected.kind == "image":
            skipped.append((inspected.path, inspected.reason or ""))
        if as_json:
            print_json(inspected.to_json())
        else:
            typer.echo(inspected.to_text())
    if sheet is not None and contact_sheet is not None:
        sheet.save(contact_sheet)
        if sheet.left_out:
            say(f"{contact_sheet}: no picture of {counted(sheet.left_out, 'image', 'images')} beyond the first ones.")
    say(f"{counted(read, 'image', 'images')} can be read; {passed_over(left_out['other'])}.")
    say_blank(left_out["blank"])
    exit_if_skipped(skipped)
