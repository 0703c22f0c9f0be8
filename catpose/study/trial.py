"""A trial, one training of one configuration with one seed, as it stands in a study's storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from catpose.errors import one_line
from catpose.study.owner import Pulse
from catpose.study.space import Configuration, NotInSpace, Space
from catpose.study.stored import LARGEST_NUMBER, Outcome, Owner, StoredConfiguration, damaged, read

OPEN = ("waiting", "running")
#: "early" has ended before all that its settings ask was trained. The column holds 8 letters.
FINISHED = ("complete", "pruned", "early", "failed")
#: Those that may be tried again.
RETRIED = ("early", "failed")

Key = tuple[int, int]  # of a trial: its configuration's index, its seed


@dataclass(frozen=True)
class Trial:
    """A trial as it stood when it was read."""

    configuration_index: int
    seed: int
    configuration: Configuration | None  # None while it is to be sampled
    state: str  # one of OPEN or FINISHED
    token: int = 0
    heartbeat: int = 0
    lost_attempts: int = 0
    owner: Owner | None = None  # who has or had it
    number: int | None = None  # Optuna's
    outcome: Outcome | None = None  # None where it isn't finished

    @property
    def key(self) -> Key:
        return self.configuration_index, self.seed

    @property
    def pulse(self) -> Pulse:
        return Pulse(self.token, self.heartbeat)

    @property
    def reason(self) -> str | None:
        """Why it isn't complete, where that was written down."""
        return self.outcome.reason if self.outcome else None


def where(study: str, index: object, seed: object) -> str:
    """How messages name a trial."""
    return f"study {study}: trial of configuration {one_line(index)[:20]}, seed {one_line(seed)[:20]}"


def read_trial(row: Any, study: str, space: Space | None) -> Trial:
    """The trial of a row of the tables: `planned` is None where its configuration has none, `arm` the configuration.

    Raises:
        InputError: the row is damaged, or its configuration isn't in the space.
    """
    here = where(study, row.point, row.seed)
    if row.planned is None:
        raise damaged(here, "the row of its configuration was deleted from the storage")
    if row.state not in (*OPEN, *FINISHED):
        raise damaged(here, f"its state is {ascii(row.state)[:40]}, which there is none of")
    for column in ("point", "seed", "token", "beat", "lost", "number"):
        value = getattr(row, column)
        if (type(value) is not int or not 0 <= value <= LARGEST_NUMBER) and (column, value) != ("number", None):
            raise damaged(here, f"{column} is {ascii(value)[:40]}, no whole number")
    return Trial(
        configuration_index=row.point,
        seed=row.seed,
        configuration=None if row.arm is None else read_configuration(row.arm, here, space),
        state=row.state,
        token=row.token,
        heartbeat=row.beat,
        lost_attempts=row.lost,
        owner=None if row.holder is None else read(Owner, row.holder, f"{here}: holder"),
        number=row.number,
        outcome=None if row.outcome is None else read(Outcome, row.outcome, f"{here}: outcome"),
    )


def read_configuration(text: Any, where: str, space: Space | None) -> Configuration:
    """A configuration of the tables, with the settings that the space gives it; believed where there is no space.

    Raises:
        InputError: as `read_trial`.
    """
    stored = read(StoredConfiguration, text, f"{where}: arm")
    if space is None:
        return Configuration(stored.label, dict(stored.params), tuple(stored.args or ()))
    try:
        return space.stored(stored.params, stored.args)
    except NotInSpace as error:
        raise damaged(f"{where}: arm", str(error)) from None
