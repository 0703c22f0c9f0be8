from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from catpose.errors import InputError
from catpose.plain_yaml import flatten
from catpose.run.directory import FILES, RunDirectory, lacking, refuse_run_file

STEPS = 3  # of an epoch
SETTINGS = {
    "model": {"class_path": "catpose.model.backbones.hrnet.HRNet", "init_args": {"lr": 1e-4, "schedule": "multistep"}},
    "data": {"root": "data/cats", "num_workers": None},
    "trainer": {"max_epochs": 2},
}


def changed(**changes: object) -> dict:
    settings = copy.deepcopy(SETTINGS)
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
    run.last.touch()  # an epoch was finished
    before = {file: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(InputError, match=rf"data\.{key} .* → other"):
        run.open(changed(**{f"data__{key}": "other"}), [])
    assert {file: file.read_bytes() for file in run.path.iterdir()} == before


def test_settings_of_which_nothing_came_keep_nobody_from_others(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.open(SETTINGS, [])
    run.open(changed(data__batch_size=4), [])
    assert run.lineages == 1
    run.metrics.write_text("epoch,step\n0,4\n")
    with pytest.raises(InputError, match=r"data\.batch_size 4 → absent"):
        run.open(SETTINGS, [])


def test_each_start_keeps_its_settings_and_its_lineage(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    other = changed(data__batch_size=4)
    run.open(SETTINGS, [])
    run.last.touch()  # an epoch was finished
    assert run.check(other, new_lineage=True)
    assert not run.check(SETTINGS, new_lineage=True)
    run.open(other, [], new_lineage=True)
    run.open(other, [])
    with pytest.raises(InputError, match=r"data\.batch_size 4 → absent"):  # the last start's count
        run.check(SETTINGS)
    starts = json.loads((run.path / "run.json").read_text())["starts"]
    assert [start["settings"] for start in starts] == [SETTINGS, other, other]
    assert [start["lineage"] for start in starts] == [1, 2, 2]
    assert run.lineages == 2


def test_a_run_of_0_1_0_has_its_settings_in_config_yaml_alone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.open(SETTINGS, [])
    run.last.touch()  # an epoch was finished
    record = json.loads(run.record.read_text())
    for start in record["starts"]:
        del start["settings"], start["lineage"]
    run.record.write_text(json.dumps(record))
    assert run.lineages == 1
    with pytest.raises(InputError, match=r"data\.root"):
        run.check(changed(data__root="other"))
    run.open(SETTINGS, [])
    assert run.lineages == 1


def test_a_run_goes_on_under_its_classes_names_of_now(tmp_path: Path) -> None:
    """What 0.1.0 called them stands in its config.yaml, and in run.json, of each earlier start."""
    run = RunDirectory(tmp_path)
    before, now = ("model.hrnet", "Classic"), ("model.backbones.hrnet", "MSRAHeatmap")

    def settings(module: str, codec: str) -> dict:
        arguments = {"codec": {"class_path": f"catpose.model.codec.{codec}"}}
        return SETTINGS | {"model": {"class_path": f"catpose.{module}.HRNet", "init_args": arguments}}

    run.open(settings(*before), [])
    run.last.touch()  # an epoch was finished
    run.open(settings(*now), [], first_epoch=1)
    assert run.lineages == 1
    assert run.settings == flatten(settings(*now))
    assert [start.first_epoch for start in run.starts] == [0, 1]


def test_settings_that_json_cannot_hold_are_equal_to_themselves(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    endless = changed(trainer__gradient_clip_val=float("inf"))
    run.open(endless, [])
    run.last.touch()  # an epoch was finished
    run.open(endless, [])
    with pytest.raises(InputError, match="gradient_clip_val Infinity → 1"):
        run.open(endless | {"trainer": {**endless["trainer"], "gradient_clip_val": 1.0}}, [])


@pytest.mark.parametrize("sign", ["study.yaml", "study.db", "trials"])
def test_a_studys_folder_is_not_taken(sign: str, tmp_path: Path) -> None:
    (tmp_path / sign).mkdir()
    with pytest.raises(InputError, match="is the folder of a study"):
        RunDirectory(tmp_path).open(SETTINGS, [])
    assert [file.name for file in tmp_path.iterdir()] == [sign]


def test_another_command_doesnt_write_over_a_runs_own_files(tmp_path: Path) -> None:
    for name in FILES:
        refuse_run_file(tmp_path / name, "--out")
    RunDirectory(tmp_path).open(SETTINGS, [])
    refuse_run_file(tmp_path / "predictions.json", "--out")
    for name in FILES:
        with pytest.raises(InputError, match="belongs to the run"):
            refuse_run_file(tmp_path / name, "--out")


def test_a_start_that_was_killed_before_it_was_written_down_takes_nothing_away(tmp_path: Path) -> None:
    for name in (".lock", ".run.json.0123456789ab.tmp"):
        (tmp_path / name).touch()
    RunDirectory(tmp_path).open(SETTINGS, [])


def test_a_first_start_that_was_killed_between_its_two_files_goes_on(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.open(SETTINGS, [])
    (tmp_path / "config.yaml").unlink()
    run.open(SETTINGS, [])
    (tmp_path / "config.yaml").unlink()
    run.last.touch()
    with pytest.raises(InputError, match=r"config\.yaml"):  # somebody has deleted it
        run.open(SETTINGS, [])


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
        "model.class_path": "catpose.model.backbones.hrnet.HRNet",
        "model.lr": 1e-4,
        "model.schedule": "multistep",
        "data.root": "data/cats",
        "data.num_workers": None,
        "trainer.max_epochs": 2,
    }


def rows(*epochs: int) -> list[dict[str, str]]:
    return [{"epoch": str(epoch), "step": str(STEPS * (epoch + 1))} for epoch in epochs]


@pytest.mark.parametrize(
    ("settings", "epochs", "what"),
    [
        ({"max_epochs": 3}, (0, 1, 2), None),
        ({"max_epochs": 3}, (0, 1), "2 of 3 epochs"),
        ({"max_epochs": 3}, (), "0 of 3 epochs"),
        ({"max_epochs": 3}, (0, 2), "2 of 3 epochs"),  # an epoch's row is lost
        ({"max_epochs": 3}, (0, 1, 1), "2 of 3 epochs"),
        ({"max_epochs": 3}, (1, 2, 3), "2 of 3 epochs"),
        ({"max_epochs": 3}, (0, 1, 2, 3, 4), None),  # of a run that was longer
        ({"max_epochs": 3, "max_steps": 7}, (0, 1, 2), None),
        ({"max_epochs": 3, "max_steps": 6}, (0, 1), None),
        ({"max_epochs": 3, "max_steps": 6}, (0, 2), "2 of 3 epochs"),
        ({"max_epochs": 3, "max_steps": 6}, (0,), "1 of 3 epochs"),
        ({"max_epochs": -1, "max_steps": 6}, (0, 1), None),
        ({"max_epochs": -1, "max_steps": 6}, (0,), "3 of 6 steps"),
        ({"max_epochs": 3, "max_steps": -1}, (0, 1, 2), None),
        ({"max_epochs": -1, "max_steps": -1}, (0, 1), "2 epochs, and its settings name no number of them"),
        ({"max_epochs": None, "max_time": "00:01:00:00"}, (0,), "1 epochs, and its settings name no number of them"),
        ({"max_epochs": 3, "max_time": "00:01:00:00"}, (0,), "1 of 3 epochs"),
    ],
)
def test_a_run_is_whole_with_all_that_its_settings_ask(
    settings: dict[str, Any], epochs: tuple[int, ...], what: str | None
) -> None:
    assert lacking({f"trainer.{key}": value for key, value in settings.items()}, rows(*epochs)) == what
