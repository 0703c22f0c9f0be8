from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from catpose.data import coco
from catpose.errors import InputError
from catpose.files import read_json
from catpose.plain_yaml import flatten
from catpose.run.cli import FitCLI
from catpose.run.directory import RunDirectory
from catpose.run.training import sound_data

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = sorted((REPOSITORY / "experiments").glob("*.yaml"))


def resolved(*argv: str) -> dict:
    return flatten(FitCLI(list(argv)).resolved())


def test_the_defaults_are_the_published_best_settings() -> None:
    settings = resolved()
    expected = {
        "model.class_path": "catpose.model.backbones.hrnet.HRNet",
        "model.width": 32,
        "model.optimizer": "adam",
        "model.lr": 1e-4,
        "model.warmup_iterations": 500,
        "model.warmup_ratio": 0.001,
        "model.milestones": [170, 200],
        "model.codec.class_path": "catpose.model.codec.MSRAHeatmap",
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


@pytest.mark.one_in(4)
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


@pytest.mark.one_in(4)
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


@pytest.mark.one_in(4)
@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_is_a_short_difference_under_its_question(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# Question: ")
    assert lines[0].endswith("?")
    assert any("Result:" in line for line in lines)
    assert sum(bool(line.strip()) and not line.startswith("#") for line in lines) <= 25
    said = {key for key in flatten(yaml.safe_load("\n".join(lines))) if not key.endswith("class_path")}
    assert said <= resolved("--config", str(file)).keys()


SMALL = ("--model=MobileNetV2", "--model.weights=null", "--data.input_size=[32, 32]", "--wandb.mode=disabled")
NUMBERS_OF_BATCHES = (
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    "val_check_interval",
)


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        ("--trainer.{}={}", NUMBERS_OF_BATCHES),
        ("--config x.yaml", NUMBERS_OF_BATCHES),
        pytest.param("--trainer.{} {}", NUMBERS_OF_BATCHES, marks=pytest.mark.slow),
        pytest.param("--trainer.{}={}", ("overfit_batches",), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("value", ["1", "1.0"])
def test_a_whole_number_of_batches_is_no_part_of_them(
    keys: tuple[str, ...], form: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning takes 1 for one batch and 1.0 for all of them."""
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(yaml.safe_dump({"trainer": dict.fromkeys(keys, yaml.safe_load(value))}))
    args = [arg for key in keys for arg in form.format(key, value).split()]
    Path("config.yaml").write_text(yaml.safe_dump(FitCLI([*args, *SMALL]).resolved()))  # as a run keeps them
    cli = FitCLI(["--config", "config.yaml"])
    cli.build(RunDirectory(tmp_path / "run"), [], resume=False)
    assert {key: repr(getattr(cli.trainer, key)) for key in keys} == dict.fromkeys(keys, value)


def test_each_annotation_file_is_parsed_once(
    drawn: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what is trained on, the model's skeleton included."""
    parsed: list[str] = []
    monkeypatch.setattr(coco, "read_json", lambda file: (parsed.append(file.stem), read_json(file))[1])
    cli = FitCLI(["--config", str(tiny), "--data.cache_dir", str(tmp_path)])
    cli.splits, _ = sound_data(drawn, cli.config.data.area)
    cli.build(RunDirectory(tmp_path / "run"), [], resume=False)
    for _ in range(2):  # Lightning's `prepare_data` and `setup`
        cli.datamodule.setup("fit")
    assert sorted(parsed) == ["test", "train", "val"]
    assert (cli.datamodule.train_split, cli.datamodule.val_split) == (cli.splits["train"], cli.splits["val"])


FLIPPED = """
import sys, typing
class Other:  # a library that writes the same in its own order, just before each module that is imported
    def find_spec(name, path, target=None):
        typing.Optional[typing.Union[float, int]]
sys.meta_path.insert(0, Other)
from lightning.pytorch import Trainer
hint = typing.get_type_hints(Trainer.__init__)["limit_val_batches"]
assert typing.get_args(hint)[0] is float
from catpose.run.cli import FitCLI
keys = sys.argv[1:]
for value in ("1", "0.5", "None"):
    trainer = FitCLI([f"--trainer.{key}={value.replace('None', 'null')}" for key in keys]).config.trainer
    assert {key: repr(trainer[key]) for key in keys} == dict.fromkeys(keys, value)
"""


@pytest.mark.slow
def test_a_number_of_batches_hangs_on_no_order_of_imports() -> None:
    """typing's cache gives one library's Optional[Union[float, int]] for another's Optional[Union[int, float]]."""
    limits = [key for key in NUMBERS_OF_BATCHES if key.startswith("limit_")]
    subprocess.run([sys.executable, "-c", FLIPPED, *limits], check=True, timeout=600)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--trainer.reload_dataloaders_every_n_epochs=1", "the same throughout"),
        ("--trainer.barebones=true", "no score kept"),
        ("--trainer.val_check_interval=00:00:10:00", "by the clock"),
        ("--trainer.val_check_interval={minutes: 10}", "by the clock"),
    ],
)
def test_what_cant_be_kept_honest_is_refused(option: str, why: str, tmp_path: Path) -> None:
    cli = FitCLI([*SMALL, option])
    with pytest.raises(InputError, match=rf"^{option[2:].split('=')[0]}: .*{why}") as refused:
        cli.build(RunDirectory(tmp_path / "run"), [], resume=False)
    assert "\n" not in str(refused.value)


def test_the_run_is_named_after_its_configuration() -> None:
    assert FitCLI(["--config", "experiments/hrnet.yaml"]).out == Path("runs/hrnet")
    assert FitCLI(["--config", "experiments/hrnet.yaml", "--out", "x/y"]).out == Path("x/y")
