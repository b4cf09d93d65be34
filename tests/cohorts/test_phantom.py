from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ddad.cohorts.phantom import SMALLEST_SIZE, draw_phantom, render_phantom

KINDS = {"tumour", "infarct", "spots", "ring", "atrophy"}


def test_a_lesion_changes_the_pixels_under_its_mask() -> None:
    kinds = set()
    for index in range(60):
        sick = draw_phantom(0, index, abnormal=True)
        well = draw_phantom(0, index, abnormal=False)
        assert sick.lesion is not None
        assert replace(sick, lesion=None) == well
        image, mask = render_phantom(sick)
        healthy, nothing = render_phantom(well)
        change = np.abs(image.astype(float) - healthy)
        assert not nothing.any()
        assert 10 <= mask.sum() < 0.15 * mask.size
        assert change[mask].mean() > 10
        assert change[mask].mean() > 8 * change[~mask].mean()
        kinds.add(sick.lesion.kind)
    assert kinds == KINDS


@pytest.mark.parametrize("size", [SMALLEST_SIZE, 130])
def test_every_lesion_has_a_mask_at_every_size(size: int) -> None:
    for index in range(40):
        image, mask = render_phantom(draw_phantom(1, index, abnormal=True), size)
        assert image.shape == mask.shape == (size, size)
        assert mask.any()


def test_slices_of_one_patient_share_anatomy_and_patients_differ() -> None:
    first, second, stranger = (draw_phantom(0, index, abnormal=False) for index in (0, 1, 2))
    assert first.anatomy == second.anatomy != stranger.anatomy
    assert first.pose != second.pose
    assert first.noise_seed != second.noise_seed


def test_simple_statistics_do_not_give_the_answer_away() -> None:
    images = [
        render_phantom(draw_phantom(0, index + 1000 * abnormal, abnormal=abnormal))[0]
        for abnormal in (False, True)
        for index in range(150)
    ]
    labels = np.repeat([0, 1], 150)
    for statistic in (np.mean, np.std, np.max):
        auc = float(roc_auc_score(labels, [float(statistic(image)) for image in images]))
        assert 0.3 < auc < 0.7, statistic.__name__


def test_the_head_lies_inside_a_dark_frame() -> None:
    for index in range(30):
        image, _ = render_phantom(draw_phantom(2, index, abnormal=False))
        corners = np.concatenate([image[:6, :6].ravel(), image[-6:, -6:].ravel()])
        assert corners.mean() < 25 < 40 < image[24:72, 24:72].mean()
