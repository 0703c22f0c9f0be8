"""Who holds which trial: one row per (study, point, seed) in an SQL table, and the state machine of its life.

    state     change                                  becomes                     fields
    -------   -------------------------------------   -------------------------   ------------------------------------
    (none)    plan(): anyone                          waiting                     token 0, lost 0
    waiting   claim(): anyone, the claimer holds it   running                     token + 1, holder, beat 0
    running   beat(): its holder                      running                     beat + 1
    running   finish(): its holder                    complete, pruned, failed    outcome, results
    running   release(): its holder, told to stop     waiting                     nothing is counted
    running   lose(): its holder, whose training     waiting, or failed          lost + 1
              was killed by someone
    running   claim(): anyone, the holder is gone     running                     token + 1, holder, beat 0, lost + 1
    running   claim(): the same, lost for the 4th     failed                      token + 1, outcome "vanished 4 times"
              time
    failed    retry_failed(): the user                waiting                     lost 0, outcome and number erased

**Exact.** Each change is one UPDATE that names the state and the token it was decided on (a claim the beat too), and it
happened if and only if one row changed. SQLite, PostgreSQL and MySQL alike do the UPDATEs of a row one after the other,
and look at the condition when its turn comes; so of any number of claimers one wins.

**Fenced.** The token counts the holders. Whoever was taken for dead and comes back has an old token: its beat, finish
and release change nothing and say False, upon which it ends its training and writes nothing. A change whose answer was
lost with the connection may be repeated by its holder: where it is done already, it says True again.

**Gone** is a holder on this machine whose process is dead: at once. Any other one is gone when its beat stood still
while the claimer watched for `grace` seconds without a break, on the claimer's own clock. No clocks of two machines are
compared, and a beat is a count, not a time. A poll that fails or comes late breaks the watch: when the database was
away, nobody could beat, and nobody looks dead for it.

All points are planned ahead. Those of a grid with their arms, those of a sampled study without; `settle` gives such a
point its arm, the first one wins. Trials are run seed by seed, and by point within a seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, IntegrityError

from catpose.errors import InputError
from catpose.study.holder import is_dead, this_process

FINISHED = ("complete", "pruned", "failed")
#: So often a trial is taken over; when its holder vanishes once more it has failed.
MOST_LOST = 3
#: A holder beats, and others look, so often within `grace` seconds.
BEATS = 6
#: Of the waiting rows so many are looked at, at most, to get out of each other's way.
WIDEST = 256
#: Creating tables or rows at the same moment as others is tried so often.
TRIES = 20

_METADATA = sa.MetaData()
# MySQL compares text without regard to case unless told, and its TEXT and BLOB end at 64 KB.
_NAME = sa.String(255).with_variant(mysql.VARCHAR(255, collation="utf8mb4_bin"), "mysql")
_JSON = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
_BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
POINTS = sa.Table(
    "catpose_points",
    _METADATA,
    sa.Column("study", _NAME, primary_key=True),
    sa.Column("point", sa.Integer, primary_key=True),
    sa.Column("arm", _JSON),
)
STUDIES = sa.Table(
    "catpose_studies",
    _METADATA,
    sa.Column("study", _NAME, primary_key=True),
    sa.Column("facts", _JSON, nullable=False),
)
TRIALS = sa.Table(
    "catpose_trials",
    _METADATA,
    sa.Column("study", _NAME, primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True),  # before the point: the key's order is the order of trials
    sa.Column("point", sa.Integer, primary_key=True),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("beat", sa.Integer, nullable=False),
    sa.Column("lost", sa.Integer, nullable=False),
    sa.Column("holder", _JSON),
    sa.Column("number", sa.Integer),
    sa.Column("outcome", _JSON),
    sa.Column("results", _BYTES),
)
_ROW = TRIALS.c


@dataclass(frozen=True)
class Trial:
    """A trial as it stood when it was read.

    `arm` is {"label": str, "params": dict, "words": list[str]}, None while it is to be sampled; `holder` is who has or
    had it (`this_process`); `number` is Optuna's; `outcome` is what its training came to.
    """

    point: int
    seed: int
    arm: dict[str, Any] | None
    state: str
    token: int
    beat: int
    lost: int
    holder: dict[str, Any] | None
    number: int | None
    outcome: dict[str, Any] | None


@dataclass(frozen=True)
class _Seen:
    """A trial that had this token and beat whenever it was looked at from `since` to `until`, without a break."""

    token: int
    beat: int
    since: float
    until: float


class Ledger:
    """The trials of one study. May be used by several threads, and on both sides of a fork made while none is at it.

    Every method may raise `sqlalchemy.exc.DBAPIError` when the database is away; it may then be called again.

    Args:
        engine: of the database, as `storage.open_engine` makes it: no connection is kept between calls.
        study: its name.
        grace: seconds of standing still after which a holder is gone.
        clock: monotonic seconds.
    """

    def __init__(
        self, engine: sa.Engine, study: str, grace: float = 120.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.study, self.grace = study, grace
        self.interval = grace / BEATS
        self._clock = clock
        self._engine = engine
        self._each = engine.execution_options(isolation_level="AUTOCOMMIT")  # a statement is a transaction
        # When was looked last, and what was seen; replaced as a whole, never changed, since threads share it.
        self._watched: tuple[float, dict[tuple[int, int], _Seen]] = (-math.inf, {})
        _create_tables(engine)

    def facts(self, new: dict[str, Any]) -> dict[str, Any]:
        """What was written down of the study when it was created; `new`, where that is now. The first one wins."""
        query = sa.select(STUDIES.c.facts).where(STUDIES.c.study == self.study)
        with self._each.connect() as connection:
            known = connection.execute(query).scalar()
            if known is None:
                with contextlib.suppress(IntegrityError):
                    connection.execute(sa.insert(STUDIES).values(study=self.study, facts=_dump(new)))
                known = connection.execute(query).scalar_one()
        return json.loads(known)

    # -- the plan ---------------------------------------------------------------------------------------------------

    def plan(self, points: Sequence[dict[str, Any] | None], seeds: Sequence[int]) -> None:
        """Write down the trials that aren't yet; any number of processes may do so at once, and again.

        Raises:
            InputError: a point has another arm already: the space was changed under the study's name.
        """
        arms = [None if arm is None else _dump(arm) for arm in points]
        for attempt in range(TRIES):
            new_points, new_trials = self._missing(arms, seeds)
            if not new_points and not new_trials:
                return
            try:
                with self._engine.begin() as connection:
                    for table, rows in ((POINTS, new_points), (TRIALS, new_trials)):
                        if rows:  # the first by itself: there the others wait, instead of failing in a batch
                            connection.execute(sa.insert(table), rows[0])
                        if rows[1:]:
                            connection.execute(sa.insert(table), rows[1:])
                return
            except DBAPIError as error:  # others were quicker (in MySQL perhaps in a deadlock): look again
                if attempt == TRIES - 1 or not (isinstance(error, IntegrityError) or "eadlock" in str(error.orig)):
                    raise

    def _missing(
        self, arms: Sequence[str | None], seeds: Sequence[int]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        with self._each.connect() as connection:
            query = sa.select(POINTS.c.point, POINTS.c.arm).where(POINTS.c.study == self.study)
            known = {row.point: row.arm for row in connection.execute(query)}
            keys = sa.select(_ROW.point, _ROW.seed).where(_ROW.study == self.study)
            planned = {(row.point, row.seed) for row in connection.execute(keys)}
        is_grid = any(arm is not None for arm in arms)
        if is_grid and known and known != dict(enumerate(arms)):
            raise InputError(
                f"study {self.study}: its storage holds a plan with another space; give the study another name, or put"
                " the space back as it was"
            )
        return (
            [{"study": self.study, "point": p, "arm": arm} for p, arm in enumerate(arms) if p not in known],
            [
                {"study": self.study, "point": p, "seed": s, "state": "waiting", "token": 0, "beat": 0, "lost": 0}
                for s in seeds
                for p in range(len(arms))
                if (p, s) not in planned
            ],
        )

    def settle(self, point: int, arm: dict[str, Any]) -> dict[str, Any]:
        """Give a sampled point its arm, unless it has one; the arm that stands, for all seeds."""
        here = (POINTS.c.study == self.study) & (POINTS.c.point == point)
        with self._each.connect() as connection:
            connection.execute(sa.update(POINTS).where(here, POINTS.c.arm.is_(None)).values(arm=_dump(arm)))
            return json.loads(connection.execute(sa.select(POINTS.c.arm).where(here)).scalar_one())

    # -- holding a trial --------------------------------------------------------------------------------------------

    def claim(self, me: dict[str, Any] | None = None) -> Trial | None:
        """Take the next waiting trial; where none waits, one whose holder is gone; None where there is neither.

        Trials whose holder is gone for the fourth time become failed on the way.

        Args:
            me: who takes it; this process unless given.
        """
        holder = this_process() if me is None else me
        width = 1
        while waiting := self._read(_ROW.state == "waiting", limit=width):
            chosen = secrets.choice(waiting)
            if taken := self._take(chosen, holder, chosen.lost):
                return taken
            width = min(4 * width, WIDEST)  # someone else was quicker, so there are several: spread out
        for trial in self.watch():
            if not self._is_gone(trial):
                continue
            if trial.lost < MOST_LOST:
                if taken := self._take(trial, holder, trial.lost + 1):
                    return taken
            else:
                outcome = {"reason": f"vanished {MOST_LOST + 1} times, last on {(trial.holder or {}).get('host')}"}
                values = {"state": "failed", "token": trial.token + 1, "outcome": _dump(outcome)}
                self._change(trial, "running", _ROW.beat == trial.beat, **values)
        return None

    def _take(self, trial: Trial, holder: dict[str, Any], lost: int) -> Trial | None:
        new: dict[str, Any] = {"state": "running", "token": trial.token + 1, "beat": 0, "lost": lost}
        won = self._change(trial, trial.state, _ROW.beat == trial.beat, holder=_dump(holder), **new)
        return dataclasses.replace(trial, holder=holder, **new) if won else None

    def watch(self) -> list[Trial]:
        """Look at all running trials once; to be called each `interval`. Returns them."""
        start = self._clock()
        try:
            running = self._read(_ROW.state == "running")
        except Exception:
            self._watched = (-math.inf, {})
            raise
        end = self._clock()
        polled, before = self._watched
        if end - polled > 2.5 * self.interval:
            before = {}
        now = {}
        for trial in running:
            seen = before.get((trial.point, trial.seed))
            same = seen is not None and (seen.token, seen.beat) == (trial.token, trial.beat)
            since = seen.since if seen is not None and same else end
            now[trial.point, trial.seed] = _Seen(trial.token, trial.beat, since, until=start)
        self._watched = (end, now)
        return running

    def _is_gone(self, trial: Trial) -> bool:
        if trial.holder is not None and is_dead(trial.holder):
            return True
        seen = self._watched[1].get((trial.point, trial.seed))
        same = seen is not None and (seen.token, seen.beat) == (trial.token, trial.beat)
        return seen is not None and same and seen.until - seen.since >= self.grace

    def beat(self, trial: Trial, holder: dict[str, Any] | None = None) -> bool:
        """Say that this trial's holder is alive; False where it isn't its holder any more.

        Args:
            trial: as claimed.
            holder: what is to be known of the holder from now on (its child's process group, say).
        """
        more = {} if holder is None else {"holder": _dump(holder)}
        return self._change(trial, "running", beat=_ROW.beat + 1, **more)

    def finish(self, trial: Trial, state: str, outcome: dict[str, Any], results: bytes | None = None) -> bool:
        """End a trial as "complete", "pruned" or "failed"; False where this isn't its holder any more."""
        assert state in FINISHED, state
        changed = self._change(trial, "running", state=state, outcome=_dump(outcome), results=results)
        return changed or self._is_done(trial, state=state)

    def release(self, trial: Trial) -> bool:
        """Give a trial back, to be claimed again; False where this isn't its holder any more."""
        return self._change(trial, "running", state="waiting", holder=None) or self._is_done(trial, state="waiting")

    def lose(self, trial: Trial, outcome: dict[str, Any]) -> bool:
        """Its training vanished, killed by someone, while its holder is there: as if that had gone too.

        The trial is waiting again, or failed where it was lost for the fourth time; False where this isn't its holder
        any more.
        """
        if trial.lost >= MOST_LOST:
            return self.finish(
                trial, "failed", outcome | {"reason": f"vanished {MOST_LOST + 1} times: {outcome['reason']}"}
            )
        change = {"state": "waiting", "holder": None, "lost": trial.lost + 1}
        return self._change(trial, "running", **change) or self._is_done(trial, state="waiting")

    def number(self, trial: Trial, number: int) -> bool:
        """Write down Optuna's number in place of the one that `trial` has; False where `trial` is outdated."""
        is_seen = (_ROW.state != "waiting", _ROW.number.is_not_distinct_from(trial.number))
        return self._change(trial, None, *is_seen, number=number) or self._is_done(trial, number=number)

    def _change(self, trial: Trial, when: str | None, /, *conditions: sa.ColumnElement[bool], **values: Any) -> bool:
        """The one UPDATE: of the row of `trial` if it has its token still, is in the state `when`, and `conditions`."""
        if when is not None:
            conditions = (*conditions, _ROW.state == when)
        where = (self._row(trial.point, trial.seed), _ROW.token == trial.token, *conditions)
        with self._each.connect() as connection:
            return connection.execute(sa.update(TRIALS).where(*where).values(**values)).rowcount == 1

    def _is_done(self, trial: Trial, **values: Any) -> bool:
        """Whether an earlier call, whose answer got lost, has made the change."""
        now = self.trial(trial.point, trial.seed)
        return now.token == trial.token and all(getattr(now, key) == value for key, value in values.items())

    # -- reading ----------------------------------------------------------------------------------------------------

    def trials(self) -> list[Trial]:
        """All trials, in the order in which they are run; without their results."""
        return self._read()

    def trial(self, point: int, seed: int) -> Trial:
        """One trial as it stands now."""
        (trial,) = self._read(_ROW.point == point, _ROW.seed == seed)
        return trial

    def results(self, point: int, seed: int) -> bytes | None:
        """What `finish` was given to keep."""
        with self._each.connect() as connection:
            return connection.execute(sa.select(_ROW.results).where(self._row(point, seed))).scalar_one()

    def unfinished(self) -> int:
        """How many trials are waiting or running."""
        query = sa.select(sa.func.count()).where(_ROW.study == self.study, _ROW.state.not_in(FINISHED))
        with self._each.connect() as connection:
            return connection.execute(query).scalar_one()

    def retry_failed(self) -> int:
        """Let failed trials be claimed again, as new ones; how many."""
        again = {"state": "waiting", "lost": 0, "holder": None, "number": None, "outcome": None, "results": None}
        change = sa.update(TRIALS).where(_ROW.study == self.study, _ROW.state == "failed").values(**again)
        with self._each.connect() as connection:
            return connection.execute(change).rowcount

    def _row(self, point: int, seed: int) -> sa.ColumnElement[bool]:
        return (_ROW.study == self.study) & (_ROW.seed == seed) & (_ROW.point == point)

    def _read(self, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[Trial]:
        same = (POINTS.c.study == _ROW.study) & (POINTS.c.point == _ROW.point)
        columns = (_ROW.state, _ROW.token, _ROW.beat, _ROW.lost, _ROW.holder, _ROW.number, _ROW.outcome)
        query = sa.select(_ROW.point, _ROW.seed, POINTS.c.arm, *columns).join_from(TRIALS, POINTS, same)
        query = query.where(_ROW.study == self.study, *conditions).order_by(_ROW.seed, _ROW.point).limit(limit)
        with self._each.connect() as connection:
            rows = connection.execute(query).mappings().all()
        texts = ("arm", "holder", "outcome")
        return [Trial(**{**row, **{k: None if row[k] is None else json.loads(row[k]) for k in texts}}) for row in rows]


def _create_tables(engine: sa.Engine) -> None:
    for attempt in range(TRIES):
        try:
            return _METADATA.create_all(engine)
        except DBAPIError:  # another process has just created them; or it is a trouble that stays
            if attempt == TRIES - 1:
                raise
            time.sleep(0.05)


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
