from __future__ import annotations

import math
from collections import Counter
from unittest import mock

import optuna
import pytest
from benchmarks.ledger import METRICS, sweep
from forked import together
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from catpose.study.ledger import Ledger
from catpose.study.owner import this_process
from catpose.study.rows import Rows
from catpose.study.space import Space, read_space
from catpose.study.storage import open_engine, open_storage, open_study
from catpose.study.stored import Outcome, Owner
from catpose.study.trial import Trial

GRID = read_space({"model.lr": [1e-5, 1e-4, 5e-4], "model.size": ["a", None]}, "space")
RANGE = read_space({"model.lr": {"low": 1e-6, "high": 1e-2, "log": True}}, "space")


def opened(url: str, ledger: Ledger, space: Space = GRID, sampler: BaseSampler | None = None) -> Rows:
    """The rows as a process of its own would see them."""
    storage = open_storage(url)
    return Rows(open_study(storage, "s", ["maximize"], sampler), storage, ledger, METRICS, space)


@pytest.fixture
def rows(url: str) -> Rows:
    """Those of six configurations with one seed."""
    ledger = Ledger(open_engine(url), "s")
    ledger.plan(GRID.configurations(), [0])
    return opened(url, ledger)


def claimed(ledger: Ledger, owner: Owner | None = None) -> Trial:
    """A trial that this process takes, or another owner."""
    with mock.patch("catpose.study.ledger.this_process", return_value=owner or this_process()):
        trial = ledger.claim()
    assert trial is not None
    return trial


def started(rows: Rows, trial: Trial) -> optuna.trial.Trial:
    row = rows.take_up(trial)
    assert row is not None
    return row


def complete(ledger: Ledger, trial: Trial, value: float = 0.5) -> None:
    assert ledger.finish(trial, "complete", Outcome(values={"val/AP": value}, run="runs/x"))


def ends(study: optuna.Study) -> Counter[tuple[int, TrialState]]:
    """How many rows of each configuration ended how."""
    return Counter((frozen.user_attrs["point"], frozen.state) for frozen in study.get_trials(deepcopy=False))


def test_a_row_says_what_the_trial_is(rows: Rows, url: str) -> None:
    ledger = rows.ledger
    trial = claimed(ledger)
    row = started(rows, trial)
    row.report(0.25, step=3)
    complete(ledger, trial, 0.5)
    rows.tell(trial)
    (frozen,) = opened(url, ledger).study.trials
    assert frozen.state is TrialState.COMPLETE
    assert frozen.value == 0.5
    assert frozen.params == GRID.configurations()[0].params
    assert frozen.user_attrs == {
        "point": 0,
        "seed": 0,
        "configuration": GRID.configurations()[0].label,
        "run": "runs/x",
    }
    assert frozen.intermediate_values == {3: 0.25}
    assert ledger.trial(0, 0).number == frozen.number


def test_a_row_adopted_twice_is_the_same_row(rows: Rows, url: str) -> None:
    ledger = rows.ledger
    numbers = []
    for _ in range(3):  # released and taken up by another process
        trial = claimed(ledger)
        numbers.append(started(opened(url, ledger), trial).number)
        assert ledger.release(trial)
    assert numbers == [0, 0, 0]


def test_a_row_that_its_maker_didnt_live_to_note_is_found(url: str, rows: Rows) -> None:
    study, ledger = rows.study, rows.ledger
    dead = claimed(ledger, this_process().model_copy(update={"pid": 2**22 + 1}))

    class Dies(Ledger):
        def number(self, trial: Trial, number: int) -> bool:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        opened(url, Dies(open_engine(url), "s")).take_up(dead)
    for _ in range(5):
        claimed(ledger)
    trial = claimed(ledger)
    assert (trial.configuration_index, trial.lost_attempts, trial.number) == (0, 1, None)
    assert started(opened(url, ledger), trial).number == 0
    assert rows.take_up(dead) is None  # back from the dead: it makes a row in vain
    for other in ledger.trials():
        complete(ledger, other)
    rows.mirror()
    assert ends(study) == {(0, TrialState.FAIL): 1} | {(point, TrialState.COMPLETE): 1 for point in range(6)}


def test_a_crash_before_optuna_was_told_is_made_good(rows: Rows, url: str) -> None:
    study, ledger = rows.study, rows.ledger
    for state, value in (("complete", 0.5), ("complete", math.nan), ("pruned", 0.1), ("failed", 0.1)):
        trial = claimed(ledger)
        row = started(rows, trial)
        row.report(0.125, step=7)
        assert ledger.finish(trial, state, Outcome(values={"val/AP": value}, reason="a reason"))
    assert ledger.finish(claimed(ledger), "failed", Outcome(reason="no such setting"))  # before it had a row
    last = claimed(ledger)
    started(rows, last)
    states = [(0, TrialState.COMPLETE), (1, TrialState.FAIL), (2, TrialState.PRUNED)]
    states += [(3, TrialState.FAIL), (4, TrialState.FAIL)]
    for _ in range(2):
        opened(url, ledger).mirror()
        assert ends(study) == dict.fromkeys([*states, (5, TrialState.RUNNING)], 1)
    complete(ledger, last, 0.25)
    rows.mirror()
    assert ends(study) == dict.fromkeys([*states, (5, TrialState.COMPLETE)], 1)
    by_point = {frozen.user_attrs["point"]: frozen for frozen in study.trials}
    assert [by_point[point].value for point in range(6)] == [0.5, None, 0.125, None, None, 0.25]
    assert by_point[4].user_attrs["reason"] == "no such setting"
    assert study.best_trial.user_attrs["point"] == 0


@pytest.mark.slow
def test_many_mirror_at_once(rows: Rows, url: str) -> None:
    ledger = rows.ledger
    for index in range(6):
        trial = claimed(ledger)
        if index % 2:
            started(rows, trial)
        complete(ledger, trial)

    def work(_: int) -> None:
        opened(url, ledger).mirror()

    together(3, work)
    work(0)
    counted = ends(opened(url, ledger).study)
    assert {key: n for key, n in counted.items() if key[1] is not TrialState.FAIL} == {
        (point, TrialState.COMPLETE): 1 for point in range(6)
    }


def test_a_row_failed_by_hand_is_replaced(rows: Rows) -> None:
    study, ledger = rows.study, rows.ledger
    trial = claimed(ledger)
    row = started(rows, trial)
    row.report(0.25, step=1)
    study.tell(row.number, state=TrialState.FAIL)
    complete(ledger, trial)
    for _ in range(2):
        rows.mirror()
        assert ends(study) == {(0, TrialState.FAIL): 1, (0, TrialState.COMPLETE): 1}
    assert study.best_trial.params == GRID.configurations()[0].params
    assert study.best_trial.intermediate_values == {1: 0.25}


def test_a_retried_trial_has_a_new_row(rows: Rows) -> None:
    study, ledger = rows.study, rows.ledger
    trial = claimed(ledger)
    started(rows, trial)
    assert ledger.finish(trial, "failed", Outcome(reason="out of memory"))
    rows.tell(trial)
    assert ledger.retry_failed() == 1
    trial = claimed(ledger)
    assert started(rows, trial).number == 1
    complete(ledger, trial)
    rows.tell(trial)
    assert ends(study) == {(0, TrialState.FAIL): 1, (0, TrialState.COMPLETE): 1}


@pytest.mark.slow
def test_a_sampled_configuration_has_the_same_parameters_for_all_seeds(url: str) -> None:
    ledger = Ledger(open_engine(url), "s")
    ledger.plan([None] * 4, [0, 1])

    def work(index: int) -> None:
        sampler = optuna.samplers.TPESampler(n_startup_trials=2, seed=index)
        rows = opened(url, ledger, RANGE, sampler)
        while (trial := ledger.claim()) is not None:
            row = started(rows, trial)
            other = RANGE.configuration({"model.lr": 1.0})
            assert row.params == ledger.assign(trial.configuration_index, other).params
            complete(ledger, trial, -abs(math.log10(row.params["model.lr"]) + 4))
            rows.tell(trial)

    together(3, work)
    rows = opened(url, ledger, RANGE)
    rows.mirror()
    ended = [frozen for frozen in rows.study.trials if frozen.state is TrialState.COMPLETE]
    assert sorted((frozen.user_attrs["point"], frozen.user_attrs["seed"]) for frozen in ended) == [
        (index, seed) for index in range(4) for seed in range(2)
    ]
    configurations = {trial.configuration_index: trial.configuration for trial in ledger.trials()}
    for frozen in ended:
        configuration = configurations[frozen.user_attrs["point"]]
        assert configuration is not None
        assert frozen.params == configuration.params
        assert frozen.user_attrs["configuration"] == configuration.label
    assert len({frozen.params["model.lr"] for frozen in ended}) == 4
    assert not rows.study.get_trials(states=(TrialState.RUNNING,))


def test_several_metrics_and_other_peoples_rows(url: str) -> None:
    ledger, storage = Ledger(open_engine(url), "s"), open_storage(url)
    study = open_study(storage, "s", ["maximize", "minimize"])
    rows = Rows(study, storage, ledger, ["val/AP", "GMACs"], GRID)
    ledger.plan(GRID.configurations()[:1], [0])
    theirs = study.ask()
    trial = claimed(ledger)
    started(rows, trial)
    assert ledger.finish(trial, "complete", Outcome(values={"GMACs": 2.0, "val/AP": 0.5}))
    rows.mirror()
    assert [frozen.values for frozen in study.best_trials] == [[0.5, 2.0]]
    assert study.trials[theirs.number].state is TrialState.RUNNING


def test_a_row_of_another_process_gets_its_parameters(url: str) -> None:
    """Of Optuna 4.5 and 5.0 alike: parameters are only set in rows that a study has read."""
    ledger = Ledger(open_engine(url), "s")
    ledger.plan([None], [0])
    sampler = optuna.samplers.RandomSampler(seed=0)
    first, second = (opened(url, ledger, RANGE, sampler) for _ in range(2))
    first._create(claimed(ledger, this_process().model_copy(update={"pid": 2**22 + 1})))  # and dies
    row = started(second, claimed(ledger))
    assert row.number == 0
    assert row.params == ledger.assign(0, RANGE.configuration({"model.lr": 1.0})).params


@pytest.mark.slow
def test_64_workers_and_128_configurations(database: str) -> None:
    answers = sweep(database, "s", 128, 64)
    assert sum(done for done, _, _ in answers) == 128
    study, ledger = open_study(open_storage(database), "s", ["maximize"]), Ledger(open_engine(database), "s")
    assert [(trial.configuration_index, trial.state, trial.token) for trial in ledger.trials()] == [
        (point, "complete", 1) for point in range(128)
    ]
    assert sorted(frozen.user_attrs["point"] for frozen in study.trials) == list(range(128))
    assert sorted(frozen.number for frozen in study.trials) == list(range(128))
    assert {frozen.state for frozen in study.trials} == {TrialState.COMPLETE}
    assert all(frozen.value == 0.001 * frozen.user_attrs["point"] for frozen in study.trials)
    numbers = {trial.configuration_index: trial.number for trial in ledger.trials()}
    assert numbers == {frozen.user_attrs["point"]: frozen.number for frozen in study.trials}
