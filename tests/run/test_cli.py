from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from catpose.errors import InputError
from catpose.run.cli import FitCLI
from catpose.run.directory import flatten

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = sorted((REPOSITORY / "experiments").glob("*.yaml"))


def resolved(*argv: str) -> dict:
    return flatten(FitCLI(list(argv)).resolved())


def test_the_defaults_are_the_published_best_settings() -> None:
    settings = resolved()
    expected = {
        "model.class_path": "catpose.model.hrnet.HRNet",
        "model.width": 32,
        "model.optimizer": "adam",
        "model.lr": 1e-4,
        "model.warmup_iterations": 500,
        "model.warmup_ratio": 0.001,
        "model.milestones": [170, 200],
        "model.codec.class_path": "catpose.model.codec.Classic",
        "model.codec.sigma": 2.0,
        "data.input_size": [256, 256],
        "data.batch_size": 32,
        "data.augment.rotation_factor": 40.0,
        "data.augment.scale_factor": 0.5,
        "data.augment.half_body_probability": 0.3,
        "trainer.max_epochs": 210,
    }
    assert {key: settings[key] for key in expected} == expected


def test_options_override_the_file_and_a_second_file_the_first(tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    second.write_text("model: {init_args: {lr: 3e-4}}\ndata: {batch_size: 4}\n")
    settings = resolved("--config", "experiments/baseline.yaml", "--config", str(second), "--data.batch_size", "8")
    assert settings["model.class_path"].endswith(".ResNet")
    assert (settings["model.lr"], settings["data.batch_size"]) == (3e-4, 8)
    assert settings["model.warmup_iterations"] == 10


@pytest.mark.parametrize(
    ("option", "right"),
    [
        ("--model.lrr=1e-4", "model.lr"),
        ("--model.init_args.warmup_iteration=1", "model.warmup_iterations"),
        ("--data.bach_size=8", "data.batch_size"),
        ("--data.augment.rotation=8", "data.augment.rotation_factor"),
        ("--trainer.max_epoch=8", "trainer.max_epochs"),
        ("--wandb.grup=x", "wandb.group"),
        ("--seed_everithing=1", "seed_everything"),
        ("--model.codec.sigm=1", "model.codec.sigma"),
    ],
)
def test_a_misspelt_option_names_the_nearest_right_one(option: str, right: str) -> None:
    with pytest.raises(InputError, match=rf"Did you mean {right}\?"):
        FitCLI([option])


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("model: {init_args: {lrr: 1e-4}}", "model.lr"),
        ("model: {class_path: ResNet, init_args: {dept: 50}}", "model.depth"),
        ("data: {bach_size: 4}", "data.batch_size"),
        ("trainer: {max_epoch: 4}", "trainer.max_epochs"),
        ("data: {augment: {flip: 1}}", "data.augment.flip_probability"),
        ("traner: {max_epochs: 4}", "trainer"),
    ],
)
def test_a_misspelt_key_in_a_file_names_the_nearest_right_one(text: str, right: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"Did you mean {right}"):
        FitCLI(["--config", str(file)])


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_is_a_short_difference_under_its_question(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# Question: ")
    assert lines[0].endswith("?")
    assert any("Result:" in line for line in lines)
    assert sum(bool(line.strip()) and not line.startswith("#") for line in lines) <= 25
    said = {key for key in flatten(yaml.safe_load("\n".join(lines))) if not key.endswith("class_path")}
    assert said <= resolved("--config", str(file)).keys()


def test_the_run_is_named_after_its_configuration() -> None:
    assert FitCLI(["--config", "experiments/hrnet.yaml"]).out == Path("runs/hrnet")
    assert FitCLI(["--config", "experiments/hrnet.yaml", "--out", "x/y"]).out == Path("x/y")
