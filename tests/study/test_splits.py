"""Studies over random splits: which seed runs on which, what is compared with what, and what is said of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import made_up
import pytest
import yaml
from made_up_study import Trials, study
from refused import exit_code, refused, says

from catpose.analysis.report import Report, report
from catpose.analysis.sentences import sentences
from catpose.data.coco import read_split
from catpose.data.copies import pool_of
from catpose.data.resplit import resplit
from catpose.errors import InputError
from catpose.report import main as report_command
from catpose.score.protocol import Score
from catpose.study.file import Study
from catpose.study.results import Truth, design_of, resampled, truths_of
from catpose.study.runner import fit_args
from catpose.study.trial import Trial
from catpose.sweep import main as sweep

GRID = "space: {model.lr: [1e-5, 1e-4]}\nseeds: 6\nsplits: 3\n"


@pytest.fixture
def grid(tmp_path: Path) -> Study:
    return study(tmp_path, GRID)


@pytest.fixture
def truths(grid: Study, tmp_path: Path) -> list[Truth]:
    root = made_up.data_set(tmp_path / "cats", (24, 12, 1))
    return truths_of(resplit(root, grid.splits, tmp_path / "out" / "divisions"), "box")


def trials_of(study: Study, truths: list[Truth]) -> Trials:
    return Trials([truth.split for truth in truths], study.configurations, study.seeds, (8.0, 3.0))


def reported(study: Study, truths: list[Truth], trials: Trials) -> Report:
    design = design_of(study)
    return report(design, resampled(design, trials.trials, trials.results, truths))


def test_seed_i_runs_on_split_i_mod_n(grid: Study) -> None:
    trial = Trial(0, 4, grid.configurations[0], "waiting", number=1)
    args = fit_args(grid, "a", trial, Path("out") / "trials" / "x")
    assert "--data.root=out/divisions/1" in args
    assert "--seed_everything=4" in args
    without = dataclasses.replace(grid, splits=0)
    assert not [arg for arg in fit_args(without, "a", trial, Path("out")) if arg.startswith("--data.root")]


def test_splits_are_compared_in_pairs_and_taken_apart(grid: Study, truths: list[Truth]) -> None:
    out = reported(grid, truths, trials_of(grid, truths))
    assert [each.division.number for each in out.rows[0].configuration.evaluations if each.division] == [0, 1, 2] * 2
    difference = out.rows[1].difference
    assert difference is not None
    assert difference.df == 2
    assert out.components is not None
    assert out.components.seed is not None
    assert out.corrected is out.detectable is None
    said = " ".join(sentences(out))
    assert "lr 0.0001 is better than the reference lr 1e-05 over random splits of these pictures: +0." in said
    assert "% comes with the images that it is scored on" in said
    assert "this training set" not in said
    assert "random splits of train and val (sha256 " in said


def test_a_trial_of_another_split_or_pool_is_never_among_them(grid: Study, truths: list[Truth]) -> None:
    for pool in ("", "another"):
        trials = trials_of(grid, truths)
        outcome = trials.trials[3].outcome
        assert outcome is not None
        trials.change(*trials.trials[3].key, outcome={"protocol": outcome.protocol | {"pool": pool}})
        with pytest.raises(InputError, match="different protocols"):
            reported(grid, truths, trials)
    trials = trials_of(grid, [truths[1], truths[0], truths[2]])
    with pytest.raises(InputError, match="is not what this study's trials were scored on"):
        reported(grid, truths, trials)


@pytest.mark.slow
def test_a_small_study_over_splits(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "splits.yaml", tmp_path / "out"
    content = {
        "experiment": str(tiny),
        "settings": {"trainer.max_epochs": 1, "wandb.mode": "disabled"},
        "space": {"model.lr": [1e-9, 5e-3]},
        "seeds": 2,
        "splits": 2,
    }
    file.write_text(yaml.safe_dump(content))
    assert exit_code(sweep, "--config", file, "--out", out) == 0
    assert "random splits" in capsys.readouterr().out
    runs = sorted((out / "trials").glob("*-seed*"))
    assert len(runs) == 4
    for run in runs:
        division = out / "divisions" / run.name[-1]
        assert yaml.safe_load((run / "config.yaml").read_text())["data"]["root"] == str(division)
        assert Score.read(run / "val_score.json").protocol.pool == pool_of(read_split(division, "val"))
    assert exit_code(sweep, "--config", file, "--out", out, "--final") == 0
    assert json.loads((out / "final" / "final.json").read_text())["seeds"] == [0, 1]
    assert exit_code(report_command, out, "--out", tmp_path / "page") == 0
    assert "scored on 2 random splits of the training" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    file.write_text(yaml.safe_dump(content | {"splits": 3, "seeds": 3}))
    says(refused(sweep, ["--config", file, "--out", out], capsys, out), "splits 2 → 3", "--name")
