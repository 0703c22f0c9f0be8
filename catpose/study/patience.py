"""Calls to a database that may go away: trainings go on meanwhile, and what is to be written waits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from catpose.errors import one_line
from catpose.study.storage import AWAY

T = TypeVar("T")


class Stopped(Exception):
    """The worker is to stop while the database is away."""


class Patience:
    """Used by all threads of a process.

    Args:
        stopping: set when the process is to stop.
        log: prints a line.
    """

    def __init__(self, stopping: threading.Event, log: Callable[[str], None]) -> None:
        self._stopping, self._log = stopping, log
        self._away_since: float | None = None
        self._lock = threading.Lock()

    def call(self, function: Callable[[], T], tries_for: float = 0.0) -> T:
        """What `function` returns, tried until the database answers.

        Raises:
            Stopped: the process is to stop, and `tries_for` seconds are over.
        """
        start, pause = time.monotonic(), 0.2
        while True:
            try:
                result = function()
            except AWAY as error:
                self._is_away(error)
            else:
                self._is_back()
                return result
            if self._stopping.is_set() and time.monotonic() - start >= tries_for:
                raise Stopped
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 1.5, 5.0)

    def _is_away(self, error: Exception) -> None:
        with self._lock:
            if self._away_since is None:
                self._away_since = time.monotonic()
                why = one_line(getattr(error, "orig", None) or error.__cause__ or error)[:150]
                self._log(f"the storage is away ({why}); trials go on, their results wait")

    def _is_back(self) -> None:
        with self._lock:
            if self._away_since is not None:
                self._log(f"the storage is back after {time.monotonic() - self._away_since:.0f} s")
                self._away_since = None
