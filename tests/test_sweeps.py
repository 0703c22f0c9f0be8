"""Every study is a test case: read, understood by `fit`, and its first configuration trained for two steps."""

from __future__ import annotations

import csv
import functools
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml

from catpose.fit import main
from catpose.plain_yaml import flatten
from catpose.run.cli import FitCLI
from catpose.study.file import Study, read_study
from catpose.study.space import Configuration, Range

REPOSITORY = Path(__file__).parents[1]
SWEEPS = sorted(file for folder in ("sweeps", "sweeps/laptop") for file in (REPOSITORY / folder).glob("*.yaml"))


def name_of(file: Path) -> str:
    """A study's, below sweeps/."""
    return file.relative_to(REPOSITORY / "sweeps").with_suffix("").as_posix()


every_study = pytest.mark.parametrize("file", SWEEPS, ids=name_of)
#: The others have many configurations, each of which `fit` takes tenths of a second to read, or train a ResNet-50.
QUICK = ("quick",)


def quick_ones(files: Sequence[Path]) -> pytest.MarkDecorator:
    """A case for each study, slow but for the quick ones."""
    marks = [[] if name_of(file) in QUICK else [pytest.mark.slow] for file in files]
    cases = [pytest.param(file, id=name_of(file), marks=each) for file, each in zip(files, marks, strict=True)]
    return pytest.mark.parametrize("file", cases)


each_study = quick_ones(SWEEPS)

SHORT = [
    *("--trainer.limit_train_batches=2", "--data.batch_size=2"),
    *("--model.weights=null", "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--wandb.mode=disabled"),
    *("--trainer.max_steps=-1", "--trainer.val_check_interval=1.0", "--trainer.check_val_every_n_epoch=1"),
    "--data.train_images=null",
    *("--trainer.enable_progress_bar=false", "--data.cache=off", "--data.input_size=[64, 64]"),
]


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A run's folder, removed at once: checkpoints of all studies together are gigabytes."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path)


def resolved(args: Sequence[str]) -> dict[str, Any]:
    """Every setting of a command line, by its dotted name."""
    return _resolved(tuple(args))


@functools.cache
def _resolved(args: tuple[str, ...]) -> dict[str, Any]:
    return flatten(FitCLI([*args]).resolved())


def configurations(study: Study) -> list[Configuration]:
    """All of a grid; of a sampled space both ends, and each choice in turn."""
    if study.space.is_grid:
        return study.space.configurations()
    low = {d.name: d.low if isinstance(d, Range) else next(iter(d.options)) for d in study.space.dimensions}
    high = {d.name: d.high if isinstance(d, Range) else next(iter(d.options)) for d in study.space.dimensions}
    choices = [(d.name, option) for d in study.space.dimensions if not isinstance(d, Range) for option in d.options]
    return [
        study.space.configuration(params) for params in (low, high, *(low | {name: option} for name, option in choices))
    ]


def settings_of(args: Sequence[str]) -> dict[str, Any]:
    """Arguments of a command line as settings and values, classes under `class_path`."""
    pairs = [arg.removeprefix("--").split("=", 1) for arg in args]
    named = {key + ".class_path" * (key in ("model", "model.codec")): value for key, value in pairs}
    return {key: plain(value) for key, value in named.items()}


def plain(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


@every_study
def test_a_study_is_a_short_difference_under_its_question(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    comments = " ".join(line for line in lines if line.startswith("#"))
    heads = ["# Question: ", "# Published: ", "# Cost: ", "# Result: "]
    assert [head for line in lines for head in heads if line.startswith(head)] == heads
    assert "? # Published" in comments
    assert comments.endswith(("see RESULTS.md.", "not run yet."))
    assert lines[0] == f"# Question: {read_study(file).question}"
    space = read_study(file).space
    assert sum(bool(line.strip()) and not line.startswith("#") for line in lines) <= (15 if space.is_grid else 20)


@each_study
def test_each_configuration_says_to_fit_what_it_means(file: Path) -> None:
    study = read_study(file)
    shared = resolved(["--config", str(study.experiment), *study.settings])
    for each in configurations(study):
        settings = resolved(study.args(each, seed=3))
        expected = settings_of([*study.settings, *each.args])
        for key, value in expected.items():
            if key.endswith("class_path"):
                assert settings[key].split(".")[-1] == value, (each.label, key)
            elif key == "trainer.callbacks":  # as resolved, with all arguments
                for own, resolved_one in zip(value, settings[key], strict=True):
                    assert resolved_one["class_path"].endswith(f".{own['class_path']}")
                    assert own["init_args"].items() <= resolved_one["init_args"].items()
            else:
                assert settings[key] == (pytest.approx(value) if isinstance(value, float) else value)
        assert settings["seed_everything"] == 3
        rest = (settings.keys() & shared.keys()) - expected.keys() - {"seed_everything"}
        changed = {key for key in rest if settings[key] != shared[key]}
        assert changed <= {"model.head_channels"}, each.label  # which other networks have others of


@each_study
def test_the_configurations_differ_and_each_has_its_published_number_or_none(file: Path) -> None:
    study = read_study(file)
    if study.space.is_grid:
        assert len(study.published) == len(study.configurations)
        assert all(number is None or 0 < number < 1 for number in study.published)
        assert study.reference in {None, *(each.label for each in study.configurations if each)}
    else:
        assert study.published == ()
    settings = [resolved(study.args(each, seed=3)) for each in configurations(study)]
    distinct = {yaml.safe_dump(each) for each in settings}
    repeated = 0 if study.space.is_grid else sum(not isinstance(d, Range) for d in study.space.dimensions)
    assert len(distinct) == len(settings) - repeated  # first choices, once in each turn


@each_study
def test_a_learning_rate_belongs_to_the_batch_it_is_used_with(file: Path) -> None:
    """Else `fit` says in every trial that the two differ; where the batch itself is searched, the rate is too."""
    study = read_study(file)
    if "model.lr" not in study.space.keys or "data.batch_size" not in study.space.keys:
        for each in configurations(study):
            settings = resolved(study.args(each, seed=3))
            assert settings["data.batch_size"] == settings["model.global_batch_size"]


@each_study
def test_steps_of_the_learning_rate_come_before_the_end(file: Path) -> None:
    study = read_study(file)
    for each in configurations(study):
        settings = resolved(study.args(each, seed=3))
        if settings["model.schedule"] == "multistep":
            last = settings["model.milestones"][-1]  # a float is a part of the run
            assert last < (1 if isinstance(last, float) else settings["trainer.max_epochs"]), each.label


@every_study
def test_the_published_studies_are_there_with_the_report_s_numbers(file: Path) -> None:
    """From the report's tables, by setting; a number that it prints for a configuration is in its place."""
    study = read_study(file)
    numbers = dict(zip((each.label for each in study.configurations if each), study.published, strict=True))
    printed = {label: number for label, number in numbers.items() if number is not None}
    assert printed == PUBLISHED.get(name_of(file), {})


PUBLISHED = {
    "learning_rate": {"1e-05": 0.153, "0.0001": 0.488, "0.0005": 0.228},
    "batch_size": {"8": 0.172, "10": 0.167, "16": 0.155, "64": 0.153},
    "epochs": {"50": 0.536, "210": 0.6},
    "warmup": {"10, steps 10/15": 0.502, "500, steps 170/200": 0.506},
    "input_size": {"192x256": 0.527},
    "architecture": {"ResNet-50": 0.153, "ResNeSt-50": 0.488, "HRNet-w32": 0.536},
    "depth": {"ResNeSt-50": 0.527, "ResNeSt-101": 0.6, "ResNet-152": 0.637},
    "augmentation": {"10/0.2": 0.488, "40/0.5": 0.502},
    "pretraining": {"human pose": 0.67},
    "optimizer": {"Adam 1e-4": 0.666, "Adamax 5e-4": 0.673},
}


def test_none_is_missing() -> None:
    beyond = {"warmup_ratio", "codec", "best", "cost", "quick", "drawn", "cats"}
    assert {name_of(file) for file in SWEEPS} >= PUBLISHED.keys() | beyond
    questions = PUBLISHED.keys() - {"optimizer"}
    assert {file.stem for file in SWEEPS if file.parent.name == "laptop"} == questions


def test_no_two_share_a_name() -> None:
    names = [read_study(file).name for file in SWEEPS]
    assert len({*names}) == len(names)


@every_study
def test_its_experiment_is_found_from_anywhere(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_study(file).experiment.parent == REPOSITORY / "experiments"


def test_the_laptops_studies_are_as_small_as_they_say() -> None:
    """28 configurations at most, three seeds each, beside the report's questions at full size."""
    studies = [read_study(file) for file in SWEEPS if file.parent.name == "laptop"]
    assert sum(len(configurations(study)) for study in studies) <= 28
    assert all(study.seeds == (0, 1, 2) for study in studies)


@each_study
def test_its_networks_exist_and_have_weights_of_imagenet(file: Path) -> None:
    study = read_study(file)
    for each in configurations(study):
        settings = resolved(study.args(each, seed=3))
        name = settings.get("model.name")
        if name and settings["model.weights"] == "imagenet":
            assert name in timm.list_pretrained(), name


# The laptop's have the same first network.
@quick_ones([file for file in SWEEPS if file.parent.name != "laptop" or name_of(file) in QUICK])
def test_its_first_trial_trains(file: Path, drawn: Path, out: Path) -> None:
    study = read_study(file)
    args = study.args(study.space.samples()[0], study.seeds[0])
    main([*args, "--data.root", str(drawn), "--out", str(out), *SHORT])
    with (out / "metrics.csv").open(newline="") as metrics:
        (row,) = csv.DictReader(metrics)
    assert row["step"] == "2"
    assert all(0 < float(row[name]) < math.inf for name in ("train/loss", "val/loss"))
    assert set(study.metrics) <= row.keys() | {"GMACs", "params_M", "latency_ms"}
