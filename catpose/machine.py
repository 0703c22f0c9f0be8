"""The machine that we run on."""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

#: The environment variable that says how many of the machine's cores are a process's, where others share them.
CORES = "CATPOSE_CORES"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: µs of processor time in each period of so many µs


def usable_cores() -> int:
    """How many processor cores this process may use: those it may run on, as many as its container has the time of, or
    its share of them, by `CORES`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        quota, period = map(int, _QUOTA.read_text(encoding="ascii").split())
        cores = min(cores, max(1, math.ceil(quota / period)))
    share = os.environ.get(CORES, "")
    return min(cores, max(1, int(share))) if share.isdecimal() else cores


def map_ahead(function: Callable[[Item], Made], items: Iterable[Item], n_threads: int) -> Iterator[Made]:
    """`function` of each item, in order, by threads that run two items each ahead; with none of them, one by one."""
    if not n_threads:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads) as threads:
        ahead: deque[Future[Made]] = deque()
        try:
            for item in items:
                ahead.append(threads.submit(function, item))
                if len(ahead) > 2 * n_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
