"""Who owns which trial: one row per (study, configuration, seed) in an SQL table, and the state machine of its life.

    state     change                                  becomes                     fields
    -------   -------------------------------------   -------------------------   ------------------------------------
    (none)    plan(): anyone                          waiting                     token 0, lost attempts 0
    waiting   claim(): anyone, who owns it then       running                     token + 1, owner, heartbeat 0
    running   beat(): its owner                       running                     heartbeat + 1
    running   finish(): its owner                     complete, pruned, early,    outcome, results
                                                      failed
    running   release(): its owner, to stop           waiting                     nothing is counted
    running   lose(): its owner, whose training      waiting, or failed          lost attempts + 1
              was killed by someone
    running   claim(): anyone, the owner is gone      running                     token + 1, owner, heartbeat 0,
                                                                                  lost attempts + 1
    running   claim(): the same, lost for the 4th     failed                      token + 1, outcome "vanished 4 times"
              time
    failed,   retry_failed(): the user                waiting                     lost attempts 0, outcome and number
    early                                                                         erased
    any, none correct(): the user                     waiting                     token + 1, all else as planned
    complete

**Exact.** Each change is one UPDATE that names the state and the token it was decided on (a claim the heartbeat too),
and it happened if and only if one row changed. SQLite, PostgreSQL and MySQL alike do the UPDATEs of a row one after the
other, and look at the condition when its turn comes; so of any number of claimers one wins.

**Fenced.** The token counts the owners. Whoever was taken for dead and comes back has an old token: its beat, finish
and release change nothing and return False, upon which it ends its training and writes nothing. A change whose answer
was lost with the connection may be repeated by the owner: where it is done already, it returns True again.

**Gone** is an owner on this machine whose process is dead: at once. Any other one is gone when its heartbeat stood
still while the claimer watched for `grace` seconds without a break, on the claimer's own clock. No clocks of two
machines are compared, and a heartbeat is a count, not a time. A poll that fails or comes late breaks the watch: when
the database was away, nobody could beat, and nobody looks dead for it.

All trials are planned ahead. Those of a grid with their configurations, those of a sampled study without; `assign`
gives an index its configuration, the first one wins. What a study may become afterwards is in `plan.py`. Trials are run
seed by seed, and by configuration within a seed. In the tables a configuration is an "arm", its index a "point", and an
owner a "holder", as in catpose 0.1.0.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from catpose.errors import InputError
from catpose.study import plan as plans
from catpose.study.owner import Watch, is_dead, this_process
from catpose.study.plan import Configurations, Plan, among
from catpose.study.space import Configuration, Space
from catpose.study.stored import Facts, Outcome, Owner, damaged
from catpose.study.tables import POINTS, TRIALS, create_tables
from catpose.study.trial import FINISHED, OPEN, RETRIED, Trial, read_configuration, read_trial, where

#: So often a trial is taken over; when its owner vanishes once more it has failed.
MOST_LOST = 3
#: An owner beats, and others look, so often within `grace` seconds.
BEATS = 6
#: Of the waiting rows so many are looked at, at most, to get out of each other's way.
WIDEST = 256
_ROW = TRIALS.c


class Ledger:
    """The trials of one study. May be used by several threads, and on both sides of a fork made while none is at it.

    Every method may raise `sqlalchemy.exc.DBAPIError` when the database is away; it may then be called again.

    Args:
        engine: of the database, as `storage.open_engine` makes it: no connection is kept between calls.
        study: its name.
        grace: seconds of standing still after which an owner is gone.
        space: the study's, whose configurations its trials have; without it, those in the storage are believed.
    """

    def __init__(self, engine: sa.Engine, study: str, grace: float = 120.0, space: Space | None = None) -> None:
        self.study, self.grace = study, grace
        self.interval = grace / BEATS
        self._space = space
        self._engine = engine
        self._each = engine.execution_options(isolation_level="AUTOCOMMIT")  # a statement is a transaction
        self._planned: sa.ColumnElement[bool] = sa.true()
        self._id: str | None = None
        self._watch = Watch(grace, self.interval, time.monotonic)
        create_tables(engine)

    # -- the plan ---------------------------------------------------------------------------------------------------

    def facts(self, new: Facts | None = None) -> Facts | None:
        """What was written down of the study when it was created; `new`, where that is now. The first one wins.

        Raises:
            InputError: the storage's are damaged, or were deleted.
        """
        stored = plans.facts(self._each, self.study, new)
        self._id = None if stored is None else stored.id
        return stored

    def plan(self, configurations: Configurations, seeds: Sequence[int], write: bool = True) -> Plan:
        """Write down the trials that aren't yet; any number of processes may do so at once, and again.

        From then on this ledger knows the trials of these configurations and seeds alone; the storage may hold more.

        Args:
            write: or else only find what is there.

        Raises:
            InputError: a configuration has other settings in the storage; a row is damaged, or was deleted.
        """
        plan = plans.plan(self._engine, self.study, configurations, seeds, write)
        self._planned = among(_ROW.point, plan.indices) & among(_ROW.seed, seeds)
        return plan

    def correct(self, old: Facts, new: Facts, configurations: Configurations) -> bool:
        """Put other facts and configurations in the place of the study's while no trial is complete or pruned.

        All of its trials wait again, whoever owned them; False where one is complete, or others were quicker.
        """
        is_changed = plans.correct(self._engine, self.study, old, new, configurations)
        if is_changed:
            self._id = new.id
        return is_changed

    def other_settings(self, configurations: Configurations) -> list[str]:
        """Configurations whose settings in the storage are others, a phrase each."""
        return plans.other_settings(self._each, self.study, configurations)

    def assign(self, index: int, configuration: Configuration) -> Configuration:
        """Give an index of a sampled study its configuration, unless it has one; that which stands, for all seeds."""
        here = (POINTS.c.study == self.study) & (POINTS.c.point == index)
        text = plans.dump(configuration)
        with self._each.connect() as connection:
            connection.execute(sa.update(POINTS).where(here, POINTS.c.arm.is_(None)).values(arm=text))
            stored = connection.execute(sa.select(POINTS.c.arm).where(here)).scalar()
        return read_configuration(stored, f"study {self.study}: configuration {index}", self._space)

    # -- owning a trial ---------------------------------------------------------------------------------------------

    def claim(self) -> Trial | None:
        """Take the next waiting trial for this process; where none waits, one whose owner is gone; None where there is
        neither.

        Trials whose owner is gone for the fourth time become failed on the way.

        Raises:
            InputError: a row is damaged; the study was corrected since `facts` was read: others have its settings.
        """
        trial = self._claim(this_process())
        if trial is not None and self._id is not None:
            now = plans.facts(self._each, self.study)
            if now is None or now.id != self._id:
                self.release(trial)
                raise InputError(f"study {self.study}: its settings were corrected meanwhile; start this worker again")
        return trial

    def _claim(self, owner: Owner) -> Trial | None:
        width = 1
        while waiting := self._read(_ROW.state == "waiting", limit=width):
            chosen = secrets.choice(waiting)
            if trial := self._take(chosen, owner, chosen.lost_attempts):
                return trial
            width = min(4 * width, WIDEST)  # someone else was quicker, so there are several: spread out
        for running in self.watch():
            if not self._is_gone(running):
                continue
            if running.lost_attempts < MOST_LOST:
                if trial := self._take(running, owner, running.lost_attempts + 1):
                    return trial
            else:
                last = running.owner.host if running.owner else "an unknown machine"
                outcome = Outcome(reason=f"vanished {MOST_LOST + 1} times, last on {last}")
                values = {"state": "failed", "token": running.token + 1, "outcome": outcome.dump()}
                self._change(running, "running", _ROW.beat == running.heartbeat, **values)
        return None

    def _take(self, trial: Trial, owner: Owner, lost_attempts: int) -> Trial | None:
        token = trial.token + 1
        values = {"state": "running", "token": token, "beat": 0, "lost": lost_attempts, "holder": owner.dump()}
        if not self._change(trial, trial.state, _ROW.beat == trial.heartbeat, **values):
            return None
        return dataclasses.replace(
            trial, state="running", token=token, heartbeat=0, lost_attempts=lost_attempts, owner=owner
        )

    def watch(self) -> list[Trial]:
        """Look at all running trials once; to be called each `interval`. Returns them."""
        start = self._watch.clock()
        try:
            running = self._read(_ROW.state == "running")
        except Exception:
            self._watch.forget()
            raise
        self._watch.look([(trial.key, trial.pulse) for trial in running], start)
        return running

    def _is_gone(self, trial: Trial) -> bool:
        return (trial.owner is not None and is_dead(trial.owner)) or self._watch.is_silent(trial.key, trial.pulse)

    def beat(self, trial: Trial) -> bool:
        """Show that this trial's owner is alive; False where it isn't its owner any more."""
        return self._change(trial, "running", beat=_ROW.beat + 1)

    def finish(self, trial: Trial, state: str, outcome: Outcome, results: bytes | None = None) -> bool:
        """End a trial in one of the `FINISHED` states; False where this isn't its owner any more."""
        assert state in FINISHED, state
        changed = self._change(trial, "running", state=state, outcome=outcome.dump(), results=results)
        return changed or self._is_done(trial, state=state)

    def release(self, trial: Trial) -> bool:
        """Give a trial back, to be claimed again; False where this isn't its owner any more."""
        return self._change(trial, "running", state="waiting", holder=None) or self._is_done(trial, state="waiting")

    def lose(self, trial: Trial, outcome: Outcome) -> bool:
        """Its training vanished, killed by someone, while its owner is there: as if that had gone too.

        The trial is waiting again, or failed where it was lost for the fourth time; False where this isn't its owner
        any more.
        """
        if trial.lost_attempts >= MOST_LOST:
            reason = f"vanished {MOST_LOST + 1} times: {outcome.reason}"
            return self.finish(trial, "failed", outcome.model_copy(update={"reason": reason}))
        change = {"state": "waiting", "holder": None, "lost": trial.lost_attempts + 1}
        return self._change(trial, "running", **change) or self._is_done(trial, state="waiting")

    def number(self, trial: Trial, number: int) -> bool:
        """Write down Optuna's number in place of the one that `trial` has; False where `trial` is outdated."""
        is_seen = (_ROW.state != "waiting", _ROW.number.is_not_distinct_from(trial.number))
        return self._change(trial, None, *is_seen, number=number) or self._is_done(trial, number=number)

    def _change(self, trial: Trial, when: str | None, /, *conditions: sa.ColumnElement[bool], **values: Any) -> bool:
        """The one UPDATE: of the row of `trial` if it has its token still, is in the state `when`, and `conditions`."""
        if when is not None:
            conditions = (*conditions, _ROW.state == when)
        here = (self._row(*trial.key), _ROW.token == trial.token, *conditions)
        with self._each.connect() as connection:
            return connection.execute(sa.update(TRIALS).where(*here).values(**values)).rowcount == 1

    def _is_done(self, trial: Trial, **values: Any) -> bool:
        """Whether an earlier call, whose answer got lost, has made the change."""
        now = self.trial(*trial.key)
        return now.token == trial.token and all(getattr(now, key) == value for key, value in values.items())

    # -- reading ----------------------------------------------------------------------------------------------------

    def trials(self) -> list[Trial]:
        """All trials, in the order in which they are run; without their results."""
        return self._read()

    def trial(self, index: int, seed: int) -> Trial:
        """One trial as it stands now."""
        found = self._read(self._row(index, seed), planned=False)
        if not found:
            raise damaged(where(self.study, index, seed), "its row was deleted from the storage")
        return found[0]

    def results(self, index: int, seed: int) -> bytes | None:
        """The detections that `finish` was given."""
        with self._each.connect() as connection:
            return connection.execute(sa.select(_ROW.results).where(self._row(index, seed))).scalar()

    def unfinished(self) -> int:
        """How many trials are waiting or running."""
        query = sa.select(_ROW.state, sa.func.count()).where(_ROW.study == self.study, self._planned)
        with self._each.connect() as connection:
            counts = {row[0]: row[1] for row in connection.execute(query.group_by(_ROW.state))}
        if not counts.keys() <= {*OPEN, *FINISHED}:
            self.trials()  # raises an error that names it
        return sum(counts.get(state, 0) for state in OPEN)

    def retry_failed(self) -> int:
        """Let trials that failed or ended early be claimed again, as new ones; how many."""
        again = {"state": "waiting", "lost": 0, "holder": None, "number": None, "outcome": None, "results": None}
        here = (_ROW.study == self.study, self._planned, _ROW.state.in_(RETRIED))
        change = sa.update(TRIALS).where(*here).values(**again)
        with self._each.connect() as connection:
            return connection.execute(change).rowcount

    def _row(self, index: int, seed: int) -> sa.ColumnElement[bool]:
        return (_ROW.study == self.study) & (_ROW.seed == seed) & (_ROW.point == index)

    def _read(self, *conditions: sa.ColumnElement[bool], limit: int | None = None, planned: bool = True) -> list[Trial]:
        same = (POINTS.c.study == _ROW.study) & (POINTS.c.point == _ROW.point)
        columns = (_ROW.state, _ROW.token, _ROW.beat, _ROW.lost, _ROW.holder, _ROW.number, _ROW.outcome)
        query = sa.select(_ROW.point, _ROW.seed, POINTS.c.point.label("planned"), POINTS.c.arm, *columns)
        query = query.select_from(TRIALS.outerjoin(POINTS, same)).order_by(_ROW.seed, _ROW.point).limit(limit)
        query = query.where(_ROW.study == self.study, self._planned if planned else sa.true(), *conditions)
        with self._each.connect() as connection:
            return [read_trial(row, self.study, self._space) for row in connection.execute(query).all()]
