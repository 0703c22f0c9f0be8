"""A trial's training: a `fit` in a process of its own, followed through its directory.

The child knows nothing of studies: it trains, and writes an epoch a row into metrics.csv. So a trial can be run by hand
with the line that the sweep prints, a crash takes nobody with it, several GPUs work as they do with `fit`, and the
storage's password never comes near a training.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from catpose.errors import TERMINATED
from catpose.fence import SUPERSEDED
from catpose.run.directory import RunDirectory
from catpose.study.claim import Claim
from catpose.study.outcome import Ended, epochs, failure, last_words, reason_of, result
from catpose.study.stored import Outcome

#: Seconds between two looks at a child.
POLL = 0.25
#: Seconds that a child has to stop by itself before it is killed.
PATIENCE = 30.0
#: Seconds that what it started has after it.
FAMILY_PATIENCE = 10.0

Stop = Literal["stopped", "fenced"]


@dataclass(frozen=True)
class Training:
    """A `fit` to be run until it ends or is to end.

    Args:
        args: those of its command line, with the claim's folder.
        claim: its files.
        metric: the one that judges it (`val/AP`).
        env: its environment.
        on_epoch: called with epoch and metric, once for each finished epoch; True ends the trial as pruned, with the
            epoch that has begun meanwhile: all of its processes can end together then.
        should_stop: whether it is to end, and why.
    """

    args: Sequence[str]
    claim: Claim
    metric: str
    env: Mapping[str, str]
    on_epoch: Callable[[int, float], bool]
    should_stop: Callable[[], Stop | None]

    def run(self) -> Ended:
        """Go on from what earlier claims of the trial have finished, until it ends.

        What they left and `fit` refuses at its door (a torn checkpoint, other settings) counts as not there: the
        training begins with what was left before that, at last anew.
        """
        claim = self.claim
        if self.should_stop() == "fenced" or not claim.stands():
            return Ended("fenced", Outcome())
        earlier = claim.earlier()
        kill_leftovers([claim.folder, *(other.folder for other in earlier)])
        left = [] if claim.folder.exists() else list(earlier)
        while True:
            taken = next((other for other in left if claim.take_up(other)), None)
            left = left[left.index(taken) + 1 :] if taken else []
            if taken:
                claim.replace([other for other in earlier if other not in (taken, *left[:1])])
                left = left[:1]  # the disk is bounded
            record = RunDirectory(claim.folder).record
            before = record.read_bytes() if taken else b""
            ended = self._run_once()
            if taken is None or not ended.is_refused or not record.exists() or record.read_bytes() != before:
                break  # else `fit` didn't even note that it had begun
            with claim.log.open("a", encoding="utf-8") as log:
                log.write(f"what {taken.folder.name} has left can't be gone on with; begun with what was before it\n")
            claim.drop()
        if ended.how in ("complete", "pruned", "early") and claim.stands():
            claim.replace(earlier)
        return ended

    def _run_once(self) -> Ended:
        start, claim = time.monotonic(), self.claim
        child, log_start = self._begin()
        why, seen, is_pruned = self._follow(child)
        if why is None and child.returncode in (-signal.SIGTERM, TERMINATED):
            time.sleep(1)  # SLURM tells all of a job's processes to end: perhaps the child heard it first
            why = self.should_stop()
        if why == "fenced" or child.returncode == SUPERSEDED or self._why_stop() == "fenced":
            return Ended("fenced", Outcome())
        for epoch, value in epochs(claim.folder, self.metric, seen):  # those since the last look
            self.on_epoch(epoch, value)
        seconds = round(time.monotonic() - start, 1)
        outcome = Outcome(run=str(claim.folder), command=line(self.args), seconds=seconds)
        if why == "stopped":
            return Ended("stopped", outcome)
        if child.returncode != 0:
            return failure(child.returncode, reason_of(claim.reason) or last_words(claim.log, log_start), outcome)
        return result(RunDirectory(claim.folder), self.metric, outcome, is_pruned)

    def _begin(self) -> tuple[subprocess.Popen[bytes], int]:
        """The process, and the byte of the log at which its lines begin."""
        claim = self.claim
        claim.log.parent.mkdir(parents=True, exist_ok=True)
        claim.reason.unlink(missing_ok=True)
        with claim.log.open("ab") as file:
            log_start = file.tell()
            child = subprocess.Popen(
                [sys.executable, "-m", "catpose.fit", *self.args],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**self.env, **claim.environment},
                start_new_session=True,  # Ctrl-C in a terminal is ours to pass on
                preexec_fn=die_with_parent,
            )
        return child, log_start

    def _follow(self, child: subprocess.Popen[bytes]) -> tuple[Stop | None, int, bool]:
        """Report a child's epochs until it ends, or end it: why, the last epoch reported, and whether it is pruned."""
        why: Stop | None = None
        seen, is_pruned = -1, False
        try:
            while child.poll() is None:
                why = self._why_stop()
                if why is not None:
                    break
                for epoch, value in epochs(self.claim.folder, self.metric, seen):
                    seen = epoch
                    if self.on_epoch(epoch, value) and not is_pruned:
                        is_pruned = True
                        RunDirectory(self.claim.folder).stop.touch()
                time.sleep(POLL)
        finally:
            if child.poll() is None:
                end(child, gently=why == "stopped")
            _end_family(child)
        return why, seen, is_pruned

    def _why_stop(self) -> Stop | None:
        return self.should_stop() or (None if self.claim.stands() else "fenced")


def line(args: Sequence[str]) -> str:
    """The command line that reproduces a trial."""
    return f"python -m catpose.fit {shlex.join(args)}"


def kill_leftovers(folders: Sequence[Path]) -> None:
    """Kill what still trains in a trial's folders on this machine: what an owner that died left behind."""
    outs, here = {f"--out={folder}" for folder in folders}, str(Path.cwd())
    for process in psutil.process_iter(["cmdline"]):  # None where it may not be read
        with contextlib.suppress(psutil.Error):
            is_ours = not outs.isdisjoint(process.info["cmdline"] or ())
            if is_ours and process.pid != os.getpid() and process.cwd() == here:
                process.kill()


def end(child: subprocess.Popen[bytes], gently: bool) -> None:
    """End a child that is still there: where gently, it has `PATIENCE` to end with what it has finished."""
    if gently:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _end_family(child: subprocess.Popen[bytes]) -> None:
    """Wait for the processes that a child has started, those of other GPUs for example, and kill the last of them."""
    until = time.monotonic() + FAMILY_PATIENCE
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(child.pid, 0)
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In the child, before it begins: be killed when the worker that started it dies, were it by kill -9 (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
