from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ddad.audit import audit_cohort
from ddad.audit.copies import CopyPairs, count_copies
from ddad.cohorts import Cohort


def picture(seed: int, size: int = 160) -> np.ndarray:
    """A textured picture in [40, 215] that is like no other."""
    noise = np.random.default_rng(seed).normal(size=(size, size))
    smooth = ndimage.gaussian_filter(noise, 4)
    return 127 + 28 * np.clip(smooth / smooth.std(), -3, 3)


def save(levels: np.ndarray, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(np.clip(levels, 0, 255)).astype(np.uint8)).save(path, **options)


def boxed(levels: np.ndarray) -> np.ndarray:
    """The picture with a white box in a corner."""
    covered = levels.copy()
    covered[10:40, 10:80] = 255
    return covered


CHANGES = {
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "turned": lambda p: p[::-1, ::-1],
    "contrast": lambda p: 30 + 0.4 * p,
    "gamma": lambda p: 255 * (p / 255) ** 1.6,
    "centre crop": lambda p: p[8:-8, 8:-8],
    "mirrored crop": lambda p: p[12:-12, -12:12:-1],
    "corner crop": lambda p: p[:144, 16:],
    "cut on one side": lambda p: p[:, 19:],
    "four fifths in a corner": lambda p: p[32:, :128],
    "crop that keeps no proportion": lambda p: p[13:-5, 8:-21],
    "mirrored, off the centre, in another contrast": lambda p: 30 + 0.6 * p[21:-3, -5:19:-1],
    "shifted": lambda p: np.pad(p, ((5, 0), (5, 0)))[:160, :160],
    "negative": lambda p: 255 - p,
    "crop of the negative": lambda p: 255 - p[10:-20, 14:-4],
    "smaller": lambda p: p[::2, ::2],
    "noise": lambda p: p + np.random.default_rng(9).normal(0, 6, p.shape),
    "black margin": lambda p: np.pad(p, 30),
    "white frame": lambda p: np.pad(p[8:-8, 8:-8], 8, constant_values=255),
    "burnt-in box": boxed,
}


OVERLAYS = {
    "white frame": lambda p: np.pad(p[4:-4, 4:-4], 4, constant_values=255),
    "broad grey frame": lambda p: np.pad(p[16:-16, 16:-16], 16, constant_values=240),
    "black frame": lambda p: np.pad(p[8:-8, 8:-8], 8),
    "box": boxed,
    "letterbox": lambda p: np.pad(p[24:-24], ((24, 24), (0, 0)), constant_values=255),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found_and_no_other(tmp_path: Path, change) -> None:
    for seed in range(6):
        save(picture(seed), tmp_path / f"normal/{seed}.png")
    save(change(picture(3)), tmp_path / "unlabeled/changed.png")
    save(picture(50), tmp_path / "unlabeled/other.png")

    found = audit_cohort(Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled"))

    pairs = {
        (Path(found.paths[one]).name, Path(found.paths[other]).name)
        for one, other in zip(found.pairs.first, found.pairs.second, strict=True)
    }
    assert pairs == {("3.png", "changed.png")}
    assert not found.pairs.exact.any()


@pytest.mark.parametrize("overlay", OVERLAYS.values(), ids=OVERLAYS)
def test_what_is_drawn_into_all_images_makes_no_copies_and_hides_none(tmp_path: Path, overlay) -> None:
    for seed in range(12):
        dim = 127 + 0.4 * (picture(seed) - 127)
        save(overlay(dim), tmp_path / f"normal/{seed}.png")
    save(overlay(120 + 0.3 * (picture(3) - 127)), tmp_path / "unlabeled/contrast.png")

    found = audit_cohort(Cohort.from_folders(normal=tmp_path / "normal", unlabeled=tmp_path / "unlabeled"))

    pairs = zip(found.pairs.first, found.pairs.second, strict=True)
    assert [(Path(found.paths[one]).name, Path(found.paths[other]).name) for one, other in pairs] == [
        ("3.png", "contrast.png")
    ]


def test_the_same_pixels_in_another_file_format_are_exact_and_leaks_are_named(tmp_path: Path) -> None:
    for seed in range(4):
        save(picture(seed), tmp_path / f"normal/{seed}.png")
    save(picture(0), tmp_path / "test/same.tif")
    save(picture(1)[:, ::-1], tmp_path / "ill/mirrored.png")

    found = audit_cohort(
        Cohort.from_folders(normal=tmp_path / "normal", test_normal=tmp_path / "test", test_abnormal=tmp_path / "ill")
    )

    counts = {(count.first, count.second): (count.exact, count.near, count.of) for count in found.copies}
    assert counts == {
        ("normal", "normal"): (0, 0, 4),
        ("test normal", "normal"): (1, 1, 1),
        ("test normal", "test normal"): (0, 0, 1),
        ("test abnormal", "normal"): (0, 1, 1),
        ("test abnormal", "test normal"): (0, 0, 1),
        ("test abnormal", "test abnormal"): (0, 0, 1),
    }
    assert found.leaks
    assert found.torn_groups == 2
    (conflict,) = found.conflicts
    assert found.paths[found.pairs.second[conflict]].endswith("mirrored.png")


def test_each_image_counts_once_however_many_copies_it_has() -> None:
    pairs = CopyPairs(np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([True, False, False]), np.ones(3, np.float32))

    counts = count_copies(pairs, ["a", "a", "b"], ["a", "b"])

    assert [(c.first, c.second, c.exact, c.near, c.of) for c in counts] == [
        ("a", "a", 2, 2, 2),
        ("b", "a", 0, 1, 1),
        ("b", "b", 0, 0, 1),
    ]


def test_files_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    for seed in range(3):
        save(picture(seed), tmp_path / f"normal/{seed}.png")
    save(np.full((20, 20), 7.0), tmp_path / "normal/constant.png")
    (tmp_path / "normal/broken.png").write_bytes((tmp_path / "normal/0.png").read_bytes()[:500])

    found = audit_cohort(Cohort.from_folders(normal=tmp_path / "normal"))

    assert sorted(image.path.name for image in found.skipped) == ["broken.png", "constant.png"]
    assert len(found.paths) == 3
    assert found.to_json()["copies"] == [{"first": "normal", "second": "normal", "exact": 0, "near": 0, "of": 3}]
    assert not found.leaks


def test_many_copies_make_few_pairs_and_count_as_before(tmp_path: Path) -> None:
    roles = ("normal", "unlabeled", "test_normal")
    for number in range(60):
        folder = tmp_path / roles[number % 3]
        save(picture(0), folder / f"same-{number}.png")
        save(picture(1) + np.random.default_rng(number).normal(0, 4, (160, 160)), folder / f"alike-{number}.png")
    save(picture(2), tmp_path / "test_normal/alone.png")

    found = audit_cohort(Cohort.from_folders(**{role: tmp_path / role for role in roles}))

    assert {(count.exact, count.near) for count in found.copies} == {(20, 40)}
    assert found.torn_groups == 2
    assert len(np.unique(found.groups)) == 3
    assert len(found.pairs.first) < 4 * len(found.paths)  # all pairs were 3540


def test_a_chain_of_near_copies_is_one_group_though_its_middle_is_weak(tmp_path: Path) -> None:
    one, other = picture(0) - 127, picture(1) - 127
    for name, angle in enumerate(np.radians([0, 18, 50, 68])):
        save(127 + np.cos(angle) * one + np.sin(angle) * other, tmp_path / f"normal/{name}.png")

    found = audit_cohort(Cohort.from_folders(normal=tmp_path / "normal"))

    kept = set(zip(found.pairs.first.tolist(), found.pairs.second.tolist(), strict=True))
    assert kept == {(0, 1), (2, 3)}
    assert len(np.unique(found.groups)) == 1
