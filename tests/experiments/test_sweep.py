from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ddad.cohorts import Role
from ddad.errors import CohortError, SettingError
from ddad.experiments.setting import Setting
from ddad.experiments.sweep import SWEEPS, sweep_runs
from support import tiny_recipe, write_images


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    folder = tmp_path / "benchmark"
    names = [path.name for path in write_images(folder / "images", 34)]
    split = {
        "train": {"0": names[:12], "unlabeled": {"0": names[12:16], "1": names[16:26]}},
        "test": {"0": names[26:30], "1": names[30:]},
    }
    (folder / "data.json").write_text(json.dumps(split))
    return Setting("custom", str(folder))


def test_over_anomaly_rates_the_number_of_unlabeled_images_stays(setting: Setting) -> None:
    runs = sweep_runs("anomaly-rate", setting, tiny_recipe(), values=(0, 0.5, 1), methods=["ddad"], seeds=1)
    counts = []
    for _, run in runs:
        cohort = run.setting.open()[1]
        abnormal = set(json.loads((Path(setting.data) / "data.json").read_text())["train"]["unlabeled"]["1"])
        unlabeled = [path.name for path in cohort.paths(Role.UNLABELED)]
        counts.append((len(unlabeled), len(abnormal & set(unlabeled))))
    assert counts == [(4, 0), (4, 2), (4, 4)]
    assert [value for value, _ in runs] == [0, 0.5, 1]


def test_other_sweeps_change_the_recipe_or_the_normals(setting: Setting) -> None:
    members = sweep_runs("members", setting, tiny_recipe(), seeds=1)
    assert [run.recipe.reconstruction.members for _, run in members] == list(SWEEPS["members"].values)
    codes = sweep_runs("latent-size", setting, tiny_recipe(), values=(4, 8), seeds=2)
    assert [(run.recipe.reconstruction.latent_size, run.recipe.seed) for _, run in codes] == [
        (4, 0), (4, 1), (8, 0), (8, 1)
    ]  # fmt: skip
    normals = sweep_runs("normals", setting, tiny_recipe(), methods=["ddad"], seeds=2)
    assert [(value, run.setting.normals_seed) for value, run in normals] == [(10, 0), (10, 1)]  # 20 are not there


def test_values_that_cannot_be_used(setting: Setting) -> None:
    for value in (2.5, float("nan"), float("inf")):
        with pytest.raises(SettingError, match=f"--value {value}: members takes whole numbers from 1 on"):
            sweep_runs("members", setting, tiny_recipe(), values=(value,))
        with pytest.raises((SettingError, CohortError), match=f"{value}"):
            sweep_runs("anomaly-rate", setting, tiny_recipe(), values=(value,))
    with pytest.raises(SettingError, match="--value 7: normals takes whole numbers from 8 on"):
        sweep_runs("normals", setting, tiny_recipe(), values=(7,))
    with pytest.raises(CohortError, match="20 normal images"):
        sweep_runs("normals", setting, tiny_recipe(), values=(20,))[0][1].setting.open()
    for unseen in ("", "meningioma=", "=*-me*"):
        with pytest.raises(SettingError, match="NAME=PATTERN"):
            Setting("custom", setting.data, unseen=unseen)


def test_fewer_normals_than_the_smallest_usual_value_are_told(setting: Setting) -> None:
    names = Path(setting.data) / "data.json"
    split = json.loads(names.read_text())
    split["train"]["0"] = split["train"]["0"][:9]
    names.write_text(json.dumps(split))
    with pytest.raises(CohortError, match=r"9 images are there, and the smallest usual value is 10\. Give --value"):
        sweep_runs("normals", setting, tiny_recipe(), methods=["ddad"])
    assert sweep_runs("normals", setting, tiny_recipe(), methods=["ddad"], values=(8, 9))


def test_a_method_that_does_not_read_what_is_varied_is_refused(tmp_path: Path) -> None:
    nowhere = Setting("custom", str(tmp_path / "none"))  # refused before the images are looked at
    for method in ("ae", "vae", "igd", "normal-vs-unlabeled", "all"):
        with pytest.raises(SettingError, match=r"does not read reconstruction\.members.* Take ddad\+ or ddad\."):
            sweep_runs("members", nowhere, tiny_recipe(), methods=[method])
    for method in ("igd", "ganomaly", "normal-vs-unlabeled"):
        with pytest.raises(SettingError, match=rf"--methods {method}: .* reconstruction\.latent_size"):
            sweep_runs("latent-size", nowhere, tiny_recipe(), methods=["ae", method])
    for method in ("ae", "fpi", "all"):
        with pytest.raises(SettingError, match=r"not see unlabeled images.* Take .*ddad or normal-vs-unlabeled"):
            sweep_runs("anomaly-rate", nowhere, tiny_recipe(), methods=["ddad", method])
    assert len(sweep_runs("latent-size", nowhere, tiny_recipe(), methods=["ddad+", "ae"], values=(4,), seeds=1)) == 2


def test_an_unseen_class_may_have_a_name_or_not(setting: Setting) -> None:
    tested = [
        replace(setting, unseen=unseen).open()[1].paths(Role.TEST, 1) for unseen in ("last=*-033.png", "*-033.png")
    ]
    assert tested[0] == tested[1]
    assert len(tested[0]) == 1
