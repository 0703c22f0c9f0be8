from __future__ import annotations

import math
from collections import Counter
from typing import Any

import optuna
import pytest
from benchmarks.ledger import METRICS, sweep
from forked import together
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from catpose.study.holder import this_process
from catpose.study.ledger import Ledger, Trial
from catpose.study.rows import mirror, row, tell
from catpose.study.storage import open_engine, open_study

DISTRIBUTIONS = {"model.lr": CategoricalDistribution([1e-5, 1e-4, 5e-4]), "size": CategoricalDistribution(["a", None])}
RANGE = {"lr": FloatDistribution(1e-6, 1e-2, log=True)}


def arm_of(params: dict[str, Any]) -> dict[str, Any]:
    return {"label": str(params), "params": params, "words": [f"--{key}={value}" for key, value in params.items()]}


ARMS = [arm_of({"model.lr": lr, "size": size}) for lr in (1e-5, 1e-4, 5e-4) for size in ("a", None)]


@pytest.fixture
def both(url: str) -> tuple[optuna.Study, Ledger]:
    """A study of six arms with one seed, in Optuna and in the ledger."""
    ledger = Ledger(open_engine(url), "s")
    ledger.plan(ARMS, [0])
    return open_study(url, "s", ["maximize"]), ledger


def claimed(ledger: Ledger, me: dict[str, Any] | None = None) -> Trial:
    trial = ledger.claim(me)
    assert trial is not None
    return trial


def started(study: optuna.Study, ledger: Ledger, trial: Trial) -> optuna.trial.Trial:
    mine = row(study, ledger, trial, DISTRIBUTIONS)
    assert mine is not None
    return mine


def complete(ledger: Ledger, trial: Trial, value: float = 0.5) -> None:
    assert ledger.finish(trial, "complete", {"values": {"val/AP": value}, "run": "runs/x", "reason": None})


def ends(study: optuna.Study) -> Counter[tuple[int, TrialState]]:
    """How many rows of each point ended how."""
    return Counter((frozen.user_attrs["point"], frozen.state) for frozen in study.get_trials(deepcopy=False))


def test_a_row_says_what_the_trial_is(both: tuple[optuna.Study, Ledger], url: str) -> None:
    study, ledger = both
    trial = claimed(ledger)
    mine = started(study, ledger, trial)
    mine.report(0.25, step=3)
    complete(ledger, trial, 0.5)
    tell(study, ledger, trial, METRICS)
    (frozen,) = open_study(url, "s", ["maximize"]).trials
    assert frozen.state is TrialState.COMPLETE
    assert frozen.value == 0.5
    assert frozen.params == ARMS[0]["params"]
    assert frozen.user_attrs == {"point": 0, "seed": 0, "arm": ARMS[0]["label"], "run": "runs/x"}
    assert frozen.intermediate_values == {3: 0.25}
    assert ledger.trial(0, 0).number == frozen.number


def test_a_row_adopted_twice_is_the_same_row(both: tuple[optuna.Study, Ledger], url: str) -> None:
    _, ledger = both
    numbers = []
    for _ in range(3):  # released and taken up by another process
        trial = claimed(ledger)
        numbers.append(started(open_study(url, "s", ["maximize"]), ledger, trial).number)
        assert ledger.release(trial)
    assert numbers == [0, 0, 0]


def test_a_row_that_its_maker_didnt_live_to_note_is_found(url: str, both: tuple[optuna.Study, Ledger]) -> None:
    study, ledger = both
    dead = claimed(ledger, this_process() | {"pid": 2**22 + 1})

    class Dies(Ledger):
        def number(self, trial: Trial, number: int) -> bool:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        row(study, Dies(open_engine(url), "s"), dead, DISTRIBUTIONS)
    for _ in range(5):
        claimed(ledger)
    trial = claimed(ledger)
    assert (trial.point, trial.lost, trial.number) == (0, 1, None)
    assert started(open_study(url, "s", ["maximize"]), ledger, trial).number == 0
    assert row(study, ledger, dead, DISTRIBUTIONS) is None  # back from the dead: it makes a row in vain
    for other in ledger.trials():
        complete(ledger, other)
    mirror(study, ledger, METRICS, DISTRIBUTIONS)
    assert ends(study) == {(0, TrialState.FAIL): 1} | {(point, TrialState.COMPLETE): 1 for point in range(6)}


def test_a_crash_before_optuna_was_told_is_made_good(both: tuple[optuna.Study, Ledger], url: str) -> None:
    study, ledger = both
    for state, value in (("complete", 0.5), ("complete", math.nan), ("pruned", 0.1), ("failed", 0.1)):
        trial = claimed(ledger)
        mine = started(study, ledger, trial)
        mine.report(0.125, step=7)
        assert ledger.finish(trial, state, {"values": {"val/AP": value}, "reason": "a reason"})
    assert ledger.finish(claimed(ledger), "failed", {"reason": "no such setting"})  # before it had a row
    last = claimed(ledger)
    started(study, ledger, last)
    states = [(0, TrialState.COMPLETE), (1, TrialState.FAIL), (2, TrialState.PRUNED)]
    states += [(3, TrialState.FAIL), (4, TrialState.FAIL)]
    for _ in range(2):
        mirror(open_study(url, "s", ["maximize"]), ledger, METRICS)
        assert ends(study) == dict.fromkeys([*states, (5, TrialState.RUNNING)], 1)
    complete(ledger, last, 0.25)
    mirror(study, ledger, METRICS)
    assert ends(study) == dict.fromkeys([*states, (5, TrialState.COMPLETE)], 1)
    by_point = {frozen.user_attrs["point"]: frozen for frozen in study.trials}
    assert [by_point[point].value for point in range(6)] == [0.5, None, 0.125, None, None, 0.25]
    assert by_point[4].user_attrs["reason"] == "no such setting"
    assert study.best_trial.user_attrs["point"] == 0


def test_many_mirror_at_once(url: str) -> None:
    ledger = Ledger(open_engine(url), "s")
    ledger.plan(ARMS, [0])
    study = open_study(url, "s", ["maximize"])
    for index in range(6):
        trial = claimed(ledger)
        if index % 2:
            started(study, ledger, trial)
        complete(ledger, trial)

    def work(_: int) -> None:
        mirror(open_study(url, "s", ["maximize"]), ledger, METRICS, DISTRIBUTIONS)

    together(6, work)
    work(0)
    counted = ends(open_study(url, "s", ["maximize"]))
    assert {key: n for key, n in counted.items() if key[1] is not TrialState.FAIL} == {
        (point, TrialState.COMPLETE): 1 for point in range(6)
    }


def test_a_row_failed_by_hand_is_replaced(both: tuple[optuna.Study, Ledger]) -> None:
    study, ledger = both
    trial = claimed(ledger)
    mine = started(study, ledger, trial)
    mine.report(0.25, step=1)
    study.tell(mine.number, state=TrialState.FAIL)
    complete(ledger, trial)
    for _ in range(2):
        mirror(study, ledger, METRICS)
        assert ends(study) == {(0, TrialState.FAIL): 1, (0, TrialState.COMPLETE): 1}
    assert study.best_trial.params == ARMS[0]["params"]
    assert study.best_trial.intermediate_values == {1: 0.25}


def test_a_retried_trial_has_a_new_row(both: tuple[optuna.Study, Ledger]) -> None:
    study, ledger = both
    trial = claimed(ledger)
    started(study, ledger, trial)
    assert ledger.finish(trial, "failed", {"reason": "out of memory"})
    tell(study, ledger, trial, METRICS)
    assert ledger.retry_failed() == 1
    trial = claimed(ledger)
    assert started(study, ledger, trial).number == 1
    complete(ledger, trial)
    tell(study, ledger, trial, METRICS)
    assert ends(study) == {(0, TrialState.FAIL): 1, (0, TrialState.COMPLETE): 1}


def test_a_sampled_point_has_the_same_parameters_for_all_seeds(url: str) -> None:
    ledger = Ledger(open_engine(url), "s")
    ledger.plan([None] * 4, [0, 1, 2])

    def work(index: int) -> None:
        sampler = optuna.samplers.TPESampler(n_startup_trials=2, seed=index)
        study = open_study(url, "s", ["maximize"], sampler=sampler)
        while (trial := ledger.claim()) is not None:
            mine = row(study, ledger, trial, RANGE, arm_of)
            assert mine is not None
            assert mine.params == ledger.settle(trial.point, arm_of({"lr": 1.0}))["params"]
            complete(ledger, trial, -abs(math.log10(mine.params["lr"]) + 4))
            tell(study, ledger, trial, METRICS)

    together(6, work)
    study = open_study(url, "s", ["maximize"])
    mirror(study, ledger, METRICS, RANGE)
    rows = [frozen for frozen in study.trials if frozen.state is TrialState.COMPLETE]
    assert sorted((frozen.user_attrs["point"], frozen.user_attrs["seed"]) for frozen in rows) == [
        (point, seed) for point in range(4) for seed in range(3)
    ]
    arms = {trial.point: trial.arm for trial in ledger.trials()}
    for frozen in rows:
        arm = arms[frozen.user_attrs["point"]]
        assert arm is not None
        assert frozen.params == arm["params"]
        assert frozen.user_attrs["arm"] == arm["label"]
    assert len({frozen.params["lr"] for frozen in rows}) == 4
    assert not study.get_trials(states=(TrialState.RUNNING,))


def test_several_metrics_and_other_peoples_rows(url: str) -> None:
    study, ledger = open_study(url, "s", ["maximize", "minimize"]), Ledger(open_engine(url), "s")
    ledger.plan(ARMS[:1], [0])
    theirs = study.ask()
    trial = claimed(ledger)
    started(study, ledger, trial)
    assert ledger.finish(trial, "complete", {"values": {"GMACs": 2.0, "val/AP": 0.5}})
    mirror(study, ledger, ("val/AP", "GMACs"))
    assert [frozen.values for frozen in study.best_trials] == [[0.5, 2.0]]
    assert study.trials[theirs.number].state is TrialState.RUNNING


@pytest.mark.slow
def test_64_workers_and_500_points(database: str) -> None:
    answers = sweep(database, "s", 500, 64)
    assert sum(done for done, _, _ in answers) == 500
    study, ledger = open_study(database, "s", ["maximize"]), Ledger(open_engine(database), "s")
    assert [(trial.point, trial.state, trial.token) for trial in ledger.trials()] == [
        (point, "complete", 1) for point in range(500)
    ]
    assert sorted(frozen.user_attrs["point"] for frozen in study.trials) == list(range(500))
    assert sorted(frozen.number for frozen in study.trials) == list(range(500))
    assert {frozen.state for frozen in study.trials} == {TrialState.COMPLETE}
    assert all(frozen.value == 0.001 * frozen.user_attrs["point"] for frozen in study.trials)
    numbers = {trial.point: trial.number for trial in ledger.trials()}
    assert numbers == {frozen.user_attrs["point"]: frozen.number for frozen in study.trials}
