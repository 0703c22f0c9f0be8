from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
from forked import together
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from catpose.study.ledger import MOST_LOST, Ledger
from catpose.study.owner import this_process
from catpose.study.space import Configuration
from catpose.study.storage import open_engine
from catpose.study.stored import Outcome, Owner
from catpose.study.tables import POINTS, TRIALS
from catpose.study.trial import Trial

GRACE = 60.0
NOBODY = 2**22 + 1  # above Linux's highest pid


def grid(number: int) -> list[Configuration]:
    return [Configuration(f"x {x}", {"x": x}, (f"--model.x={x}",)) for x in range(number)]


def owner(**fields: Any) -> Owner:
    """This process, but for some fields."""
    return this_process().model_copy(update=fields)


def elsewhere() -> Owner:
    return owner(machine="far", host="far")


def result(claim: int = 0) -> Outcome:
    """An outcome that is known again."""
    return Outcome(run=f"of claim {claim}")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, start: float = 0.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now


def claim_as(owner: Owner, ledger: Ledger) -> Trial | None:
    """What a claim gives that another process makes."""
    with mock.patch("catpose.study.ledger.this_process", return_value=owner):
        return ledger.claim()


def timed(ledger: Ledger, clock: Any) -> Ledger:
    """A ledger under another clock than the machine's."""
    ledger._watch.clock = clock
    return ledger


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


# -- the state machine ------------------------------------------------------------------------------------------------


class Owners(RuleBasedStateMachine):
    """Workers on two machines do whatever they can think of, those taken for dead too; a model says what may happen."""

    def __init__(self) -> None:
        super().__init__()
        engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
        self.time = 0.0
        self.workers: list[tuple[Owner, Ledger]] = []
        for number, (machine, is_dead) in enumerate([("here", False), ("here", True), ("far", False), ("far", True)]):
            clock = self.clock_of(offset=1e6 * number)
            me = this_process() if machine == "here" else elsewhere()
            me = me.model_copy(update={"pid": NOBODY}) if is_dead else me
            self.workers.append((me, timed(Ledger(engine, "s", GRACE), clock)))
        self.ledger = self.workers[0][1]
        self.claims: list[Trial] = []
        self.owner: dict[tuple[int, int], int] = {}  # of a running trial: the claim that owns it
        self.state: dict[tuple[int, int], str] = {}
        self.ended: dict[tuple[int, int], tuple[int, str]] = {}  # by which claim, how
        self.lost: Counter[tuple[int, int]] = Counter()
        self.beaten: dict[tuple[int, int], float] = {}  # when

    def clock_of(self, offset: float) -> Any:
        return lambda: self.time + offset

    @initialize(points=st.integers(1, 3), seeds=st.integers(1, 2))
    def plan(self, points: int, seeds: int) -> None:
        self.ledger.plan(grid(points), range(seeds))
        self.state = {(p, s): "waiting" for s in range(seeds) for p in range(points)}

    def is_gone(self, key: tuple[int, int], me: Owner) -> bool:
        """Whether the trial may be taken from its owner."""
        owner = self.claims[self.owner[key]].owner
        assert owner is not None
        dead = owner.machine == me.machine == this_process().machine and owner.pid == NOBODY
        return dead or self.time - self.beaten[key] >= GRACE

    @rule(worker=st.integers(0, 3))
    def claim(self, worker: int) -> None:
        me, ledger = self.workers[worker]
        before = dict(self.state)
        taken = claim_as(me, ledger)
        waiting = [key for key, state in before.items() if state == "waiting"]
        for trial in ledger.trials():  # those that vanished once too often
            key = trial.key
            if trial.state == "failed" and before[key] == "running":
                assert self.is_gone(key, this_process())
                assert self.lost[key] == MOST_LOST
                assert "vanished" in (trial.reason or "")
                self.state[key] = "failed"
                del self.owner[key]
        if taken is None:
            assert not waiting
            return
        key = taken.key
        if waiting:
            assert key == waiting[0]
        else:
            assert before[key] == "running"
            assert self.is_gone(key, this_process())
            self.lost[key] += 1
        assert (taken.state, taken.owner, taken.heartbeat, taken.lost_attempts) == ("running", me, 0, self.lost[key])
        assert all(taken.token > old.token for old in self.claims if old.key == key)
        self.claims.append(taken)
        self.owner[key], self.state[key], self.beaten[key] = len(self.claims) - 1, "running", self.time

    def chosen(self, which: int) -> tuple[int, Trial, tuple[int, int], bool] | None:
        if not self.claims:
            return None
        claim = which % len(self.claims)
        trial = self.claims[claim]
        key = trial.key
        return claim, trial, key, self.owner.get(key) == claim

    @rule(which=st.integers(0, 99), worker=st.integers(0, 3))
    def beat(self, which: int, worker: int) -> None:
        if choice := self.chosen(which):
            _, trial, key, owns = choice
            assert self.workers[worker][1].beat(trial) is owns
            if owns:
                self.beaten[key] = self.time

    @rule(which=st.integers(0, 99), worker=st.integers(0, 3), state=st.sampled_from(["complete", "pruned", "failed"]))
    def finish(self, which: int, worker: int, state: str) -> None:
        if choice := self.chosen(which):
            claim, trial, key, owns = choice
            again = self.state[key] == state and self.ended.get(key) == (claim, state)
            assert self.workers[worker][1].finish(trial, state, result(claim), b"r") is (owns or again)
            if owns:
                self.state[key], self.ended[key] = state, (claim, state)
                del self.owner[key]

    @rule(which=st.integers(0, 99), worker=st.integers(0, 3))
    def release(self, which: int, worker: int) -> None:
        if choice := self.chosen(which):
            _, trial, key, owns = choice
            is_released = self.workers[worker][1].release(trial)
            assert is_released is owns or (self.state[key] == "waiting" and not owns)
            if owns:
                self.state[key] = "waiting"
                del self.owner[key]

    @rule(which=st.integers(0, 99), worker=st.integers(0, 3))
    def lose(self, which: int, worker: int) -> None:
        if choice := self.chosen(which):
            _, trial, key, owns = choice
            is_lost = self.workers[worker][1].lose(trial, Outcome(reason="killed"))
            assert is_lost or not owns
            if owns:
                is_last = self.lost[key] == MOST_LOST
                self.state[key] = "failed" if is_last else "waiting"
                if not is_last:
                    self.lost[key] += 1
                del self.owner[key]

    @rule(which=st.integers(0, 99), number=st.integers(0, 5))
    def number(self, which: int, number: int) -> None:
        if choice := self.chosen(which):
            _, trial, key, _ = choice
            newest = max(t.token for t in self.claims if t.key == key)
            if trial.token < newest:
                assert not self.ledger.number(trial, number)

    @rule()
    def retry(self) -> None:
        failed = [key for key, state in self.state.items() if state == "failed"]
        assert self.ledger.retry_failed() == len(failed)
        for key in failed:
            self.state[key] = "waiting"
            self.lost[key] = 0

    @rule(seconds=st.sampled_from([1.0, 10.0, 20.0, 70.0]), watchers=st.sets(st.integers(0, 3)))
    def wait(self, seconds: float, watchers: set[int]) -> None:
        for _ in range(3):
            self.time += seconds
            for worker in watchers:
                self.workers[worker][1].watch()

    @invariant()
    def agrees(self) -> None:
        if not self.state:
            return
        for trial in self.ledger.trials():
            key = trial.key
            assert (trial.state, trial.lost_attempts) == (self.state[key], self.lost[key])
            if trial.state in ("complete", "pruned"):
                assert trial.outcome == result(self.ended[key][0])
        assert self.ledger.unfinished() == sum(state in ("waiting", "running") for state in self.state.values())


TestOwners = Owners.TestCase
TestOwners.settings = settings(stateful_step_count=40, max_examples=settings.default.max_examples // 3)


# -- who is gone ------------------------------------------------------------------------------------------------------


def watched(ledger: Ledger, clock: Clock, seconds: float) -> None:
    """Let time pass with a look at each interval."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += ledger.interval
        ledger.watch()


def test_a_silent_owner_is_gone_after_the_grace_and_not_before(file: str) -> None:
    clock = Clock()
    ledger = timed(Ledger(open_engine(file), "s", GRACE), clock)
    ledger.plan(grid(1), [0])
    trial = claim_as(elsewhere(), ledger)
    assert trial is not None
    ledger.watch()
    watched(ledger, clock, GRACE - ledger.interval)
    assert ledger.claim() is None
    watched(ledger, clock, ledger.interval)
    taken = ledger.claim()
    assert taken is not None
    assert (taken.token, taken.lost_attempts, taken.heartbeat) == (trial.token + 1, 1, 0)
    assert not ledger.beat(trial)
    assert not ledger.finish(trial, "complete", Outcome())
    assert not ledger.release(trial)
    assert ledger.finish(taken, "complete", result(2))
    assert ledger.trial(0, 0).outcome == result(2)


def test_a_beat_starts_the_watch_anew(file: str) -> None:
    clock = Clock()
    ledger = timed(Ledger(open_engine(file), "s", GRACE), clock)
    ledger.plan(grid(1), [0])
    trial = claim_as(elsewhere(), ledger)
    assert trial is not None
    for _ in range(3):
        watched(ledger, clock, GRACE - ledger.interval)
        assert ledger.beat(trial)
        assert ledger.claim() is None


def test_an_outage_makes_nobody_look_dead(tmp_path: Path) -> None:
    file, away = tmp_path / "study.db", tmp_path / "away.db"
    clock = Clock()
    ledger = timed(Ledger(open_engine(f"sqlite:///{file}"), "s", GRACE), clock)
    ledger.plan(grid(1), [0])
    trial = claim_as(elsewhere(), ledger)
    assert trial is not None
    watched(ledger, clock, GRACE / 2)
    file.rename(away)
    with pytest.raises(DBAPIError):
        ledger.watch()  # once only: less than a poll that is late
    away.rename(file)
    watched(ledger, clock, GRACE)
    assert ledger.claim() is None
    assert ledger.beat(trial)
    watched(ledger, clock, GRACE)
    assert ledger.claim() is None
    watched(ledger, clock, ledger.interval)
    assert ledger.claim() is not None


def test_a_beat_at_the_last_moment_keeps_the_trial(file: str) -> None:
    clock = Clock()

    class Slow(Ledger):
        def watch(self) -> list[Trial]:
            running = super().watch()
            if holds:
                assert ledger.beat(holds[0])
            return running

    ledger, slow = Ledger(open_engine(file), "s"), timed(Slow(open_engine(file), "s", GRACE), clock)
    ledger.plan(grid(1), [0])
    trial = claim_as(elsewhere(), ledger)
    assert trial is not None
    holds: list[Trial] = []
    watched(slow, clock, 2 * GRACE)
    holds.append(trial)
    assert slow.claim() is None
    holds.clear()
    assert ledger.beat(trial)


def test_a_watcher_that_slept_starts_anew(file: str) -> None:
    clock = Clock()
    ledger = timed(Ledger(open_engine(file), "s", GRACE), clock)
    ledger.plan(grid(1), [0])
    assert claim_as(elsewhere(), ledger) is not None
    ledger.watch()
    clock.now += 10 * GRACE
    ledger.watch()
    assert ledger.claim() is None


def test_a_dead_process_of_this_machine_is_gone_at_once(file: str) -> None:
    ledger = Ledger(open_engine(file), "s", 1e6)
    ledger.plan(grid(1), [0])
    together(1, lambda _: Ledger(open_engine(file), "s").claim())
    assert ledger.trial(0, 0).state == "running"
    taken = ledger.claim()
    assert taken is not None
    assert taken.lost_attempts == 1
    assert ledger.claim() is None  # we live


def test_a_killed_process_that_nobody_waited_for_and_a_pid_used_again_are_gone(file: str) -> None:
    ledger = Ledger(open_engine(file), "s", 1e6)
    ledger.plan(grid(2), [0])
    zombie = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert zombie.stdout is not None
    zombie.stdout.read()  # until it has ended
    started = this_process().started_s
    assert started is not None
    assert claim_as(owner(pid=zombie.pid, started_s=None), ledger) is not None
    assert claim_as(owner(started_s=started - 60), ledger) is not None
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert {trial.configuration_index for trial in (ledger.claim(), ledger.claim()) if trial} == {0, 1}
    zombie.wait()


def test_the_fourth_loss_is_a_failure_with_a_reason_that_can_be_retried(file: str) -> None:
    ledger = Ledger(open_engine(file), "s", 1e6)
    ledger.plan(grid(1), [0])
    dead = owner(pid=NOBODY, host="kitty")
    claims = [claim_as(dead, ledger) for _ in range(5)]
    assert [claim is None for claim in claims] == [False] * 4 + [True]
    trial = ledger.trial(0, 0)
    assert (trial.state, trial.outcome) == ("failed", Outcome(reason="vanished 4 times, last on kitty"))
    assert claims[3] is not None
    assert not ledger.finish(claims[3], "failed", Outcome(reason="I am back"))
    assert ledger.unfinished() == 0
    assert ledger.number(trial, 7)
    assert ledger.retry_failed() == 1
    again = ledger.claim()
    assert again is not None
    assert (again.lost_attempts, again.number, again.outcome) == (0, None, None)


# -- plans, contents --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_plan_at_once(url: str) -> None:
    def work(index: int) -> int:
        ledger = Ledger(open_engine(url), "s")
        ledger.plan(grid(30), [0, 1])
        return ledger.unfinished()

    assert together(4, work) == [60] * 4


def test_a_plan_grows_in_seeds_and_sampled_points(file: str) -> None:
    ledger = Ledger(open_engine(file), "s")
    ledger.plan([None] * 2, [0])
    taken = ledger.claim()
    assert taken is not None
    ledger.assign(0, grid(1)[0])
    ledger.plan([None] * 3, [0, 5])
    assert [(t.seed, t.configuration_index, t.state) for t in ledger.trials()] == [
        *((0, 0, "running"), (0, 1, "waiting"), (0, 2, "waiting")),
        *((5, 0, "waiting"), (5, 1, "waiting"), (5, 2, "waiting")),
    ]
    assert [t.configuration is not None for t in ledger.trials()] == [True, False, False] * 2


def test_studies_in_one_database_dont_meet(file: str) -> None:
    engine = open_engine(file)
    ledgers = [Ledger(engine, name) for name in ("s", "S")]
    for ledger in ledgers:
        ledger.plan(grid(1), [0])
    assert ledgers[0].claim() is not None
    assert ledgers[0].claim() is None
    assert ledgers[1].unfinished() == 1
    assert ledgers[1].trial(0, 0).state == "waiting"


@pytest.mark.slow
def test_the_first_to_assign_a_configuration_wins(url: str) -> None:
    Ledger(open_engine(url), "s").plan([None], [0, 1, 2])

    def work(index: int) -> Configuration:
        return Ledger(open_engine(url), "s").assign(0, grid(8)[index])

    assigned = {configuration.label for configuration in together(4, work)}
    assert len(assigned) == 1
    ledger = Ledger(open_engine(url), "s")
    assert {trial.configuration.label for trial in ledger.trials() if trial.configuration} == assigned
    ledger.plan([None], [3])
    assert {trial.configuration.label for trial in ledger.trials() if trial.configuration} == assigned


def test_every_trial_goes_to_one_of_many_processes(url: str) -> None:
    Ledger(open_engine(url), "s").plan(grid(12), [0, 1])

    def work(index: int) -> list[tuple[int, int]]:
        ledger, done = Ledger(open_engine(url), "s"), []
        while (trial := ledger.claim()) is not None:
            assert ledger.finish(trial, "complete", result(index))
            done.append(trial.key)
        return done

    done = [key for answer in together(4, work) for key in answer]
    assert sorted(done) == sorted((point, seed) for point in range(12) for seed in range(2))


@pytest.mark.slow
def test_threads_and_forks_share_one_ledger(url: str) -> None:
    ledger = Ledger(open_engine(url), "s")
    ledger.plan(grid(24), [0])
    assert ledger.claim() is not None

    def work(_: int) -> list[int]:
        done: list[int] = []

        def run() -> None:
            while (trial := ledger.claim()) is not None:
                ledger.watch()
                assert ledger.finish(trial, "complete", Outcome())
                done.append(trial.configuration_index)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return done

    forked = [point for answer in together(3, work) for point in answer]
    assert ledger.unfinished() == 1
    assert sorted(forked) == list(range(1, 24))


def test_contents_come_back_as_they_were(url: str) -> None:
    ledger = Ledger(open_engine(url), "s")
    ledger.plan(grid(2), [0, 2**32 - 1])
    trial = ledger.claim()
    assert trial is not None
    assert ledger.trial(0, 0).owner == this_process()
    results, outcome = bytes(range(256)) * 1000, Outcome(values={"val/AP": 0.1 + 0.2}, run="Kätzchen")
    assert ledger.finish(trial, "complete", outcome, results)
    assert ledger.finish(trial, "complete", outcome, results), "an answer that got lost is given again"
    assert not ledger.finish(trial, "pruned", outcome)
    ended = ledger.trial(0, 0)
    assert (ended.state, ended.outcome, ended.configuration) == ("complete", outcome, grid(1)[0])
    assert ledger.results(0, 0) == results
    assert ledger.results(1, 0) is None
    assert [(t.seed, t.configuration_index) for t in ledger.trials()] == [
        (0, 0),
        (0, 1),
        (2**32 - 1, 0),
        (2**32 - 1, 1),
    ]


def test_a_number_is_replaced_only_by_who_knows_it(file: str) -> None:
    ledger = Ledger(open_engine(file), "s")
    ledger.plan(grid(1), [0])
    trial = ledger.claim()
    assert trial is not None
    assert ledger.number(trial, 3)
    assert ledger.number(trial, 3)
    assert not ledger.number(trial, 4)
    assert ledger.number(ledger.trial(0, 0), 4)
    assert ledger.release(trial)
    again = ledger.claim()
    assert again is not None
    assert again.number == 4
    assert again.lost_attempts == 0
    assert not ledger.number(trial, 5)


def test_the_tables_are_ones_that_mysql_takes() -> None:
    text = "".join(str(CreateTable(table).compile(dialect=mysql.dialect())) for table in (POINTS, TRIALS))
    assert "LONGBLOB" in text
    assert "MEDIUMTEXT" in text
    assert text.count("utf8mb4_bin") == 2
