"""Opening a study: with which versions its trials may be trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import catpose.study.opening
from catpose.errors import InputError
from catpose.run.provenance import Provenance, numeric_versions, versions_of
from catpose.study.file import Study, read_study
from catpose.study.opening import Opened, facts_of, open_ledger, reference_of

NOW = {"catpose": "0.3.0", "torch": "2.9.1", "numpy": "2.1"}


@pytest.fixture
def study(tiny: Path, tmp_path: Path) -> Study:
    file = tmp_path / "rate.yaml"
    file.write_text(f"experiment: {tiny}\nspace: {{model.lr: [1e-4, 5e-3]}}\n")
    return read_study(file)


def opened(study: Study, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], **how: Any) -> Opened:
    monkeypatch.setattr(catpose.study.opening, "numeric_versions", lambda: versions)
    return open_ledger(study, f"sqlite:///{study.file.parent}/study.db", **{"create": True, **how})


@pytest.mark.slow
def test_a_worker_of_another_version_is_refused(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(study, monkeypatch, NOW)
    opened(study, monkeypatch, NOW)
    for versions, named in (
        (NOW | {"catpose": "0.2.0"}, "catpose 0.3.0, here 0.2.0"),
        (NOW | {"torch": "2.9.1+cpu"}, "torch 2.9.1, here 2.9.1+cpu"),
        (NOW | {"timm": "1.0"}, "timm absent, here 1.0"),
        ({key: NOW[key] for key in ("catpose", "numpy")}, "torch 2.9.1, here absent"),
    ):
        with pytest.raises(InputError) as refused:
            opened(study, monkeypatch, versions)
        assert f"({named})" in str(refused.value)
        assert "--mixed-versions" in str(refused.value)
    opened(study, monkeypatch, versions, mixed_versions=True)
    opened(study, monkeypatch, versions, create=False)  # a report trains nothing
    opened(study, monkeypatch, NOW)


def test_the_reference_is_the_configuration_that_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "rate.yaml"
    for space, more, label in (
        ("{model.lr: [1e-4, 2e-3]}", "", "0.002"),  # tiny.yaml's own rate
        ("{model.lr: [1e-4, 2e-3]}", "reference: 1e-4", "0.0001"),
        ("{model.lr: [1e-4, 5e-3]}", "", "0.0001"),  # the first
        ("{model.lr: {low: 1e-4, high: 2e-3}}", "trials: 3", None),
    ):
        file.write_text(f"experiment: {tiny}\nspace: {space}\n{more}\n")
        assert reference_of(read_study(file)) == label


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ("{rate: {x: {model.lr: 1e-3}, y: {model.lr: 0.001}}}", "x and y are the same settings"),
        ('{data.input_size: [[64, 64], "[64,64]"]}', "64×64 and [64,64] are the same"),
        ("{model.codec: [UDPHeatmap, catpose.model.codec.UDPHeatmap, MSRAHeatmap]}", "are the same settings"),
        (
            "{data.augment: [{flip_probability: 0}, {flip_probability: 1}], data.augment.flip_probability: [0.1, 0.2]}",
            "are the same settings",
        ),
        ("{test: {x: {model.flip_test: true}, y: {model.flip_test: false}}}", "model.flip_test can't be varied"),
        ("{data: {x: {data: {root: here}}, y: {data: {root: there}}}}", "data.root can't be varied"),
        ("{data: {x: {data.area: box}, y: {data.area: file}}}", "data.area can't be varied"),
    ],
)
def test_configurations_that_could_not_be_compared_are_refused_before_they_train(
    tiny: Path, tmp_path: Path, space: str, named: str
) -> None:
    file = tmp_path / "rate.yaml"
    file.write_text(f"experiment: {tiny}\nspace: {space}\n")
    with pytest.raises(InputError, match=f"^{re.escape(f'{file}: space: ')}.*{re.escape(named)}"):
        facts_of(read_study(file))


@pytest.mark.parametrize("settings", ["model.nope: 1", "new_lineage: true", "help: x", '"model.lr ": 3'])
def test_a_setting_that_none_is_is_named_with_the_studys_file(tiny: Path, tmp_path: Path, settings: str) -> None:
    file = tmp_path / "rate.yaml"
    file.write_text(f"experiment: {tiny}\nspace: {{model.lr: [1e-4, 5e-3]}}\nsettings: {{{settings}}}\n")
    with pytest.raises(InputError, match=f"^{re.escape(str(file))}: settings"):
        facts_of(read_study(file))


@pytest.mark.slow
def test_versions_that_nobody_wrote_down_are_others(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(study, monkeypatch, NOW).ledger
    with ledger._engine.begin() as connection:  # as 0.1.0 left it
        text = connection.execute(sa.text("SELECT facts FROM catpose_studies")).scalar_one()
        text = text.replace(', "versions": {"catpose": "0.3.0", "numpy": "2.1", "torch": "2.9.1"}', "")
        assert "versions" not in text
        connection.execute(sa.text("UPDATE catpose_studies SET facts = :text"), {"text": text})
    with pytest.raises(InputError, match=r"weren't written down.*--mixed-versions"):
        opened(study, monkeypatch, NOW)
    opened(study, monkeypatch, NOW, mixed_versions=True)
    opened(study, monkeypatch, NOW, create=False)


def test_what_a_run_was_trained_with_is_that_of_all_its_starts() -> None:
    here = numeric_versions()
    assert {"catpose", "torch", "torchvision", "timm", "lightning", "albumentations", "numpy", "opencv"} <= here.keys()
    start = Provenance(catpose="0.2.0", packages={"torch": "2.9.1", "wandb": "1"})
    later = Provenance(catpose="0.2.0", packages={"torch": "2.7.0", "numpy": "2.1"})
    assert versions_of([start, start]) == {"catpose": "0.2.0", "torch": "2.9.1"}
    assert versions_of([start, later, start]) == {"catpose": "0.2.0", "torch": "2.9.1, 2.7.0", "numpy": "2.1"}
    assert versions_of([]) == {}
