"""Which trials a study has: one for each configuration and seed, written down once by any number of workers.

A configuration is known by its parameters. Its index says in which row of the storage it is, not its place in the file:
a grid may be given in another order, and choices and seeds may be added to it, or taken away and put back. Rows are
added only. Whatever the files of the workers ask for, the storage has a trial of every configuration with every seed;
what is missing of that was deleted by someone.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from catpose.errors import InputError, one_line
from catpose.study.space import Configuration
from catpose.study.stored import REMEDY, Facts, StoredConfiguration, damaged, read
from catpose.study.tables import POINTS, STUDIES, TRIALS, TRIES
from catpose.study.trial import Key
from catpose.text import first

#: The token at which a trial begins whose row was deleted: an earlier owner may still be there, with a lower one.
AGAIN = 1_000_000
_SHOWN = 4

#: Those of a grid; as many None as are to be sampled.
Configurations = Sequence[Configuration | None]


@dataclass(frozen=True)
class Plan:
    """Where in the storage the trials of a study are."""

    indices: tuple[int, ...]  # of the configurations asked for, in their order
    notes: tuple[str, ...]  # what is left out of it, and what was deleted, a line each
    new_configurations: dict[int, str | None]  # as JSON
    new_trials: tuple[Key, ...]
    deleted: frozenset[Key]  # those of them that the storage had before


def dump(configuration: Configuration | None) -> str | None:
    """The JSON text of a configuration."""
    return None if configuration is None else json.dumps(asdict(configuration), sort_keys=True)


def among(column: sa.ColumnElement[int], numbers: Sequence[int]) -> sa.ColumnElement[bool]:
    """A condition: the column is one of these numbers."""
    low, high = min(numbers, default=0), max(numbers, default=-1)
    return column.between(low, high) if len({*numbers}) == high - low + 1 else column.in_([*numbers])


def facts(each: sa.Engine, study: str, new: Facts | None = None) -> Facts | None:
    """What is written down of a study; `new` from now on where nothing is and something is given.

    Raises:
        InputError: it is damaged, or was deleted.
    """
    query = sa.select(STUDIES.c.facts).where(STUDIES.c.study == study)
    with each.connect() as connection:
        text = connection.execute(query).scalar()
        if text is None:
            is_planned = connection.execute(sa.select(POINTS.c.point).where(POINTS.c.study == study).limit(1)).first()
            text = connection.execute(query).scalar()  # others may have created it just now
            if is_planned and text is None:
                raise damaged(f"study {study}", "its row in catpose_studies was deleted from the storage")
        if text is None and new is not None:
            with contextlib.suppress(IntegrityError):
                connection.execute(sa.insert(STUDIES).values(study=study, facts=new.dump()))
            text = connection.execute(query).scalar_one()
    return None if text is None else read(Facts, text, f"study {study}: facts")


def plan(engine: sa.Engine, study: str, configurations: Configurations, seeds: Sequence[int], write: bool) -> Plan:
    """Write down the trials that aren't there yet, unless told not to.

    Raises:
        InputError: as `Ledger.plan`.
    """
    for attempt in range(TRIES):
        compared = _compared(study, *_rows(engine, study), configurations, seeds)
        if not write or not (compared.new_configurations or compared.new_trials):
            return compared
        try:
            _write(engine, study, compared)
            return compared
        except DBAPIError as error:  # others were quicker (in MySQL perhaps in a deadlock): look again
            if attempt == TRIES - 1 or not (isinstance(error, IntegrityError) or "eadlock" in str(error.orig)):
                raise
    raise AssertionError


def _write(engine: sa.Engine, study: str, plan: Plan) -> None:
    points = [{"study": study, "point": index, "arm": text} for index, text in plan.new_configurations.items()]
    trials = [
        {"study": study, "point": index, "seed": seed, "state": "waiting", "beat": 0, "lost": 0}
        | {"token": AGAIN if (index, seed) in plan.deleted else 0}
        for index, seed in plan.new_trials
    ]
    with engine.begin() as connection:
        for table, rows in ((POINTS, points), (TRIALS, trials)):
            if rows:  # the first by itself: there the others wait, instead of failing in a batch
                connection.execute(sa.insert(table), rows[0])
            if rows[1:]:
                connection.execute(sa.insert(table), rows[1:])


def correct(engine: sa.Engine, study: str, old: Facts, new: Facts, configurations: Configurations) -> bool:
    """As `Ledger.correct`, in one transaction, whose first statement keeps all others from the study's trials."""
    here, row = TRIALS.c.study == study, TRIALS.c
    known = STUDIES.c.study == study
    with engine.connect() as connection:
        connection.execute(sa.update(TRIALS).where(here).values(token=row.token + 1))  # fences whoever owns one
        text = connection.execute(sa.select(STUDIES.c.facts).where(known)).scalar()
        done = connection.execute(sa.select(row.point).where(here, row.state.in_(("complete", "pruned"))).limit(1))
        if done.first() is not None or text is None or read(Facts, text, f"study {study}: facts") != old:
            connection.rollback()
            return False
        connection.execute(sa.update(STUDIES).where(known).values(facts=new.dump()))
        again = {"state": "waiting", "beat": 0, "lost": 0, **dict.fromkeys(("holder", "number", "outcome", "results"))}
        connection.execute(sa.update(TRIALS).where(here).values(**again))
        indices = connection.execute(sa.select(POINTS.c.point).where(POINTS.c.study == study)).scalars().all()
        for index in indices:
            text = dump(configurations[index]) if index < len(configurations) else None
            changed = sa.update(POINTS).where(POINTS.c.study == study, POINTS.c.point == index)
            connection.execute(changed.values(arm=text))
        connection.commit()
    return True


def other_settings(engine: sa.Engine, study: str, configurations: Configurations) -> list[str]:
    """Stored configurations with other settings than those of the same parameters: `label: settings → settings`."""
    known = {_key(then): then for then in _stored(study, _rows(engine, study)[0]).values() if then is not None}
    pairs = [(now, known.get(_key(now))) for now in configurations if now is not None]
    return [
        f"configuration {now.label}: {_shown(then.args)} → {_shown(now.args)}"
        for now, then in pairs
        if then is not None and _differs(then, now)
    ]


def _differs(then: StoredConfiguration, now: Configuration) -> bool:
    return then.args is not None and (*then.args,) != now.args


def _shown(args: Sequence[str] | None) -> str:
    return one_line(" ".join(args or ()))[:80]


def _rows(engine: sa.Engine, study: str) -> tuple[dict[int, Any], set[Key]]:
    """Configurations as text by index, and all trials' keys; by one statement, so that they belong together."""
    points, trials = POINTS.c, TRIALS.c
    no_seed, no_arm = sa.cast(sa.null(), sa.BigInteger), sa.cast(sa.null(), sa.Text)
    both = sa.union_all(
        sa.select(points.point, no_seed.label("seed"), points.arm).where(points.study == study),
        sa.select(trials.point, trials.seed, no_arm.label("arm")).where(trials.study == study),
    )
    with engine.connect() as connection:
        rows = connection.execute(both).all()
    return {r.point: r.arm for r in rows if r.seed is None}, {(r.point, r.seed) for r in rows if r.seed is not None}


def _stored(study: str, texts: dict[int, Any]) -> dict[int, StoredConfiguration | None]:
    return {
        index: None if text is None else read(StoredConfiguration, text, f"study {study}: configuration {index}: arm")
        for index, text in sorted(texts.items())
    }


def _key(configuration: Configuration | StoredConfiguration) -> str:
    return json.dumps(configuration.params, sort_keys=True)


def _compared(
    study: str, texts: dict[int, Any], trials: set[Key], configurations: Configurations, seeds: Sequence[int]
) -> Plan:
    """What the storage holds against what is asked for."""
    orphans = sorted({index for index, _ in trials} - texts.keys())
    if orphans:
        where = f"study {study}: configuration {orphans[0]}"
        raise damaged(where, "its row was deleted from the storage, and its trials left")
    stored = _stored(study, texts)
    indices = _indices(study, stored, configurations)
    known_seeds = {seed for _, seed in trials}
    gaps = {*range(max(texts, default=-1) + 1)} - texts.keys()
    every = itertools.product(sorted({*known_seeds, *seeds}), sorted({*texts, *indices}))
    planned = {(index, seed) for index in {*texts, *gaps} for seed in known_seeds}
    deleted = frozenset(planned - trials)
    asked_for = frozenset(itertools.product(indices, seeds))
    new = {index: dump(c) for index, c in zip(indices, configurations, strict=True) if index not in texts}
    return Plan(
        indices=indices,
        notes=(*_left_out(study, stored, indices, known_seeds, seeds), *_deleted(study, asked_for & deleted)),
        new_configurations=new,
        new_trials=tuple((index, seed) for seed, index in every if (index, seed) not in trials),
        deleted=deleted,
    )


def _indices(
    study: str, stored: dict[int, StoredConfiguration | None], configurations: Configurations
) -> tuple[int, ...]:
    """The index of each configuration: the one that it has, or the next free one."""
    known: dict[str, int] = {}
    for index, then in stored.items():
        if then is not None:
            known.setdefault(_key(then), index)
    free = (index for index in itertools.count() if index not in stored)
    indices = []
    for place, now in enumerate(configurations):
        if now is None:
            indices.append(place)
            continue
        own = known.get(_key(now))
        then = None if own is None else stored[own]
        if then is not None and _differs(then, now):
            raise InputError(
                f"study {study}: its storage has configuration {now.label} with other settings"
                f" ({_shown(then.args)}, now {_shown(now.args)}); give the study another name with --name, or put them"
                " back"
            )
        indices.append(next(free) if own is None else own)
    return tuple(indices)


def _left_out(
    study: str,
    stored: dict[int, StoredConfiguration | None],
    indices: Sequence[int],
    known_seeds: set[int],
    seeds: Sequence[int],
) -> list[str]:
    """One line on what the storage holds and the study's file no longer asks for."""
    labels = [f"configuration {c.label}" for index, c in stored.items() if c is not None and index not in {*indices}]
    left = [*labels[:_SHOWN], *([f"{len(labels) - _SHOWN} more configurations"] if len(labels) > _SHOWN else [])]
    more = sorted(known_seeds - {*seeds})
    if more:
        left.append(f"seed{'s' if len(more) > 1 else ''} {first([*map(str, more)], _SHOWN)}")
    if not left:
        return []
    return [
        f"study {study}: left out of trials and report, since its file no longer asks for them: {', '.join(left)};"
        " the storage keeps their results"
    ]


def _deleted(study: str, deleted: frozenset[Key]) -> list[str]:
    if not deleted:
        return []
    some = [f"configuration {index}, seed {seed}" for index, seed in sorted(deleted)[:_SHOWN]]
    more = f" and {len(deleted) - _SHOWN} more" if len(deleted) > _SHOWN else ""
    return [
        f"study {study}: trials were deleted from its storage ({'; '.join(some)}{more}): they are to be run again; or"
        f" {REMEDY}"
    ]
