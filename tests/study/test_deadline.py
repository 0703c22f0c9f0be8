"""How long a trial will take, and whether it can end in time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from catpose.study.deadline import START_S, part_of, time_of, too_long
from catpose.study.space import Configuration
from catpose.study.stored import Outcome
from catpose.study.trial import Trial


def trial(label: str | None, state: str = "waiting", seconds: float | None = None) -> Trial:
    configuration = None if label is None else Configuration(label, {"x": label}, ())
    return Trial(0, 0, configuration, state, outcome=None if seconds is None else Outcome(seconds=seconds))


def test_a_finished_trial_tells_more_than_a_first_step() -> None:
    done = [trial("a", "complete", 50), trial("a", "complete", 70), trial("b", "pruned", 5)]
    seconds = time_of({"a": 600, "b": 300}, done, lambda _: 0.0)
    assert seconds(trial("a")) == 60 + START_S
    assert seconds(trial("b")) == 300 + START_S
    assert seconds(trial(None)) == 300 + START_S  # whichever a sampler will choose
    assert time_of({}, [], lambda _: 0.0)(trial("a")) == float("inf")


def test_what_is_trained_already_takes_no_time() -> None:
    assert time_of({"a": 600}, [], lambda _: 0.75)(trial("a")) == 150 + START_S
    assert time_of({}, [], lambda _: 1.0)(trial("a")) == 0


@pytest.mark.parametrize(
    ("seconds", "left", "why"),
    [
        (60, 61, ""),
        (300, 180, "since it takes about 5 min and 3 min are left"),
        (1, -5, "since it takes about 1 s and 0 s are left"),
    ],
)
def test_what_is_too_long(seconds: float, left: float, why: str) -> None:
    assert too_long(seconds, left) == why


def test_the_part_of_a_run_is_that_of_its_farthest_folder(trained: Path, tmp_path: Path) -> None:
    """Of three epochs; without a checkpoint it begins anew."""
    first = shutil.copytree(trained, tmp_path / "first")
    rows = (first / "metrics.csv").read_text().splitlines(keepends=True)
    (first / "metrics.csv").write_text("".join(rows[:2]))
    assert part_of([first]) == pytest.approx(1 / 3)
    assert part_of([first, trained, tmp_path / "none"]) == 1
    (first / "last.ckpt").unlink()
    assert part_of([first]) == part_of([]) == 0
