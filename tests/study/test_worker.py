"""The loop of claiming, following and delivering, with trials that take no time; and with a database that goes away."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from catpose.errors import InputError
from catpose.study.deadline import Deadline
from catpose.study.file import Study, read_study
from catpose.study.ledger import Ledger
from catpose.study.outcome import Ended
from catpose.study.rows import Rows
from catpose.study.runner import OnEpoch, ShouldStop
from catpose.study.running import pruner_of, sampler_of
from catpose.study.storage import open_engine, open_storage, open_study
from catpose.study.stored import Outcome, Owner
from catpose.study.trial import Trial
from catpose.study.worker import WorkerPool, progress, shared_failure

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
        self.ran: list[tuple[int, int]] = []
        self.ledger = Ledger(open_engine(self.url), self.study.name, self.study.grace)
        self.ledger.plan(self.study.configurations, self.study.seeds)

    def pool(self, run: object = None, deadline: Deadline | None = None) -> WorkerPool:
        storage, metrics = open_storage(self.url), self.study.metrics
        sampler, pruner = sampler_of(self.study), pruner_of(self.study)
        self.record = open_study(storage, self.study.name, [*metrics.values()], sampler, pruner)
        rows = Rows(self.record, storage, self.ledger, [*metrics], self.study.space)
        each: Any = run or self.run
        return WorkerPool(self.study, self.ledger, rows, each, deadline=deadline)

    def run(self, trial: Trial, index: int, on_epoch: OnEpoch, should_stop: ShouldStop) -> Ended:
        self.ran.append(trial.key)
        for epoch in range(2):
            if on_epoch(epoch, value_of(trial)):
                return Ended("pruned", outcome(trial, epoch + 1), b"")
        return Ended("complete", outcome(trial), b"results")

    def states(self) -> Counter[str]:
        return Counter(trial.state for trial in self.ledger.trials())

    def rows(self, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
        return self.record.get_trials(states=states or None)


def value_of(trial: Trial) -> float:
    assert trial.configuration is not None
    return float(str(trial.configuration.params["model.lr"])) + trial.seed / 100


def outcome(trial: Trial, epochs: int = 4, reason: str | None = None, value: float | None = None) -> Outcome:
    values = {"val/AP": value_of(trial) if value is None else value}
    return Outcome(values=values, best_ap=1.0, best_epoch=0, epochs=epochs, seconds=1.0, reason=reason)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(REPOSITORY)
    return tmp_path


def test_every_trial_is_run_once_seed_by_seed(folder: Path) -> None:
    bench = Bench(folder, GRID)
    bench.pool().work()
    assert bench.ran == [(index, seed) for seed in range(2) for index in range(4)]
    assert bench.states() == {"complete": 8}
    rows = bench.rows(TrialState.COMPLETE)
    assert [row.value for row in rows] == [1, 2, 3, 4, 1.01, 2.01, 3.01, 4.01]
    assert [row.params for row in rows[:2]] == [{"model.lr": 1}, {"model.lr": 2}]
    assert rows[0].intermediate_values == dict.fromkeys(range(2), 1.0)
    assert bench.ledger.results(0, 0) == b"results"
    bench.pool().work()
    assert len(bench.ran) == 8
    assert len(bench.rows()) == 8


@pytest.mark.slow
def test_whenever_a_trial_has_ended_it_is_told_and_a_full_disk_stops_nothing(folder: Path) -> None:
    bench, seen = Bench(folder, GRID), []

    def ended() -> None:
        seen.append(bench.states()["complete"])
        raise InputError("no space")

    pool = bench.pool()
    pool.ended = ended
    pool.work()
    assert seen == list(range(1, 9))


@pytest.mark.slow
def test_several_threads_run_every_trial_once(folder: Path) -> None:
    bench = Bench(folder, GRID)
    bench.pool().work(4)
    assert sorted(bench.ran) == [(point, seed) for point in range(4) for seed in range(2)]
    assert bench.states() == {"complete": 8}
    assert len(bench.rows()) == 8


def test_a_sampled_studys_seeds_share_their_configuration(folder: Path) -> None:
    bench = Bench(folder, SAMPLED)
    bench.pool().work(3)
    trials = bench.ledger.trials()
    assert bench.states() == {"complete": 16}
    configurations = {trial.configuration_index: trial.configuration for trial in trials}
    assert all(trial.configuration == configurations[trial.configuration_index] for trial in trials)
    assert len({str(each) for each in configurations.values()}) == 8
    for row in bench.rows(TrialState.COMPLETE):
        configuration = configurations[row.user_attrs["point"]]
        assert configuration is not None
        assert row.params == configuration.params


@pytest.mark.slow
def test_settings_that_a_sampler_proposes_again_are_not_run_again(folder: Path) -> None:
    text = SAMPLED.replace("{low: 0.0, high: 1.0}", "[1, 2]") + "sampler: {name: RandomSampler, seed: 0}\n"
    bench = Bench(folder, text)
    bench.pool().work()
    assert Counter(bench.ran).most_common(1)[0][1] == 1
    assert bench.states() == {"complete": 4, "failed": 12}
    reasons = {trial.reason or "" for trial in bench.ledger.trials() if trial.state == "failed"}
    assert all(reason.startswith("the same settings and seed as trial") for reason in reasons)
    assert len(bench.rows(TrialState.COMPLETE)) == 4


@pytest.mark.slow
def test_a_pruner_ends_trials_that_fall_behind(folder: Path) -> None:
    bench = Bench(
        folder, GRID.replace("[1, 2, 3, 4]", "[4, 3, 2, 1]") + "pruner: {name: MedianPruner, n_startup_trials: 1}\n"
    )
    bench.pool().work()
    states = bench.states()
    assert states["complete"] >= 1
    assert states["pruned"] >= 3
    assert len(bench.rows(TrialState.PRUNED)) == states["pruned"]


def test_what_fails_is_written_down_and_the_study_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, *rest: object) -> Ended:
        if trial.configuration_index == 1:
            return Ended("failed", Outcome(reason="CUDA out of memory"))
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.pool(run).work()
    assert bench.states() == {"complete": 6, "failed": 2}
    failed = [trial.outcome for trial in bench.ledger.trials() if trial.state == "failed"]
    assert failed == [Outcome(reason="CUDA out of memory")] * 2
    assert [row.user_attrs["reason"] for row in bench.rows(TrialState.FAIL)] == ["CUDA out of memory"] * 2
    assert any("failed: CUDA out of memory" in line for line in capsys.readouterr().out.splitlines())
    bench.ledger.retry_failed()
    bench.pool().work()
    assert bench.states() == {"complete": 8}


@pytest.mark.slow
def test_what_ends_early_is_neither_complete_nor_compared_and_can_be_tried_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, *rest: object) -> Ended:
        if trial.configuration_index == 1:
            return Ended("early", outcome(trial, 2, "2 of 4 epochs"), b"results")
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.pool(run).work()
    assert bench.states() == {"complete": 6, "early": 2}
    assert [row.user_attrs["reason"] for row in bench.rows(TrialState.FAIL)] == ["2 of 4 epochs"] * 2
    assert any("ended early, with 2 of 4 epochs: val/AP 2" in line for line in capsys.readouterr().out.splitlines())
    assert bench.ledger.retry_failed() == 2
    bench.pool().work()
    assert bench.states() == {"complete": 8}


@pytest.mark.slow
def test_three_that_fail_alike_end_the_study_and_the_others_wait(folder: Path) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, *rest: object) -> Ended:
        if mended:
            return bench.run(trial, *rest)  # type: ignore[arg-type]
        where = f"out/trials/{trial.configuration_index}-seed{trial.seed}/last.ckpt"
        return Ended("failed", Outcome(reason=f"{where}: No space left on device (step {trial.configuration_index})"))

    mended: list[int] = []
    with pytest.raises(InputError, match=r"3 trials failed alike.*No space left.*--retry-failed"):
        bench.pool(run).work()
    assert bench.states() == {"failed": 3, "waiting": 5}
    with pytest.raises(InputError, match="failed alike"):  # not mended: one more is tried
        bench.pool(run).work()
    assert bench.states() == {"failed": 4, "waiting": 4}
    mended.append(1)
    bench.pool(run).work()
    assert bench.states() == {"failed": 4, "complete": 4}
    bench.ledger.retry_failed()
    bench.pool(run).work()
    assert bench.states() == {"complete": 8}


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        (["a 1", "a 2", "a 3"], "a 3"),
        (["x/1: a", "y/2: a", "z/3: a"], "z/3: a"),
        (["b", "a", "a", "a"], "a"),
        ([None, "a", "a", "a"], "a"),
        (["a", "a"], None),
        (["a", "a", "b"], None),
        (["a", "a", None, "a"], None),
        (["a", "a", "a", None], None),
        ([], None),
    ],
)
def test_what_failing_alike_means(ends: list[str | None], reason: str | None) -> None:
    trials = [
        Trial(n, 0, None, "complete" if end is None else "failed", number=n, outcome=Outcome(reason=end))
        for n, end in enumerate(ends)
    ]
    assert shared_failure(trials) == reason
    assert shared_failure(trials[::-1]) == reason, "by when they began"
    twin = Trial(99, 0, None, "failed", number=99, outcome=Outcome(reason="the same as trial 1", same_as=1))
    assert shared_failure([*trials, twin]) == reason


@pytest.mark.slow
def test_a_training_that_vanishes_is_tried_three_times_more(folder: Path) -> None:
    bench = Bench(folder, GRID)
    starts: Counter[tuple[int, int]] = Counter()

    def run(trial: Trial, *rest: object) -> Ended:
        starts[trial.key] += 1
        if trial.configuration_index == 2 or (trial.configuration_index == 3 and trial.lost_attempts < 2):
            return Ended("vanished", Outcome(reason="its process was ended by SIGKILL"))
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.pool(run).work()
    assert bench.states() == {"complete": 6, "failed": 2}
    assert {starts[2, seed] for seed in range(2)} == {4}
    assert {starts[3, seed] for seed in range(2)} == {3}
    numbers = [trial.number for trial in bench.ledger.trials()]
    assert len(set(numbers)) == 8  # the trial keeps its number, and so its W&B run, over all its starts
    assert len(bench.rows()) == 8


@pytest.mark.slow
def test_a_pool_that_is_to_stop_gives_its_trials_back(folder: Path) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, index: int, on_epoch: OnEpoch, should_stop: ShouldStop) -> Ended:
        while should_stop() is None:
            time.sleep(0.01)
        return Ended("stopped", Outcome())

    pool = bench.pool(run)
    threading.Timer(0.5, pool.stop).start()
    pool.work(2)
    assert bench.states() == {"waiting": 8}
    assert all(trial.lost_attempts == 0 for trial in bench.ledger.trials())
    bench.pool().work()
    assert bench.states() == {"complete": 8}
    assert len(bench.rows()) == 8


@pytest.mark.slow
def test_one_that_was_taken_over_delivers_nothing(folder: Path) -> None:
    bench = Bench(folder, GRID.replace("grace: 1", "grace: 12"))
    other = Ledger(open_engine(bench.url), bench.study.name, bench.study.grace)
    ends: list[str | None] = []

    def run(trial: Trial, index: int, on_epoch: OnEpoch, should_stop: ShouldStop) -> Ended:
        if ends:
            return bench.run(trial, index, on_epoch, should_stop)
        taken = other._take(trial, Owner(machine="elsewhere", pid=1), 1)
        assert taken is not None
        while should_stop() is None:
            time.sleep(0.01)
        ends.append(should_stop())
        assert other.finish(taken, "complete", outcome(trial), b"theirs")
        return Ended("complete", outcome(trial, value=99.0), b"mine")

    bench.pool(run).work()
    assert ends == ["fenced"]
    assert bench.states() == {"complete": 8}
    assert bench.ledger.results(0, 0) == b"theirs"
    assert 99.0 not in [row.value for row in bench.rows(TrialState.COMPLETE)]
    assert len(bench.rows(TrialState.COMPLETE)) == 8


@pytest.mark.slow
def test_choices_and_seeds_that_are_added_are_run_and_nothing_else(folder: Path) -> None:
    Bench(folder, GRID).pool().work()
    bench = Bench(folder, GRID.replace("[1, 2, 3, 4]", "[4, 5, 2, 1]").replace("seeds: 2", "seeds: 3"))
    bench.pool().work()
    assert len(bench.ran) == 2 + 4  # the new one's first two seeds, and everyone's third
    assert bench.states() == {"complete": 12}
    rows = bench.rows(TrialState.COMPLETE)
    assert len(rows) == 14  # the configuration that was left out, too
    values = {(row.user_attrs["configuration"], row.user_attrs["seed"]): row.value for row in rows}
    expected = {(str(x), seed): x + seed / 100 for x in range(1, 6) for seed in range(3) if (x, seed) != (3, 2)}
    assert values == expected


def test_a_time_limit_starts_no_more_trials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(folder, GRID + "time_limit: 1h\n")

    def run(trial: Trial, *rest: object) -> Ended:
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 3601)
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.pool(run).work()
    assert bench.states() == {"complete": 1, "waiting": 7}


def test_what_cannot_end_in_time_is_not_begun(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is what comes after it: a study's order is its order of worth."""
    bench = Bench(folder, GRID)
    deadline = Deadline(time.monotonic() + 1000, lambda trial: 1e4 if trial.configuration_index == 2 else 1.0)
    bench.pool(deadline=deadline).work()
    assert bench.ran == [(0, 0), (1, 0)]
    assert bench.states() == {"complete": 2, "waiting": 6}
    assert (
        "3, seed 0: not begun, since it takes about 2.8 h and 17 min are left" in capsys.readouterr().out.splitlines()
    )


def test_what_still_runs_when_the_time_is_over_is_given_back(folder: Path) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, index: int, on_epoch: OnEpoch, should_stop: ShouldStop) -> Ended:
        while (why := should_stop()) is None:
            time.sleep(0.01)
        return Ended(why, Outcome())

    bench.pool(run, deadline=Deadline(time.monotonic() + 0.5, lambda trial: 0.1)).work()
    assert bench.states() == {"waiting": 8}


@pytest.mark.slow
def test_an_exception_is_its_trials_result(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(folder, GRID)

    def run(trial: Trial, *rest: object) -> Ended:
        if trial.configuration_index == 0:
            raise OSError(28, "No space left on device")
        return bench.run(trial, *rest)  # type: ignore[arg-type]

    bench.pool(run).work()
    assert bench.states() == {"complete": 6, "failed": 2}
    assert any("No space left on device" in line for line in capsys.readouterr().out.splitlines())


@pytest.mark.slow
def test_two_that_are_proposed_the_same_at_once_are_run_once(folder: Path) -> None:
    text = SAMPLED.replace("{low: 0.0, high: 1.0}", "[1, 2]") + "sampler: RandomSampler\n"
    bench = Bench(folder, text.replace("trials: 8", "trials: 6"))
    bench.pool().work(6)
    done = [trial for trial in bench.ledger.trials() if trial.state == "complete"]
    proposed = {(str(trial.configuration), trial.seed) for trial in bench.ledger.trials()}
    assert {(str(trial.configuration), trial.seed) for trial in done} == proposed


@pytest.mark.one_in(3)
@pytest.mark.parametrize("sampler", ["PartialFixedSampler", "NoSampler", "TPESampler, gamma: 3, x: 1"])
def test_a_sampler_that_cannot_be_used_is_said_at_once(folder: Path, sampler: str) -> None:
    bench = Bench(folder, SAMPLED + f"sampler: {{name: {sampler}}}\n")
    with pytest.raises(InputError, match="sampler"):
        bench.pool()


def test_how_far_a_study_is() -> None:
    """By the mean of the trials so far, as many at once as run now and the worker that asks."""
    done = [Trial(0, n, None, "complete", outcome=Outcome(seconds=120.0)) for n in range(3)]
    running, waiting = Trial(1, 0, None, "running"), [Trial(2, n, None, "waiting") for n in range(5)]
    assert progress([*done, *waiting]) == "3 of 8 done, about 10 min left"
    assert progress([*done, running, *waiting]) == "3 of 9 done, about 6 min left"
    assert progress(done) == "3 of 3 done"
    assert progress(waiting) == "0 of 5 done"
