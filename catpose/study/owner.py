"""Who owns a trial, and whether that is still there: by its process on this machine, by its heartbeat on any other."""

from __future__ import annotations

import math
import os
import socket
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from catpose.study.stored import Owner

#: Seconds that two readings of a process's start may differ by, where the system's clock was set between them.
CLOCK_S = 2.0


def this_process() -> Owner:
    """The owner that this process is."""
    return Owner(
        machine=_machine(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started_s=_started(psutil.Process()),
        job=os.environ.get("SLURM_JOB_ID"),
    )


def _machine() -> str:
    """What two processes have in common that can see each other by pid: this boot, and this namespace of pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _started(process: psutil.Process) -> float:
    """Seconds from the system's boot to a process's start, which setting the clock doesn't change."""
    boot = psutil.boot_time()
    return process.create_time() - boot


def is_dead(owner: Owner) -> bool:
    """Whether the owner was a process of this machine that is no more; False where that can't be said."""
    if owner.machine != _machine() or os.name != "posix":
        return False
    try:
        os.kill(owner.pid, 0)  # not psutil's pid_exists, for which processes that /proc hides are gone
        process = psutil.Process(owner.pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return True
        return owner.started_s is not None and abs(owner.started_s - _started(process)) > CLOCK_S
    except (ProcessLookupError, psutil.NoSuchProcess):
        return True
    except (OSError, psutil.Error):  # someone else's
        return False


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
