"""`fit` as its user sees it: what it prints and leaves, its help, and a run made again from its own config.yaml."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import pytest
import yaml
from refused import exit_code

from catpose.data.coco import read_split
from catpose.fit import main

fit = functools.partial(exit_code, main)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(run: Path) -> list[dict[str, str]]:
    """The rows of a run without its times."""
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows(run)]


def test_the_closing_table_is_the_last_row_and_names_the_best(trained: Path) -> None:
    stdout = (trained.parent / "stdout").read_text()
    printed = dict(line.split() for line in stdout.splitlines() if len(line.split()) == 2)
    last = {name.removeprefix("val/").removeprefix("AP/"): value for name, value in rows(trained)[-1].items()}
    assert len(printed.keys() & last.keys()) >= 21
    for name in printed.keys() & last.keys():
        assert float(printed[name]) == pytest.approx(float(last[name]), abs=5.1e-5, rel=5.1e-4), name
    best = max(rows(trained), key=lambda row: float(row["val/AP"]))
    assert f"best val/AP {float(best['val/AP']):.4f} in epoch {best['epoch']}, step {best['step']}\n" in stdout


def test_it_says_what_it_trains_on(trained: Path, drawn: Path) -> None:
    lines = (trained.parent / "stdout").read_text().splitlines()
    train = read_split(drawn, "train")
    assert f"catpose.fit: train: {len(train.images)} images, {len(train)} instances" in lines
    val = read_split(drawn, "val")
    assert f"catpose.fit: val: {len(val.images)} images, {len(val)} instances" in lines


def test_every_file_of_the_run_is_named_and_there(trained: Path) -> None:
    stdout = (trained.parent / "stdout").read_text()
    files = {str(file) for file in trained.rglob("*") if file.is_file()}
    named = {line.split("  ")[1] for line in stdout.split("files:\n")[1].splitlines()}
    assert named == files
    assert {Path(name).name for name in named} == {
        "config.yaml", "run.json", "metrics.csv", "log.txt", "best.ckpt", "last.ckpt", "val_results.json",
        "val_score.json", "complexity.json",
    }  # fmt: skip


@pytest.mark.slow
def test_a_runs_own_config_makes_the_run_again(tiny: Path, tmp_path: Path) -> None:
    options = ("--wandb.mode=disabled", "--seed_everything=7", "--trainer.max_epochs=2")
    assert fit("--config", tiny, "--out", tmp_path / "first", *options) == 0
    assert fit("--config", tmp_path / "first" / "config.yaml", "--out", tmp_path / "again") == 0
    assert numbers(tmp_path / "again") == numbers(tmp_path / "first")
    assert (tmp_path / "again" / "config.yaml").read_text() == (tmp_path / "first" / "config.yaml").read_text()
    assert fit("--config", tiny, "--out", tmp_path / "other", *options, "--seed_everything=8") == 0
    assert numbers(tmp_path / "other") != numbers(tmp_path / "first")


def test_print_config_shows_what_would_be_run_and_runs_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fit("--config", tiny, "--model.lr", "3e-4", "--print_config") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["init_args"]["lr"] == 3e-4
    assert shown["data"]["input_size"] == [64, 64]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        (["--model.help", "HRNet"], ["--model.width", "--model.lr", "--model.codec"]),
        (["--model.help", "catpose.model.backbones.pyramid.FeaturePyramid"], ["--model.name", "--model.head_channels"]),
        (["--help"], ["--data.root", "--data.augment.rotation_factor", "--trainer.devices", "--wandb.group", "--out"]),
    ],
)
def test_help_lists_the_settings(option: list[str], shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(*option) == 0
    text = capsys.readouterr().out
    assert [name for name in shown if name not in text] == []


def test_without_data_the_one_line_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fit("--model.weights", "null") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "data/cats" in error
    assert "python -m catpose.prepare" in error
    assert list(tmp_path.iterdir()) == []
