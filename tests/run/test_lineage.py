"""What may differ between a run's starts is tried: an interrupted run goes on under it, and its numbers stay."""

from __future__ import annotations

import csv
import json
import math
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping

from catpose.errors import InputError
from catpose.run.checkpoint import read_checkpoint
from catpose.run.lineage import FREE, changes, is_free
from catpose.run.training import train

#: Each free setting with what it is changed to: the run began under the tests' own (conftest.py) and the defaults.
OTHERWISE = {
    "data.num_workers": ("1",),
    "data.cache": ("off", "memory"),
    "data.cache_dir": ("{tmp}",),
    "trainer.enable_progress_bar": ("true",),
    "trainer.enable_model_summary": ("true",),
    "trainer.log_every_n_steps": ("2", "0"),
    "trainer.logger": ("false", "true"),
    "checkpoint_seconds": ("1000",),
}
#: Some of `wandb`'s, all of which are free.
OTHERWISE_OF_WANDB = {"wandb.mode": ("offline",), "wandb.name": ("other",), "wandb.tags": ("[a]",)}
CASES = [(key, value) for key, values in {**OTHERWISE, **OTHERWISE_OF_WANDB}.items() for value in values]
SCHEDULES = ("multistep", "cosine")
EPOCHS = "--trainer.max_epochs=2"
slow = pytest.mark.slow


def numbers(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if "second" not in key} for row in csv.DictReader(file)]


def same_weights(a: Path, b: Path) -> bool:
    states = [read_checkpoint(path / "last.ckpt")["state_dict"] for path in (a, b)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def run(config: Path, out: Path, *options: str) -> Path:
    train(["--config", str(config), "--out", str(out), "--model.milestones=[1]", "--wandb.mode=disabled", *options])
    return out


def interrupted(config: Path, out: Path, *options: str) -> Path:
    """A run of two epochs that was stopped after its first."""

    def stop() -> None:
        while not (out / "run.json").exists():
            time.sleep(0.001)
        (out / "stop").touch()

    threading.Thread(target=stop, daemon=True).start()
    run(config, out, *options)
    assert len(numbers(out)) == 1
    return out


@pytest.fixture(scope="module")
def halves(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """For each schedule a run that was interrupted after one of its two epochs, and one that wasn't."""
    folder = tmp_path_factory.mktemp("halves")
    made = {}
    for schedule in SCHEDULES:
        options = (f"--model.schedule={schedule}", EPOCHS)
        half = interrupted(tiny, folder / f"{schedule} half", *options)
        made[schedule] = (half, run(tiny, folder / f"{schedule} whole", *options))
    return made


def test_every_free_setting_is_tried() -> None:
    assert OTHERWISE.keys() == {*FREE}


@pytest.mark.parametrize(
    ("schedule", "key", "value"),
    [  # of a cosine, which looks at the run's length, all but the first by hand
        pytest.param(schedule, *case, marks=pytest.mark.long if schedule == "cosine" and case != CASES[0] else slow)
        for schedule in SCHEDULES
        for case in CASES
    ],
)
def test_a_free_setting_changes_no_number(
    schedule: str, key: str, value: str, tiny: Path, halves: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    half, whole = halves[schedule]
    out = shutil.copytree(half, tmp_path / "out")
    logged = ["--wandb.mode=offline"] if key.startswith("wandb.") or key == "trainer.logger" else []
    run(tiny, out, f"--model.schedule={schedule}", EPOCHS, *logged, f"--{key}={value.format(tmp=tmp_path)}")
    assert len(numbers(out)) == 2
    assert numbers(out) == numbers(whole)
    assert same_weights(out, whole)


RECIPE = (
    "--model.optimizer=adamw",
    "--model.weight_decay=0.1",
    "--model.decay_all=false",
    "--model.layer_decay=0.8",
    "--model.schedule=cosine",
    "--model.cosine_from=0.5",
    "--model.keypoint_weights={nose: 2}",
    "--data.late_from=1",
    "--data.train_images=20",
    "--trainer.gradient_clip_val=1",
    "--trainer.callbacks+={class_path: EMAWeightAveraging, init_args: {decay: 0.9}}",
)


@pytest.mark.slow
def test_a_run_with_the_whole_recipe_goes_on_as_if_it_had_not_stopped(tiny: Path, tmp_path: Path) -> None:
    """Averaged weights, rates by layer, a late cosine, light changes, clipped gradients, other data beside the cats.

    A logger, which is told each group's rate, adds nothing to the numbers.
    """
    recipe = (EPOCHS, *RECIPE, f"--data.also={{{tiny_root(tiny)}: 0.5}}")
    whole = run(tiny, tmp_path / "whole", *recipe, "--wandb.mode=offline")
    half = interrupted(tiny, tmp_path / "half", *recipe)
    run(tiny, half, *recipe)
    assert numbers(half) == numbers(whole)
    assert same_weights(half, whole)


def tiny_root(config: Path) -> str:
    return yaml.safe_load(config.read_text())["data"]["root"]


SETTINGS: dict[str, Any] = {
    "model.class_path": "catpose.model.backbones.hrnet.HRNet",
    "model.schedule": "multistep",
    "model.warmup_iterations": 500,
    "model.milestones": [170, 200],
    "model.lr": 0.1,
    "trainer.max_epochs": 4,
    "trainer.callbacks": None,
    "trainer.logger": None,
}


@pytest.mark.parametrize(
    ("now", "epochs", "differing"),
    [
        ({"trainer.max_epochs": 9}, 4, []),
        ({"trainer.max_epochs": -1}, 4, []),
        ({"trainer.max_epochs": 3}, 3, []),
        ({"trainer.max_epochs": 3}, 4, ["trainer.max_epochs 4 → 3"]),  # fewer than there are
        ({"trainer.max_epochs": None}, 4, ["trainer.max_epochs 4 → None"]),  # Lightning has its own idea then
        ({"wandb.config.trial": 3, "wandb.mode": "offline"}, 4, []),
        ({"trainer.logger": False}, 4, []),
        ({"trainer.logger": [{"class_path": "my.Logger"}]}, 4, ["trainer.logger None → [{'class_path': 'my.Logger'}]"]),
        ({"trainer.max_time": "00:01:00:00"}, 4, ["trainer.max_time absent → 00:01:00:00"]),
        ({"trainer.accelerator": "cpu"}, 4, ["trainer.accelerator absent → cpu"]),
        ({"trainer.profiler": "simple"}, 4, ["trainer.profiler absent → simple"]),
        ({"model.lr": 0.2}, 0, ["model.lr 0.1 → 0.2"]),
    ],
)
def test_what_counts_as_a_change(now: dict[str, Any], epochs: int, differing: list[str]) -> None:
    assert changes(SETTINGS, SETTINGS | now, epochs) == differing


@pytest.mark.parametrize(
    "of",
    [
        {"model.schedule": "cosine"},
        {"model.warmup_iterations": 0.1},
        {"model.milestones": [0.8, 0.95]},
        {"model.class_path": "my_net.MyNet"},
        {"trainer.callbacks": [{"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging"}]},
        {"trainer.strategy.class_path": "my.Strategy"},
    ],
)
def test_more_epochs_are_a_change_where_a_run_may_look_at_its_length(of: dict[str, Any]) -> None:
    before = SETTINGS | of
    assert changes(before, before | {"trainer.max_epochs": 9}, 4) == ["trainer.max_epochs 4 → 9"]
    assert changes(before, before, 4) == []


def test_a_run_of_0_1_0_goes_on_with_what_was_no_setting_then() -> None:
    new = {"model.freeze_norm_statistics": False, "model.layer_decay": 1.0, "data.also": None}
    new |= {"data.late_augment.rotation_factor": 15, "data.input_size": [256, 256]}
    assert changes(SETTINGS, SETTINGS | {"data.area": "file"} | new, 4) == []
    assert changes(SETTINGS, SETTINGS | {"model.layer_decay": 0.9}, 4) == ["model.layer_decay 1.0 → 0.9"]
    assert changes(SETTINGS, SETTINGS | {"data.area": "box"}, 4) == ["data.area file → box"]


def test_a_class_is_never_free() -> None:
    assert all(is_free(key, value) for key in FREE for value in (None, 1, "x", False))
    assert not any(is_free(key, value) for key in FREE for value in ([{}], {"class_path": "my.Class"}))
    assert not any(is_free(f"{key}.class_path", "my.Class") for key in FREE)


@pytest.mark.slow
def test_a_cosine_goes_on_longer_as_another_lineage_only(
    tiny: Path, halves: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    out = shutil.copytree(halves["cosine"][1], tmp_path / "out")
    before = {file: file.read_bytes() for file in out.iterdir() if file.is_file()}
    longer = ("--model.schedule=cosine", "--trainer.max_epochs=4")
    with pytest.raises(InputError, match=r"trainer\.max_epochs 2 → 4.*--new-lineage"):
        run(tiny, out, *longer)
    assert {file: file.read_bytes() for file in before} == before
    run(tiny, out, *longer, "--new-lineage")
    starts = json.loads((out / "run.json").read_text())["starts"]
    assert [(start["lineage"], start["settings"]["trainer"]["max_epochs"]) for start in starts] == [(1, 2), (2, 4)]
    assert len(numbers(out)) == 4
    run(tiny, out, *longer)  # repeated: no lineage of its own, no epoch more
    assert [start["lineage"] for start in json.loads((out / "run.json").read_text())["starts"]] == [1, 2, 2]
    assert len(numbers(out)) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rate"),
    [
        (("--model.lr=1e-4",), 1e-5),  # after its milestone
        (("--model.lr=1e-4", "--data.batch_size=4"), 1e-5),  # twice as many steps an epoch: still after it
        (("--model.lr=1e-4", "--model.optimizer=adamax"), 1e-5),
    ],
)
def test_a_new_lineages_optimiser_is_the_one_that_was_asked_for(
    options: tuple[str, ...], rate: float, tiny: Path, halves: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    out = shutil.copytree(halves["multistep"][0], tmp_path / "out")
    run(tiny, out, EPOCHS, *options, "--model.weight_decay=0.5", "--new-lineage")
    assert float(numbers(out)[-1]["lr"]) == pytest.approx(rate)
    (group,) = read_checkpoint(out / "last.ckpt")["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (pytest.approx(rate), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--model.decay_all=false", "--model.layer_decay=0.5"])
def test_a_new_lineages_optimiser_may_have_other_groups(
    option: str, tiny: Path, halves: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    out = shutil.copytree(halves["multistep"][0], tmp_path / "out")
    run(tiny, out, EPOCHS, "--model.weight_decay=0.5", option, "--new-lineage")
    assert len(numbers(out)) == 2
    optimizer = read_checkpoint(out / "last.ckpt")["optimizer_states"][0]
    rates = [group["lr"] for group in optimizer["param_groups"]]
    assert len(rates) > 1
    assert float(numbers(out)[-1]["lr"]) == max(rates) == pytest.approx(2e-4)  # after the milestone
    assert {float(state["step"]) for state in optimizer["state"].values()} == {4}  # none of the groups before


@pytest.mark.slow
def test_a_cosine_that_ended_within_an_epoch_goes_on_to_its_new_end(tiny: Path, tmp_path: Path) -> None:
    options = ("--model.schedule=cosine", "--trainer.max_epochs=-1")
    out = run(tiny, tmp_path / "out", *options, "--trainer.max_steps=6")
    assert [row["step"] for row in numbers(out)] == ["4", "6"]
    run(tiny, out, *options, "--trainer.max_steps=12", "--new-lineage")
    steps, rates = zip(*((row["step"], float(row["lr"])) for row in numbers(out)), strict=True)
    assert steps == ("4", "6", "10", "12")
    assert rates[2] == pytest.approx(2e-3 * (1 + math.cos(math.pi * 10 / 12)) / 2)
    assert rates[3] == 0


class StopsWithin(Callback):
    """Stops a training in the middle of its second epoch."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1:
            trainer.should_stop = True


class Patience(EarlyStopping):
    def __init__(self) -> None:
        super().__init__("val/loss", patience=1, min_delta=1e9)  # never better


@pytest.mark.slow
@pytest.mark.parametrize(
    "ended",
    [
        "--trainer.max_time=00:00:00:01",
        f"--trainer.callbacks={__name__}.StopsWithin",
        f"--trainer.callbacks={__name__}.Patience",
    ],
)
def test_a_run_that_ends_early_has_whole_epochs_and_its_command_repeated_trains_no_more(
    ended: str, tiny: Path, halves: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny, out, ended, "--trainer.max_epochs=200")
    rows = numbers(out)
    assert 1 <= len(rows) < 200
    steps = int(numbers(halves["multistep"][1])[0]["step"])  # of an epoch
    assert [int(row["step"]) for row in rows] == [steps * (i + 1) for i in range(len(rows))]
    checkpoint = (out / "last.ckpt").read_bytes()
    for _ in range(2):
        run(tiny, out, ended, "--trainer.max_epochs=200")
        assert numbers(out) == rows
        assert (out / "last.ckpt").read_bytes() == checkpoint
    more = len(rows) + 1
    run(tiny, out, f"--trainer.max_epochs={more}", "--new-lineage")
    assert len(numbers(out)) == more
