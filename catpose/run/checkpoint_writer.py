"""A run's `best.ckpt` and `last.ckpt`, written beside the training and only as often as it costs little."""

from __future__ import annotations

import copy
import io
import math
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import torch

from catpose.files import link_or_copy
from catpose.run.checkpoint_io import AtomicCheckpointIO, serialised, write_serialised
from catpose.run.directory import RunDirectory

#: What writing may take of a run: so many seconds, and beside them this share of its time.
ALLOWANCE_S, SHARE = 5.0, 0.02


class BackgroundCheckpointIO(AtomicCheckpointIO):
    """Serialises a checkpoint at once, and leaves it to a thread to put it on the disk.

    `best.ckpt` is kept in memory, without the optimiser's state, and goes with the next `last.ckpt`: before it, so that
    a kill in between costs no best model, and as one file of two names where both have the same weights. Lightning's
    AsyncCheckpointIO queues whatever it is given, which on a slow disk takes all memory; here the next waits.

    Args:
        run: whose two files these are; all others are written at once.
        seconds: from one write to the next, at least; None: as often as `ALLOWANCE_S` and `SHARE` allow.
    """

    clock = staticmethod(time.monotonic)

    def __init__(self, run: RunDirectory, seconds: float | None) -> None:
        self.run, self.seconds = run, seconds
        self._start = self.clock()
        self._began = -math.inf  # the last write
        self._spent = 0.0  # seconds, by the writes before that one
        self._best: dict[str, Any] | None = None  # newer than the file
        self._writing: futures.Future[float] | None = None

    def is_due(self) -> bool:
        """Whether an epoch's end is to be written. Raises as `check`."""
        self.check()
        now = self.clock()
        if self.seconds is not None:
            return now - self._began >= self.seconds
        spent = self._spent + (now - self._began if self._writing else 0.0)
        return spent <= ALLOWANCE_S + SHARE * (now - self._start)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Take in a checkpoint, which may change afterwards.

        Raises:
            InputError, Superseded: as `wait`.
        """
        if Path(path) == self.run.best:
            # On the model's own device: the next may be better still, and this one never leave it.
            self._best = copy.deepcopy({key: part for key, part in checkpoint.items() if key != "optimizer_states"})
        elif Path(path) == self.run.last:
            self.wait()
            self._began = self.clock()
            best, self._best = self._best, None
            is_best = best is not None and _same_model(best, checkpoint)
            contents = serialised(checkpoint), None if best is None or is_best else serialised(best)
            thread = futures.ThreadPoolExecutor(max_workers=1)  # one for each: none to be sent to another process
            self._writing = thread.submit(self._write, *contents, is_best)
        else:
            super().save_checkpoint(checkpoint, path)

    def check(self) -> None:
        """Raise what the last write failed with, if it has ended."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return once nothing is being written.

        Raises:
            InputError: a file can't be written, no space for example; what was there is as it was.
            Superseded: another has taken over from this process.
        """
        if self._writing is not None:
            futures.wait([self._writing])  # a Ctrl-C here leaves it to be waited for in `teardown`
            writing, self._writing = self._writing, None
            self._spent += writing.result() - self._began

    def teardown(self) -> None:
        """Lightning's last call, however a training ended; raises as `wait`."""
        self.wait()

    def _write(self, last: io.BytesIO, best: io.BytesIO | None, is_best: bool) -> float:
        """In the thread; returns when it was done."""
        if best is not None:
            write_serialised(best, self.run.best)
        write_serialised(last, self.run.best if is_best else self.run.last)
        if is_best:
            link_or_copy(self.run.best, self.run.last)
        return self.clock()


def _same_model(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two checkpoints are of one step, with the same weights: averaged ones may move after a validation."""
    a, b = one["state_dict"], other["state_dict"]
    if any(one[key] != other[key] for key in ("epoch", "global_step")) or a.keys() != b.keys():
        return False
    return all(torch.equal(a[name], b[name]) for name in a)
