"""Thousands of made-up files a minute, read in child processes: what a stranger's file may not do is a finding.

A child is forked from a parent that has imported all, reads many inputs, and tells how each ended. A signal, a gigabyte
of address space, an error that is no InputError, an unclear line and a reading that takes too long are findings; so is
running out of memory that was then reported as bad input.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from catpose.errors import InputError

BATCH = 100  # inputs of one child
MOST_MEMORY = 2**30  # bytes of address space, beside eight times the input
MOST_SECONDS = 20.0  # of CPU time for one input; on an idle machine the slowest takes three
LONGEST_LINE = 1000


@dataclass(frozen=True)
class Target:
    """What is fuzzed: a maker of inputs, by a random generator, and a reader of the file that holds one."""

    make: Callable[[random.Random], bytes]
    read: Callable[[Path], object]
    name: str  # of the file


def fuzz(kind: str, target: Target, folder: Path, seconds: float) -> tuple[int, int, list[str]]:
    """Try inputs 0, 1, 2, … of a kind until the time is up.

    Returns:
        how many inputs were tried; how many of them were taken as sound; a line for each finding, with the input's
        number, by which `random.Random(f"{kind} {number}")` makes it again.
    """
    tried, taken, findings = 0, 0, []
    until = time.monotonic() + seconds
    while not tried or (time.monotonic() < until and len(findings) < 10):  # one at least, however slow the machine
        there, sound, found = _batch(kind, target, folder, tried, until)
        tried, taken, findings = tried + there, taken + sound, findings + found
    return tried, taken, findings


def _batch(kind: str, target: Target, folder: Path, first: int, until: float) -> tuple[int, int, list[str]]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _child(kind, target, folder, first, until, writing)
        except BaseException:  # the harness's own
            os.write(writing, f"{json.dumps([first, 'broken', traceback.format_exc()[-900:]])}\n".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        ends = [json.loads(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    findings = [f"{kind} {number}: {what}" for number, end, what in ends if end in ("broken", "found")]
    finished = [number for number, end, _ in ends if end != "begun"]
    begun = [number for number, end, _ in ends if end == "begun"]
    if os.WIFSIGNALED(status):
        what = signal.Signals(os.WTERMSIG(status)).name
        slow = f" (more than {MOST_SECONDS} s)" if what == "SIGPROF" else ""
        findings.append(f"{kind} {begun[-1] if begun else first}: ended by {what}{slow}")
    return len(begun), len(finished) - len(findings) - sum(end == "refused" for _, end, _ in ends), findings


def _child(kind: str, target: Target, folder: Path, first: int, until: float, pipe: int) -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.disable()  # the parent tells of signals

    def tell(number: int, end: str, what: str = "") -> None:
        os.write(pipe, f"{json.dumps([number, end, what])}\n".encode())

    for number in range(first, first + BATCH):
        if number > first and time.monotonic() > until:
            return
        content = target.make(random.Random(f"{kind} {number}"))
        file = folder / target.name
        file.write_bytes(content)
        tell(number, "begun")
        before = _peak()
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        end, what = "sound", ""
        try:
            target.read(file)
        except InputError as error:
            end, what = "refused", _unclear(error)
        except BaseException:
            end, what = "found", traceback.format_exc()[-900:]
        signal.setitimer(signal.ITIMER_PROF, 0)
        took = _peak() - before
        if took > MOST_MEMORY + 8 * len(content):
            what = f"took {took / 2**30:.1f} GiB"
        tell(number, "found" if what else end, what)


def _unclear(error: BaseException) -> str:
    """What is wrong with an InputError's line; memory that ran out on the way is no bad input."""
    line, behind = str(error), error.__context__
    while behind is not None:
        if isinstance(behind, MemoryError) or "memory" in str(behind).lower():
            return f"ran out of memory: {line[:200]}"
        behind = behind.__context__
    if "\n" in line or len(line) > LONGEST_LINE:
        return f"not one clear line: {line[:300]!r}"
    return ""


def _peak() -> int:
    """The largest address space that this process has had, bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmPeak:")[1].split()[0]) * 1024
