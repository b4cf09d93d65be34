"""What lies in folders and archives: the images, and every file that is passed over, with the reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddad.cohorts.file_by_file import file_by_file
from ddad.cohorts.rows import SkippedImage, printable
from ddad.errors import CohortError, ImageError, require
from ddad.files import is_file, is_folder, is_link, is_there
from ddad.images import ALL, IMAGE_SUFFIXES, Address, Selection, expand, is_image, list_members
from ddad.progress import Progress
from ddad.wording import counted


@dataclass
class Listing:
    """What was found.

    Attributes:
        images: addresses of images, each file's slices in order. Whether they can be read is not yet known.
        passed_over: files that are not taken for images, and why.
        skipped: files that may be images and cannot be taken, and why.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: list[SkippedImage] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)

    def add(self, other: Listing) -> None:
        """Take over what another listing found."""
        self.images += other.images
        self.passed_over += other.passed_over
        self.skipped += other.skipped


def list_images(folder: Path, argument: str, selection: Selection = ALL, progress: Progress | None = None) -> Listing:
    """List the images in a folder and in all folders and archives within it, sorted.

    A file is taken by its suffix, and without a suffix that says so by its first bytes, as DICOM files often have
    none. Links to folders are not followed.

    Args:
        folder: to search through and through.
        argument: what named it, for messages.
        selection: which slices of files with several.
        progress: told of each file.

    Raises:
        CohortError: the folder is missing, a file, unreadable, or holds no image.
    """
    if not is_there(folder):
        raise CohortError(f"{argument}: {folder} does not exist. Check the path.")
    if not is_folder(folder):
        raise CohortError(f"{argument}: {folder} is a file. Name the folder that holds it.")
    listing = Listing()

    def look(path: Path) -> Listing:
        if _is_hidden(path, folder):
            return Listing(passed_over=[SkippedImage(path, "hidden")])
        return _look_at(path, selection)

    try:
        for found in file_by_file(look, sorted(_files_in(folder, listing)), f"listing {argument}", progress):
            listing.add(found)
        listing.passed_over = [file._replace(path=printable(file.path)) for file in listing.passed_over]
    except OSError as error:
        raise CohortError(f"{argument}: {folder} cannot be listed ({error.strerror}).") from error
    if not listing.images and listing.skipped:
        path, reason, _ = listing.skipped[0]
        raise CohortError(
            f"{argument}: {printable(folder)} holds no image that can be taken. Skipped: {len(listing.skipped)}, the "
            f"first: {path}: {reason}."
        )
    if not listing.images:
        none = counted(len(listing.passed_over), "file in it is none", "files in it are none")
        others = none if listing.passed_over else "it is empty"
        raise CohortError(f"{argument}: {folder} holds no images: {others}. Name the folder that holds the images.")
    return listing


def find_images(paths: str | Path | Sequence[str | Path], selection: Selection = ALL) -> Listing:
    """List images to score: in the files that are named, and in the folders that are named.

    A named file is taken whatever its suffix, and even if it is missing: reading it will say so.

    Raises:
        CohortError: nothing was named, or what is no path, or a folder holds no image.
        SettingError: `selection` is no `Selection`.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if strange := [type(path).__name__ for path in several if not isinstance(path, str | Path)]:
        raise CohortError(
            f"paths: {strange[0]} is no path. Give files and folders; an image in memory goes to Model.score_image."
        )
    require("selection", selection, Selection, "ddad.images.Selection('middle')")
    listing = Listing()
    for path in map(Path, several):
        if is_folder(path):
            listing.add(list_images(path, "paths", selection))
        elif path.suffix.lower() == ".zip":
            listing.add(_look_into_archive(path, selection))
        else:
            listing.add(_images_in(path, selection))
    if not several:
        raise CohortError("paths: no image was named. Give files, or folders that hold images.")
    listing.images = list(dict.fromkeys(listing.images))
    return listing


def _files_in(folder: Path, listing: Listing) -> list[Path]:
    """Return the files within a folder; links that lead nowhere are skipped, devices and the like passed over."""
    found = []

    def refuse(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error
        listing.passed_over.append(SkippedImage(Path(error.filename), f"cannot be opened ({error.strerror})"))

    for parent, folders, files in os.walk(folder, onerror=refuse):
        for name in folders:
            if is_link(Path(parent) / name):
                listing.passed_over.append(SkippedImage(Path(parent) / name, "a link to a folder: not followed"))
        for name in files:
            path = Path(parent) / name
            try:
                if path.is_file() or _is_hidden(path, folder):
                    found.append(path)
                elif path.is_symlink():  # to an image, for all that can be known
                    reason = "a link that leads nowhere: mend or remove it"
                    listing.skipped.append(SkippedImage(printable(path), reason))
                else:
                    listing.passed_over.append(SkippedImage(path, "no file but a device, a pipe or a socket"))
            except OSError as error:
                listing.skipped.append(SkippedImage(printable(path), f"cannot be looked at ({error.strerror})"))
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    """Tell whether a file, or a folder that it lies in, is hidden within `folder`."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _look_at(path: Path, selection: Selection) -> Listing:
    if path.suffix.lower() == ".zip":
        return _look_into_archive(path, selection)
    if path.name.lower().endswith(tuple(IMAGE_SUFFIXES)):
        return _images_in(path, selection)
    reason = "not an image: neither its suffix nor its content is that of a format that is read"
    try:
        if Address.parse(path).label.upper() == "DICOMDIR":
            return Listing(passed_over=[SkippedImage(path, "an index: the files that it lists are read themselves")])
        if is_image(path):
            return _images_in(path, selection)
    except ImageError as error:
        reason = f"not an image: {error.reason}"
    return Listing(passed_over=[SkippedImage(path, reason)])


def _look_into_archive(archive: Path, selection: Selection) -> Listing:
    if unprintable := _unprintable(archive):
        return unprintable
    try:
        members = list_members(archive)
    except ImageError as error:
        if not is_file(archive):
            return Listing([archive])  # reading it will say what is wrong
        return Listing(skipped=[SkippedImage(archive, error.reason)])
    if not members:
        return Listing(passed_over=[SkippedImage(archive, "an archive without files")])
    listing = Listing()
    for member in members:
        address = Path(f"{archive}#{member}")
        if Path(member).suffix.lower() == ".zip":
            listing.passed_over.append(SkippedImage(address, "an archive within an archive: unpack it"))
        elif ".." in Path(member).parts:
            listing.skipped.append(SkippedImage(address, "its name leads out of the archive: pack it anew"))
        elif any(part.startswith((".", "__MACOSX")) for part in Path(member).parts):
            listing.passed_over.append(SkippedImage(address, "hidden"))
        else:
            listing.add(_look_at(address, selection))
    return listing


def _images_in(path: Path, selection: Selection) -> Listing:
    if unprintable := _unprintable(path):
        return unprintable
    try:
        return Listing(expand(path, selection))
    except ImageError:
        return Listing([path])  # reading it will say what is wrong


def _unprintable(path: Path) -> Listing | None:
    """Skip a file whose name is not UTF-8: no table, page or terminal could tell which it is."""
    shown = printable(path)
    if shown == path:
        return None
    return Listing(skipped=[SkippedImage(shown, "its name is not UTF-8: rename the file, or its folder")])
