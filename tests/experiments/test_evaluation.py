"""Which test images are scored, whose slices they are, and what is doubtful about the whole."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

import ddad
from ddad.cohorts import Cohort, Role
from ddad.cohorts.seen import pixel_digest
from ddad.evaluation import image_metrics
from ddad.experiments.evaluation import Evaluation, evaluate, write_evaluation
from ddad.experiments.score_maps import write_score_maps
from ddad.experiments.tables import evaluation_table
from support import tiny_recipe, write_images


def picture(place: int) -> np.ndarray:
    return np.random.default_rng(place).uniform(-1, 1, (1, 16, 16)).astype(np.float32)


def stand_in(digests: list[str] | None = None, looks: list[str] | None = None, **changes: Any) -> Any:
    """Return what `evaluate` needs of a model: it scores an image, and the rows of its map, by their place."""

    def score_listed(paths: list[Path], *, maps: bool, **_: object) -> Any:
        score_map = np.repeat(np.arange(16.0)[:, None], 16, axis=1)
        for place, path in enumerate(paths):
            scores = {"image": float((7 * place) % 11) + place / 20}
            with Image.open(path) as image:
                size = (image.height, image.width)
            found = {"image": score_map} if maps else {}
            pixels = picture(place)
            yield SimpleNamespace(path=str(path), scores=scores, maps=found, pixels=pixels, source_size=size)

    card = {"cohort": {"digests": digests or [], "pixel_digests": looks or []}}
    return SimpleNamespace(card=card, recipe=tiny_recipe(**changes), score_listed=score_listed, summary=dict)


def patients(folder: Path, of_normal: int, of_abnormal: int) -> Cohort:
    """Return a cohort of 24 normal and 24 abnormal test images of so many patients each."""
    rows = [
        f"{path},test,{label},{label}-{place % count}"
        for label, count in ((0, of_normal), (1, of_abnormal))
        for place, path in enumerate(write_images(folder, 24, seed=label))
    ]
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(["path,role,label,group", *rows]) + "\n")
    return Cohort.from_manifest(manifest)


def test_intervals_are_over_patients_and_say_so(tmp_path: Path) -> None:
    cohort = patients(tmp_path / "images", 12, 6)
    found = evaluate(stand_in(), cohort)

    group_of = cohort.of(Role.TEST).set_index("path")["group"]
    assert len({(group_of[path], group) for path, group in zip(found.paths, found.groups or (), strict=True)}) == 18
    assert found.images["image"] == image_metrics(found.labels, found.scores["image"], found.groups)
    assert found.images["image"] != image_metrics(found.labels, found.scores["image"])
    assert found.to_json()["test_groups"] == 18
    assert found.warnings == [
        "the 24 abnormal test images are of 6 groups (patients, volumes): with fewer than 10, intervals are too narrow."
    ]

    write_evaluation(found, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert list(table) == ["path", "label", "group", "image"]
    assert table["group"].nunique() == 18  # numbers: a group may be named for a patient
    assert table["group"].tolist() == found.groups
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["test_groups"] == 18


def test_images_of_their_own_have_no_groups(tmp_path: Path) -> None:
    found = evaluate(stand_in(), patients(tmp_path / "images", 24, 24))
    assert found.groups is None
    assert found.images["image"] == image_metrics(found.labels, found.scores["image"])
    assert found.to_json()["test_groups"] == 48
    assert found.warnings == []
    write_evaluation(found, tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out" / "scores.csv")) == ["path", "label", "image"]


def test_few_images_of_their_own_are_said_to_be_few(tmp_path: Path) -> None:
    write_images(tmp_path / "normal", 10)
    write_images(tmp_path / "abnormal", 2, seed=1)
    cohort = Cohort.from_folders(test_normal=tmp_path / "normal", test_abnormal=tmp_path / "abnormal")
    assert evaluate(stand_in(), cohort).warnings == [
        "the 2 abnormal test images are few: with fewer than 10, intervals are too narrow."
    ]


def test_test_images_that_the_model_has_seen_are_counted_by_how(tmp_path: Path) -> None:
    cohort = patients(tmp_path / "images", 12, 24)
    first = cohort.digest(str(cohort.paths(Role.TEST)[0]))
    found = evaluate(stand_in([first[:16]]), cohort)
    assert found.warnings == [
        "2 test images are not new to the model, so that memory is measured, too: 1 exact copy of an image that the "
        "model was fitted on, 1 in a group (patient) with such images."
    ]
    saved_anew = [pixel_digest(picture(30))]
    assert evaluate(stand_in(looks=saved_anew), cohort).warnings == [
        "1 test image is not new to the model, so that memory is measured, too: 1 that shows the same as one of "
        "the fit, saved anew or mirrored."
    ]
    assert evaluate(stand_in(), cohort).warnings == []


def test_a_row_that_names_a_file_of_several_slices_is_one_image(tmp_path: Path) -> None:
    """It is scored as it is fitted on: without expanding it into its slices, which no row names."""
    rows = [f"{path},normal," for path in write_images(tmp_path / "images", 8)]
    for label in (0, 1):
        stack = np.random.default_rng(label).integers(0, 255, (3, 20, 20), dtype=np.uint8)
        tifffile.imwrite(tmp_path / f"{label}.tif", stack, photometric="minisblack")
        rows.append(f"{tmp_path / str(label)}.tif,test,{label}")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["path,role,label", *rows]) + "\n")
    cohort = Cohort.from_manifest(manifest)
    model = ddad.fit(cohort, tiny_recipe(holdout=0), workers=0)
    assert evaluate(model, cohort).paths == [str(tmp_path / "0.tif"), str(tmp_path / "1.tif")]
    assert write_score_maps(model, cohort, tmp_path, count=1, on_skipped=[].append)


def test_masks_outside_of_what_the_network_sees_leave_out_pixel_metrics_alone(tmp_path: Path) -> None:
    normal, lesion, edge = write_images(tmp_path / "images", 3)
    for path in (lesion, edge):
        Image.open(path).resize((64, 32)).save(path)
    marked = np.zeros((16, 32), np.uint8)
    marked[12:, 14:18] = 255  # in the lowest rows, where the map is highest
    Image.fromarray(marked).save(tmp_path / "lesion.png")
    Image.fromarray(np.roll(marked, 14, axis=1)).save(tmp_path / "edge.png")
    manifest = tmp_path / "manifest.csv"
    rows = [f"{normal},test,0,", f"{lesion},test,1,lesion.png", f"{edge},test,1,edge.png"]
    manifest.write_text("\n".join(["path,role,label,mask", *rows]) + "\n")
    found = evaluate(stand_in(images__aspect="crop"), Cohort.from_manifest(manifest))
    assert set(found.images) == {"image"}
    assert found.pixels == {}
    warning, *few = found.warnings
    assert warning.startswith(f"pixel metrics are left out: {edge}: its mask ")
    assert warning.endswith("edge.png lies outside of the square that images.aspect=crop takes.")

    whole = evaluate(stand_in(), Cohort.from_manifest(manifest))
    assert whole.warnings == few  # of so few images
    assert whole.pixels["image"].auroc > 0.7


def test_masks_of_another_shape_leave_out_pixel_metrics_alone(tmp_path: Path) -> None:
    """Stretched to the image, they would lie elsewhere."""
    normal, first, second = write_images(tmp_path / "images", 3)
    manifest = tmp_path / "manifest.csv"
    rows = [f"{normal},test,0,", f"{first},test,1,first.png", f"{second},test,1,second.png"]
    manifest.write_text("\n".join(["path,role,label,mask", *rows]) + "\n")
    marked = np.zeros((10, 10), np.uint8)
    marked[6:, 2:5] = 255
    Image.fromarray(marked).save(tmp_path / "first.png")  # half the image's size
    Image.fromarray(marked).resize((16, 10)).save(tmp_path / "second.png")
    found = evaluate(stand_in(), Cohort.from_manifest(manifest))
    assert found.pixels == {}
    assert set(found.images) == {"image"}
    assert found.warnings[0] == (
        f"pixel metrics are left out: {second}: the mask is of another shape, 16×10 pixels where the image has 20×20; "
        "give one that covers the whole image and nothing else."
    )
    Image.fromarray(marked).save(tmp_path / "second.png")
    assert set(evaluate(stand_in(), Cohort.from_manifest(manifest)).pixels) == {"image"}


def test_a_constant_score_has_dashes_in_the_table() -> None:
    labels, scores = [0, 0, 1, 1], {"rec": [0.1, 0.4, 0.3, 0.9], "a_intra": [0.0] * 4}
    metrics = {name: image_metrics(labels, values) for name, values in scores.items()}
    table = evaluation_table(Evaluation(metrics, {}, list("abcd"), labels, scores)).set_index("score")
    assert table.loc["a_intra"].tolist() == ["–", "–"]
    assert table.loc["rec", "AUC"].startswith("75.0 [")
