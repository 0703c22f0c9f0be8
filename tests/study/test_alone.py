"""One command for experiments and studies in an order: what is done stays done, elsewhere too; in time, and killed."""

from __future__ import annotations

import csv
import functools
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from refused import exit_code, refused, says

from catpose.run.directory import RunDirectory
from catpose.study import alone
from catpose.study.alone import is_experiment, run_experiment
from catpose.sweep import main

sweep = functools.partial(exit_code, main)
OPTIONS: dict[str, Any] = {"imports": [], "results": None, "mixed_versions": False, "dry_run": False}


@pytest.fixture
def study(tiny: Path, tmp_path: Path) -> Path:
    file = tmp_path / "rate.yaml"
    file.write_text(f"experiment: {tiny}\nsettings: {{wandb.mode: disabled}}\nspace: {{model.lr: [1e-3, 2e-3]}}\n")
    return file


def test_an_experiment_is_told_from_a_study(tiny: Path, study: Path) -> None:
    assert is_experiment(tiny)
    assert not is_experiment(study)


@pytest.mark.slow
def test_what_is_done_is_taken_as_done_elsewhere(
    tiny: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--config", tiny, study, "--results", tmp_path / "results", "--wandb.mode=disabled")
    assert sweep(*asked, "--out", tmp_path / "here") == 0
    first = capsys.readouterr().out
    assert first.count("python -m catpose.fit ") == 3
    kept = sorted(str(path.parent.relative_to(tmp_path / "results")) for path in tmp_path.glob("results/**/run.json"))
    assert kept == ["rate/000-0.001-seed0", "rate/001-0.002-seed0", "tiny"]
    assert sweep(*asked, "--out", tmp_path / "there", "--dry-run") == 0
    said = capsys.readouterr().out
    assert f"experiment tiny: is kept in {tmp_path / 'results' / 'tiny'}" in said
    assert "study rate: 2 configurations with 1 seeds are 2 trials, all of which are kept" in said
    assert sweep(*asked, "--out", tmp_path / "there") == 0
    said = capsys.readouterr().out
    assert "python -m catpose.fit " not in said
    assert said.count("finished, taken as it is") == 3
    reports = [(tmp_path / place / "rate" / "report.csv").read_text() for place in ("here", "there")]
    assert reports[0] == reports[1]
    assert not list((tmp_path / "there").rglob("*.ckpt"))
    assert sweep(*asked, "--out", tmp_path / "there") == 0
    assert "experiment tiny: has all its epochs" in capsys.readouterr().out
    here = tmp_path / "here" / "tiny"
    (here / "complexity.json").unlink()  # killed after its last row, while its last checkpoint was written
    begun: list[str] = []
    monkeypatch.setattr(alone, "_train", lambda title, *_: begun.append(title))
    run_experiment(tiny, ["--wandb.mode=disabled"], here, Namespace(**OPTIONS), None)
    assert begun == ["experiment tiny"]


@pytest.mark.slow
def test_a_killed_one_goes_on(tiny: Path, study: Path, tmp_path: Path) -> None:
    asked = [*map(str, (tiny, study, "--results", tmp_path / "results", "--out", tmp_path / "out"))]
    command = [sys.executable, "-m", "catpose.sweep", "--wandb.mode=disabled", "--config", *asked]
    run = RunDirectory(tmp_path / "out" / "tiny")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        while not run.last.exists():
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    assert [row["epoch"] for row in run.history()] == ["0", "1"]
    with (tmp_path / "out" / "rate" / "report.csv").open(newline="") as rows:
        assert len([*csv.DictReader(rows)]) == 2
    assert (tmp_path / "results" / "tiny" / "run.json").exists()


def test_nothing_is_begun_once_the_time_is_over(
    tiny: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This process is older than a tenth of a second."""
    assert sweep("--config", tiny, study, "--out", tmp_path / "out", "--time-limit", "0.1s") == 0
    assert capsys.readouterr().out.count("not begun, since the time is over") == 2
    assert not (tmp_path / "out").exists()


def test_what_cannot_end_in_time_is_not_begun(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "answers", lambda *_: [{"epoch_s": 1000.0, "steps": 3}])
    run_experiment(tiny, [], tmp_path / "out", Namespace(**OPTIONS), time.monotonic() + 600)
    assert "experiment tiny: not begun, since it takes about 34 min and 10 min are left" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_still_runs_when_the_time_is_over_is_stopped(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "answers", lambda *_: [{"epoch_s": 0.0, "steps": 3}])
    options = Namespace(**OPTIONS | {"results": tmp_path / "results"})
    endless = ["--trainer.max_epochs=100000", "--wandb.mode=disabled"]
    run_experiment(tiny, endless, tmp_path / "out", options, time.monotonic() + alone.START_S + 10)
    assert "experiment tiny: stopped; the same command goes on" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("asked", ["--report", "--final"])
def test_an_experiment_is_said_to_have_no_report(
    asked: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--config", str(tiny), "--out", str(tmp_path / "out"), asked])
    assert "experiment tiny: left out, since only studies have a report" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--time-limit", "soon"], ["--time-limit", "soon is no time", "8h"]),
        (["--name", "x"], ["--name", "one study"]),
        (["--launch", "slurm"], ["--launch", "one study"]),
        (["--config", "{tiny}", "{study}", "{tiny}"], ["tiny.yaml", "another is called tiny"]),
        (["--config", "{study}", "none.yaml"], ["none.yaml", "no such file"]),
    ],
)
def test_bad_input(
    argv: list[str], words: list[str], tiny: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.format(tiny=tiny, study=study) for each in argv]
    says(refused(main, ["--config", tiny, study, "--out", tmp_path / "out", *given], capsys, tmp_path), *words)
