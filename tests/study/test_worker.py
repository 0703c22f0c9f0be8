"""The loop of claiming, following and delivering, with trials that take no time; and with a database that goes away."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from catpose.errors import InputError
from catpose.study.file import Study, read_study
from catpose.study.ledger import Ledger, Trial
from catpose.study.running import made_by_optuna
from catpose.study.storage import open_engine, open_study
from catpose.study.trial import Ended
from catpose.study.worker import Crew, OnEpoch, Told

REPOSITORY = Path(__file__).parents[2]
GRID = "experiment: experiments/quickstart.yaml\nspace: {model.lr: [1, 2, 3, 4]}\nseeds: 2\ngrace: 1\n"
SAMPLED = (
    "experiment: experiments/quickstart.yaml\nspace: {model.lr: {low: 0.0, high: 1.0}}\ntrials: 8\nseeds: 2\ngrace: 1\n"
)


class Bench:
    """A study on SQLite, of which each trial's runner is a function."""

    def __init__(self, folder: Path, text: str) -> None:
        file = folder / "study.yaml"
        file.write_text(text)
        self.study: Study = read_study(file)
        self.url = f"sqlite:///{folder}/study.db"
        self.said: list[str] = []
        self.ran: list[tuple[int, int]] = []
        self.ledger = Ledger(open_engine(self.url), self.study.name, self.study.grace)
        self.ledger.plan(self.study.points, self.study.seeds)

    def crew(self, run: object = None) -> Crew:
        sampler, pruner = (made_by_optuna(self.study, what) for what in ("sampler", "pruner"))
        self.record = open_study(self.url, self.study.name, [*self.study.metrics.values()], sampler, pruner)
        return Crew(self.study, self.ledger, self.record, run or self.run, self.said.append)  # type: ignore[arg-type]

    def run(self, trial: Trial, index: int, on_epoch: OnEpoch, told: Told) -> Ended:
        assert trial.arm is not None
        self.ran.append((trial.point, trial.seed))
        for epoch in range(4):
            if on_epoch(epoch, figure(trial)):
                return Ended("pruned", outcome(trial, epoch + 1), b"")
        return Ended("complete", outcome(trial), b"results")

    def states(self) -> Counter[str]:
        return Counter(trial.state for trial in self.ledger.trials())

    def rows(self, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
        return self.record.get_trials(states=states or None)


def figure(trial: Trial) -> float:
    assert trial.arm is not None
    return float(trial.arm["params"]["model.lr"]) + trial.seed / 100


def outcome(trial: Trial, epochs: int = 4) -> dict[str, object]:
    values = {"val/AP": figure(trial)}
    return {"values": values, "best_ap": 1.0, "best_epoch": 0, "epochs": epochs, "seconds": 1.0, "reason": None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(REPOSITORY)
    return tmp_path


def test_every_trial_is_run_once_seed_by_seed(folder: Path) -> None:
    bench = Bench(folder, GRID)
    bench.crew().work()
    assert bench.ran == [(point, seed) for seed in range(2) for point in range(4)]
    assert bench.states() == {"complete": 8}
    rows = bench.rows(TrialState.COMPLETE)
    assert [row.value for row in rows] == [1, 2, 3, 4, 1.01, 2.01, 3.01, 4.01]
    assert [row.params for row in rows[:2]] == [{"model.lr": 1}, {"model.lr": 2}]
    assert rows[0].intermediate_values == dict.fromkeys(range(4), 1.0)
    assert bench.ledger.results(0, 0) == b"results"
    bench.crew().work()
    assert len(bench.ran) == 8
    assert len(bench.rows()) == 8


def test_several_threads_run_every_trial_once(folder: Path) -> None:
    bench = Bench(folder, GRID)
    bench.crew().work(4)
    assert sorted(bench.ran) == [(point, seed) for point in range(4) for seed in range(2)]
    assert bench.states() == {"complete": 8}
    assert len(bench.rows()) == 8


def test_a_sampled_studys_seeds_share_their_point(folder: Path) -> None:
    bench = Bench(folder, SAMPLED)
    bench.crew().work(3)
    trials = bench.ledger.trials()
    assert bench.states() == {"complete": 16}
    arms = {trial.point: trial.arm for trial in trials}
    assert all(trial.arm == arms[trial.point] for trial in trials)
    assert len({str(arm) for arm in arms.values()}) == 8
    for row in bench.rows(TrialState.COMPLETE):
        arm = arms[row.user_attrs["point"]]
        assert arm is not None
        assert row.params == arm["params"]


def test_settings_that_a_sampler_proposes_again_are_not_run_again(folder: Path) -> None:
    text = SAMPLED.replace("{low: 0.0, high: 1.0}", "[1, 2]") + "sampler: {name: RandomSampler, seed: 0}\n"
    bench = Bench(folder, text)
    bench.crew().work()
    assert Counter(bench.ran).most_common(1)[0][1] == 1
    assert bench.states() == {"complete": 4, "failed": 12}
    reasons = {trial.outcome["reason"] for trial in bench.ledger.trials() if trial.state == "failed" and trial.outcome}
    assert all(reason.startswith("the same settings and seed as trial") for reason in reasons)
    assert len(bench.rows(TrialState.COMPLETE)) == 4


def test_a_pruner_ends_trials_that_fall_behind(folder: Path) -> None:
    bench = Bench(
        folder, GRID.replace("[1, 2, 3, 4]", "[4, 3, 2, 1]") + "pruner: {name: MedianPruner, n_startup_trials: 1}\n"
    )
    bench.crew().work()
    states = bench.states()
    assert states["complete"] >= 1
    assert states["pruned"] >= 3
    assert len(bench.rows(TrialState.PRUNED)) == states["pruned"]


def test_what_fails_is_written_down_and_the_study_goes_on(folder: Path) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, *rest: object) -> Ended:
        if trial.point == 1:
            return Ended("failed", {"reason": "CUDA out of memory"})
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.crew(run).work()
    assert bench.states() == {"complete": 6, "failed": 2}
    failed = [trial.outcome for trial in bench.ledger.trials() if trial.state == "failed"]
    assert failed == [{"reason": "CUDA out of memory"}] * 2
    assert [row.user_attrs["reason"] for row in bench.rows(TrialState.FAIL)] == ["CUDA out of memory"] * 2
    assert any("failed: CUDA out of memory" in line for line in bench.said)
    bench.ledger.retry_failed()
    bench.crew().work()
    assert bench.states() == {"complete": 8}


def test_a_training_that_vanishes_is_tried_three_times_more(folder: Path) -> None:
    bench = Bench(folder, GRID)
    starts: Counter[tuple[int, int]] = Counter()

    def run(trial: Trial, *rest: object) -> Ended:
        starts[trial.point, trial.seed] += 1
        if trial.point == 2 or (trial.point == 3 and trial.lost < 2):
            return Ended("vanished", {"reason": "its process was ended by SIGKILL"})
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.crew(run).work()
    assert bench.states() == {"complete": 6, "failed": 2}
    assert {starts[2, seed] for seed in range(2)} == {4}
    assert {starts[3, seed] for seed in range(2)} == {3}
    numbers = [trial.number for trial in bench.ledger.trials()]
    assert len(set(numbers)) == 8  # the trial keeps its number, and so its W&B run, over all its starts
    assert len(bench.rows()) == 8


def test_told_to_stop_it_gives_its_trials_back(folder: Path) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, index: int, on_epoch: OnEpoch, told: Told) -> Ended:
        while told() is None:
            time.sleep(0.01)
        return Ended("stopped", {})

    crew = bench.crew(run)
    threading.Timer(0.5, crew.stop).start()
    crew.work(2)
    assert bench.states() == {"waiting": 8}
    assert all(trial.lost == 0 for trial in bench.ledger.trials())
    bench.crew().work()
    assert bench.states() == {"complete": 8}
    assert len(bench.rows()) == 8


def test_one_that_was_taken_over_delivers_nothing(folder: Path) -> None:
    bench = Bench(folder, GRID.replace("grace: 1", "grace: 3"))
    other = Ledger(open_engine(bench.url), bench.study.name, bench.study.grace)
    ends: list[str | None] = []

    def run(trial: Trial, index: int, on_epoch: OnEpoch, told: Told) -> Ended:
        if ends:
            return bench.run(trial, index, on_epoch, told)
        taken = other._take(trial, {"machine": "elsewhere", "host": "b", "pid": 1, "started": None}, 1)
        assert taken is not None
        while told() is None:
            time.sleep(0.01)
        ends.append(told())
        assert other.finish(taken, "complete", outcome(trial), b"theirs")
        return Ended("complete", {**outcome(trial), "values": {"val/AP": 99.0}}, b"mine")

    bench.crew(run).work()
    assert ends == ["fenced"]
    assert bench.states() == {"complete": 8}
    assert bench.ledger.results(0, 0) == b"theirs"
    assert 99.0 not in [row.value for row in bench.rows(TrialState.COMPLETE)]
    assert len(bench.rows(TrialState.COMPLETE)) == 8


def test_a_time_limit_starts_no_more_trials(folder: Path) -> None:
    bench = Bench(folder, GRID + "time_limit: 3s\n")

    def run(trial: Trial, *rest: object) -> Ended:
        time.sleep(3.1)
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.crew(run).work()
    assert bench.states() == {"complete": 1, "waiting": 7}


def test_an_exception_is_its_trials_result(folder: Path) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, *rest: object) -> Ended:
        if trial.point == 0:
            raise OSError(28, "No space left on device")
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.crew(run).work()
    assert bench.states() == {"complete": 6, "failed": 2}
    assert any("No space left on device" in line for line in bench.said)


def test_two_that_are_proposed_the_same_at_once_are_run_once(folder: Path) -> None:
    text = SAMPLED.replace("{low: 0.0, high: 1.0}", "[1, 2]") + "sampler: RandomSampler\n"
    bench = Bench(folder, text.replace("trials: 8", "trials: 6"))
    bench.crew().work(6)
    done = [trial for trial in bench.ledger.trials() if trial.state == "complete" and trial.arm]
    asked = {(str(trial.arm["words"]), trial.seed) for trial in bench.ledger.trials() if trial.arm}
    assert {(str(trial.arm["words"]), trial.seed) for trial in done if trial.arm} == asked


@pytest.mark.parametrize("sampler", ["PartialFixedSampler", "NoSampler", "TPESampler, gamma: 3, x: 1"])
def test_a_sampler_that_cannot_be_used_is_said_at_once(folder: Path, sampler: str) -> None:
    bench = Bench(folder, SAMPLED + f"sampler: {{name: {sampler}}}\n")
    with pytest.raises(InputError, match="sampler"):
        bench.crew()
