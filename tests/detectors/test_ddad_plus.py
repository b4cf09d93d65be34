from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ddad.detectors import DETECTORS, FitContext
from ddad.detectors.ddad import DDAD
from ddad.detectors.ddad_plus import DDADPlus
from ddad.errors import ModelError
from ddad.evaluation.suspicion import Suspicion
from ddad.networks.extent import as_share
from ddad.networks.fusion import Fusion
from ddad.training.checkpoint import load_tensors
from ddad.training.device import Compute
from support import RecordedProgress, random_images, tiny_ddad_plus

FP32 = Compute("cpu", "fp32")


def fit_in(
    workspace: Path,
    unlabeled: bool = True,
    abnormal: Tensor | None = None,
    normal: Tensor | None = None,
    progress: RecordedProgress | None = None,
) -> DDADPlus:
    recipe = tiny_ddad_plus(classification__epochs=3, classification__batch_size=8, fusion__folds=3)
    np.save(workspace / "normal.npy", (random_images(24) if normal is None else normal).numpy())
    np.save(workspace / "unlabeled.npy", 0.3 * random_images(20, seed=1).numpy())
    detector = DDADPlus(recipe)
    given = None
    if abnormal is not None:
        given = workspace / "abnormal.npy"
        np.save(given, abnormal.numpy())
    context = FitContext(workspace, FP32, workers=0, progress=progress or RecordedProgress(), abnormal=given)
    detector.fit(workspace / "normal.npy", workspace / "unlabeled.npy" if unlabeled else None, context)
    return detector


def test_the_score_is_the_mean_of_the_map_and_joins_the_three_parts(tmp_path: Path) -> None:
    detector = fit_in(tmp_path)
    images = random_images(5, seed=3)
    scored = detector.score(images, FP32)
    torch.testing.assert_close(scored.scores["image"], scored.maps["image"].mean(dim=(1, 2)))
    parts = detector.ddad.score(images, FP32).scores
    logit = torch.stack([classifier(images) for classifier in detector.classifiers]).mean(dim=0).detach()
    evidence = torch.stack([parts["r_dual"], parts["r_intra"], parts["rec_ensemble"], logit], dim=1)
    fusion = detector.fusion
    expected = ((evidence - fusion.mean) / fusion.deviation * fusion.weights).sum(dim=1)
    torch.testing.assert_close(scored.scores["image"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unlabeled", [True, False])
def test_less_error_than_normal_images_show_is_nothing_unusual(unlabeled: bool, tmp_path: Path) -> None:
    detector = fit_in(tmp_path, unlabeled)
    side = detector.recipe.images.image_size
    detector.location.usual[0, : side // 2] += 1000  # as if normal images had large errors in the upper half
    torch.nn.init.zeros_(detector.extent.network.head.weight)  # it sees nothing anywhere
    maps = detector.score(random_images(5, seed=3), FP32).maps["image"]
    upper, lower = maps[:, : side // 2].flatten(1), maps[:, side // 2 :].flatten(1)
    assert (upper == upper[:, :1]).all()
    assert (lower > upper).any(dim=1).all()


@pytest.mark.usefixtures("networks_compute_exactly")
def test_statistics_are_computed_as_exactly_as_scores(tmp_path: Path) -> None:
    assert fit_in(tmp_path).classifiers


def test_scores_are_the_same_without_the_map(tmp_path: Path) -> None:
    detector = fit_in(tmp_path)
    images = random_images(5, seed=3)
    assert torch.equal(detector.image_scores(images, FP32)["image"], detector.score(images, FP32).scores["image"])


def test_without_unlabeled_images_it_is_r_intra(tmp_path: Path) -> None:
    progress = RecordedProgress()
    detector = fit_in(tmp_path, unlabeled=False, progress=progress)
    why, movement = progress.messages
    assert why == "no unlabeled images: there is nothing for classifiers to learn, the score is R_intra"
    assert "turned" in movement  # its few images
    images = random_images(4, seed=3)
    torch.testing.assert_close(
        detector.score(images, FP32).scores["image"], detector.ddad.score(images, FP32).scores["r_intra"]
    )
    again = DETECTORS["ddad+"](detector.recipe)
    again.load_state_dict(detector.state_dict())
    assert torch.equal(again.score(images, FP32).maps["image"], detector.score(images, FP32).maps["image"])


def r_dual_and_r_intra(ddad: DDAD, normal: Path, images: Tensor) -> Tensor:
    """R_dual and R_intra in deviations of the normal images, summed, in deviations of that sum."""

    def evidence(of: Tensor) -> NDArray[np.float64]:
        scores = ddad.score(of, FP32).scores
        return np.stack([scores["r_dual"], scores["r_intra"]], axis=1).astype(np.float64)

    usual = evidence(torch.from_numpy(np.load(normal)))
    scaler = StandardScaler().fit(usual)
    total = scaler.transform(usual).sum(axis=1).std()
    return torch.from_numpy(scaler.transform(evidence(images)).sum(axis=1) / total).float()


def test_where_the_pile_holds_nothing_it_is_ddad_fitted_on_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Suspicion(np.zeros(20), 1.0, found=False)
    monkeypatch.setattr("ddad.detectors.ddad_plus.suspicion", lambda *_, **__: nothing)
    detector = fit_in(tmp_path)
    assert detector.classifiers == []
    images = random_images(4, seed=3)
    alone = DDAD(detector.recipe)
    (tmp_path / "alone").mkdir()
    context = FitContext(tmp_path / "alone", FP32, workers=0)
    alone.fit(tmp_path / "normal.npy", tmp_path / "unlabeled.npy", context)
    scored = detector.score(images, FP32)
    torch.testing.assert_close(scored.scores["image"], r_dual_and_r_intra(alone, tmp_path / "normal.npy", images))
    torch.testing.assert_close(scored.scores["image"], scored.maps["image"].mean(dim=(1, 2)))
    again = DETECTORS["ddad+"](detector.recipe)
    again.load_state_dict(detector.state_dict())
    assert torch.equal(again.score(images, FP32).maps["image"], scored.maps["image"])


def test_second_classifiers_learn_how_likely_an_unlabeled_image_is_abnormal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unlabeled image that is not suspected is a normal one to them, whatever it shows."""
    wanted = np.repeat([0.0, 1.0], 10)
    monkeypatch.setattr("ddad.detectors.ddad_plus.suspicion", lambda *_, **__: Suspicion(wanted, 0.5, found=True))
    detector = fit_in(tmp_path)
    for k in range(2):  # one for ten groups of near copies
        notes = load_tensors(tmp_path / f"second-classifier-{k}.safetensors")[1]
        assert notes["losses"] != load_tensors(tmp_path / f"classifier-{k}.safetensors")[1]["losses"]
    assert len(detector.classifiers) == 2


def test_a_fit_that_goes_on_keeps_to_whom_it_suspected(tmp_path: Path) -> None:
    """Another processor may round logits otherwise; what was learned from them must not change half-way."""
    before = fit_in(tmp_path)
    logits = np.load(tmp_path / "first-logits.npy")
    np.save(tmp_path / "first-logits.npy", np.where(np.arange(44) < 34, logits, -100.0))
    for file in tmp_path.glob("second-classifier-*"):
        file.unlink()
    again = fit_in(tmp_path)
    images = random_images(4, seed=3)
    assert not torch.equal(again.classifiers[0](images), before.classifiers[0](images))


def test_the_extent_network_learns_what_the_map_shows_of_all_images(tmp_path: Path) -> None:
    detector = fit_in(tmp_path, abnormal=marked(6, seed=5))
    images = torch.cat([random_images(24), 0.3 * random_images(20, seed=1), marked(6, seed=5)])
    with torch.inference_mode():
        expected = as_share(detector._seen_there(detector._local_evidence(images, FP32)[0]))
    shares = torch.from_numpy(np.load(tmp_path / "extent-shares.npy"))
    torch.testing.assert_close(shares[:, 0], expected, rtol=0, atol=1e-4)
    assert shares.max() > 0


def test_what_the_extent_network_sees_stands_in_the_map_and_not_in_the_score(tmp_path: Path) -> None:
    detector, images = fit_in(tmp_path), random_images(3, seed=3)
    before = detector.score(images, FP32)
    torch.nn.init.normal_(detector.extent.network.head.weight)
    after = detector.score(images, FP32)
    assert not torch.allclose(after.maps["image"], before.maps["image"], atol=0.1)
    torch.testing.assert_close(after.scores["image"], before.scores["image"])


def test_a_fit_that_goes_on_keeps_what_the_extent_network_learns_from(tmp_path: Path) -> None:
    before = fit_in(tmp_path)
    shares = np.load(tmp_path / "extent-shares.npy")
    np.save(tmp_path / "extent-shares.npy", 1 - shares)
    (tmp_path / "extent.safetensors").unlink()
    after = fit_in(tmp_path)
    assert not torch.equal(after.extent.network.head.bias, before.extent.network.head.bias)


@pytest.mark.parametrize("alike", [True, False], ids=["normals of one kind", "few normals"])
def test_too_few_images_to_divide_leave_ddad_alone(tmp_path: Path, alike: bool) -> None:
    normal = random_images(1).repeat(20, 1, 1, 1) if alike else random_images(8)
    detector = fit_in(tmp_path, normal=normal, abnormal=marked(6, seed=5))
    assert detector.classifiers == []
    assert not list(tmp_path.glob("*classifier*"))
    images = random_images(4, seed=3)
    score = detector.score(images, FP32).scores["image"]
    assert score.isfinite().all()
    if not alike:  # images of one kind vary by rounding alone
        torch.testing.assert_close(score, r_dual_and_r_intra(detector.ddad, tmp_path / "normal.npy", images))


def test_weights_without_their_other_half_are_refused(tmp_path: Path) -> None:
    detector = fit_in(tmp_path)
    tensors = {name: tensor for name, tensor in detector.state_dict().items() if not name.startswith("classifier_")}
    with pytest.raises(ModelError, match="do not fit the recipe"):
        DDADPlus(detector.recipe).load_state_dict(tensors)


def marked(count: int, seed: int) -> Tensor:
    """Images with a bright square, a kind of anomaly that no normal or unlabeled image has."""
    images = 0.5 * random_images(count, seed=seed)
    images[:, :, 4:12, 4:12] = 1
    return images


def test_known_abnormal_images_help_with_their_kind_and_leave_ddad_as_it_is(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("without", "with")]
    for folder in folders:
        folder.mkdir()
    without, given = fit_in(folders[0]), fit_in(folders[1], abnormal=marked(6, seed=5))
    images = torch.cat([random_images(12, seed=6), marked(12, seed=7)])
    labels = np.repeat([0, 1], 12)

    def ahead(detector: DDADPlus) -> float:
        logit = torch.stack([classifier(images) for classifier in detector.classifiers]).mean(dim=0).detach().numpy()
        return float(logit[labels == 1].mean() - logit[labels == 0].mean())

    assert ahead(given) > ahead(without)
    assert given.ddad.state_dict().keys() == without.ddad.state_dict().keys()
    # DDAD is fitted on normal and unlabeled images alone.
    seen = [np.load(folders[1] / f"kept-{part}.npy") for part in ("normal", "unlabeled")]
    known = {image.tobytes() for image in marked(6, seed=5).numpy()}
    assert not known & {image.tobytes() for part in seen for image in part}


def test_known_abnormal_images_stand_in_the_search_for_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {}

    def spy(_: Fusion, normal: np.ndarray, unlabeled: np.ndarray, suspicion: np.ndarray, abnormal_share: float) -> None:
        assert 0 <= abnormal_share <= 1
        assert len(suspicion) == len(unlabeled)
        counts["normal"], counts["unlabeled"] = len(normal), len(unlabeled)

    monkeypatch.setattr(Fusion, "fit", spy)
    for name, abnormal in (("without", None), ("with", marked(6, seed=5))):
        (tmp_path / name).mkdir()
        fit_in(tmp_path / name, abnormal=abnormal)
        counts[name] = counts["unlabeled"]
    assert counts["with"] == counts["without"] + 6
