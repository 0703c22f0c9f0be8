"""Which owners of trials are silent: whose heartbeat stood still while somebody watched without a break."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pulse:
    """What is seen of a running trial's owner: whose turn it is, and how often its heart has beaten."""

    token: int
    heartbeat: int


@dataclass(frozen=True)
class _Still:
    """A pulse that was the same whenever it was looked at from `since` to `until`, without a break."""

    pulse: Pulse
    since: float
    until: float


class Watch:
    """May be used by several threads.

    Args:
        grace: seconds of standing still after which an owner is silent.
        interval: seconds between two looks; where they are more than 2.5 times that, all begins anew.
        clock: monotonic seconds.
    """

    def __init__(self, grace: float, interval: float, clock: Callable[[], float]) -> None:
        self.grace, self.interval, self.clock = grace, interval, clock
        # When was looked last, and what was seen; replaced as a whole, never changed, since threads share it.
        self._seen: tuple[float, dict[tuple[int, int], _Still]] = (-math.inf, {})

    def forget(self) -> None:
        """A look failed: when the database was away, nobody could beat."""
        self._seen = (-math.inf, {})

    def look(self, pulses: Iterable[tuple[tuple[int, int], Pulse]], start: float) -> None:
        """Note the pulses of all running trials, by their keys, which were read from `start` until now."""
        end = self.clock()
        last, before = self._seen
        if end - last > 2.5 * self.interval:
            before = {}
        now = {}
        for key, pulse in pulses:
            seen = before.get(key)
            since = seen.since if seen is not None and seen.pulse == pulse else end
            now[key] = _Still(pulse, since, until=start)
        self._seen = (end, now)

    def is_silent(self, key: tuple[int, int], pulse: Pulse) -> bool:
        """Whether a trial's heartbeat has stood still for the grace period."""
        seen = self._seen[1].get(key)
        return seen is not None and seen.pulse == pulse and seen.until - seen.since >= self.grace
