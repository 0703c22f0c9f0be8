"""`profile` as its user sees it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from refused import refused, says

from catpose.cost.record import read_profile
from catpose.profile import main, naturals

QUICK = ("--device", "cpu", "--seconds", "0", "--batch-sizes", "2")


@pytest.fixture(autouse=True)
def same_threads() -> object:
    """The command sets torch's threads for its own process; here others come after it."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(*words: object) -> None:
    main([str(word) for word in words])


@pytest.mark.slow
def test_a_configuration_and_a_run(
    tiny: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "cost"
    run("--config", tiny, *QUICK, "--half", "--threads", 1, "--run", trained, "--out", out)
    said = capsys.readouterr().out
    for words in (
        "TimmBackbone on cpu, 1 thread,",
        "head.final",
        "Params:",
        "waiting for data",
        "keypoints, flip test",
    ):
        assert words in said
    assert "published" in said
    profile = read_profile(out / "profile.json")
    assert profile.provenance.command[:2] == ["--config", str(tiny)]
    assert profile.cost is not None
    assert {timing.precision for timing in profile.cost.predictions} == {"float32", "bfloat16"}
    assert profile.runs[0].run == str(trained)
    figures = {"parts", "latency", "throughput", "training_step"}
    files = {f"{name}.{kind}" for name in figures for kind in ("png", "svg")} | {"profile.json"}
    assert {file.name for file in out.iterdir()} == files
    assert all(str(out / name) in said for name in files)


def test_runs_alone_measure_nothing(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--run", trained, "--run", trained, "--out", tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("run time")
    assert [file.name for file in tmp_path.iterdir()] == ["profile.json"]
    profile = read_profile(tmp_path / "profile.json")
    assert profile.cost is None
    assert len(profile.runs) == 2


@pytest.mark.slow
def test_any_setting_of_fit_may_follow(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skip = ("--skip", "training", "--skip", "predictions")
    run("--config", tiny, *skip, "--data.input_size", "[96, 64]", "--model.head_channels=8", "--device", "cpu")
    out = capsys.readouterr().out
    assert "Input shape: (1, 3, 64, 96)" in out
    told = (line.partition("catpose.profile: ") for line in out.splitlines())
    lines = [line for before, prefix, line in told if prefix and not before]
    assert lines[0] == "loading torch"  # what is slow is told before it begins
    assert re.fullmatch(r"[\d.]+ [kM] parameters, [\d.]+ [MG] multiply–adds", lines[-1])


@pytest.mark.slow
def test_a_run_s_own_settings_are_a_configuration(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--config", trained / "config.yaml", *QUICK, "--skip", "training")
    assert "FeaturePyramid on cpu" in capsys.readouterr().out


@pytest.mark.slow
def test_made_up_crops_are_told(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--config", tiny, *QUICK, "--skip", "predictions", "--data.root", tmp_path / "none")
    said = " ".join(capsys.readouterr().out.split())
    assert "made-up crops, none waited for" in said
    assert "waiting for data" not in said


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--device", "cdua"], ("device cdua", "Did you mean cuda?")),
        (["--device", "cuda:99"], ("device cuda:99", "which has cpu")),
        (["--config", "HERE/none.yaml"], ("HERE/none.yaml",)),
        (["--run", "HERE"], ("--run HERE", "metrics.csv")),
        (["--run", "HERE/none"], ("--run HERE/none", "metrics.csv")),
        (["--batch-sizes", "1,two"], ("--batch-sizes", "two", "whole number")),
        (["--batch-sizes", "0"], ("--batch-sizes", "0", "whole number")),
        (["--batch-sizes", "1,-2"], ("--batch-sizes", "-2", "whole number")),
        (["--batch-sizes", ""], ("--batch-sizes", "whole number")),
        (["--seconds", "-1"], ("--seconds", "-1")),
        (["--seconds", "nan"], ("--seconds", "nan")),
        (["--threads", "0"], ("--threads", "0")),
        (["--skip", "everything"], ("--skip", "everything")),
        (["--sekonds", "1"], ("--sekonds", "Did you mean --seconds?")),
        (["--model.lrr", "1"], ("model.lrr", "Did you mean model.lr?")),
        (["--data.input_size", "[100,100]"], ("data.input_size", "multiples of 32")),
        (["--out", "HERE/file"], ("--out", "HERE/file", "is a file")),
        (["word"], ("word",)),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], expected: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("somebody's")
    line = refused(main, [word.replace("HERE", str(tmp_path)) for word in words], capsys, tmp_path)
    says(line, *expected)


@pytest.mark.slow
def test_a_data_folder_that_is_there_must_be_one(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(main, ["--config", tiny, *QUICK, "--data.root", tmp_path], capsys, tmp_path)
    says(line, "HERE", "annotations")


def test_sizes_are_put_in_order() -> None:
    assert naturals("8, 1,2,1") == [1, 2, 8]
