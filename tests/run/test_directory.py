from __future__ import annotations

import json
from pathlib import Path

import pytest

from catpose.errors import InputError
from catpose.run.directory import RunDirectory, flatten

SETTINGS = {
    "model": {"class_path": "catpose.model.hrnet.HRNet", "init_args": {"lr": 1e-4}},
    "data": {"root": "data/cats", "num_workers": None},
    "trainer": {"max_epochs": 2},
}


def changed(**changes: object) -> dict:
    settings = json.loads(json.dumps(SETTINGS))
    for name, value in changes.items():
        group, key = name.split("__")
        settings[group][key] = value
    return settings


def test_the_id_is_for_life_and_each_start_is_written_down(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.open(SETTINGS, ["--first"])
    first = run.wandb_id
    run.open(SETTINGS, ["--second"])
    assert run.wandb_id == first
    starts = json.loads((run.path / "run.json").read_text())["starts"]
    assert [start["command"] for start in starts] == [["--first"], ["--second"]]


def test_two_runs_have_two_ids(tmp_path: Path) -> None:
    runs = [RunDirectory(tmp_path / name) for name in "ab"]
    for run in runs:
        run.open(SETTINGS, [])
    assert runs[0].wandb_id != runs[1].wandb_id


def test_settings_that_change_no_number_may_change(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.open(SETTINGS, [])
    run.open(changed(data__num_workers=4, trainer__max_epochs=9), [])
    assert "max_epochs: 9" in (run.path / "config.yaml").read_text()


@pytest.mark.parametrize("key", ["root", "batch_size"])
def test_other_settings_are_refused_and_nothing_is_written(key: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.open(SETTINGS, [])
    before = {file: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(InputError, match=rf"data\.{key} .* → other"):
        run.open(changed(**{f"data__{key}": "other"}), [])
    assert {file: file.read_bytes() for file in run.path.iterdir()} == before


def test_a_folder_of_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files but no run"):
        RunDirectory(tmp_path).open(SETTINGS, [])
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_taken_and_a_file_is_not(tmp_path: Path) -> None:
    RunDirectory(tmp_path).open(SETTINGS, [])
    with pytest.raises(InputError, match="is a file"):
        RunDirectory(tmp_path / "run.json").open(SETTINGS, [])


def test_flatten_names_settings_as_the_command_line_does() -> None:
    assert flatten(SETTINGS) == {
        "model.class_path": "catpose.model.hrnet.HRNet",
        "model.lr": 1e-4,
        "data.root": "data/cats",
        "data.num_workers": None,
        "trainer.max_epochs": 2,
    }
