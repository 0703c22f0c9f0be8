"""Callbacks for tests that disturb a run: they wait for them, so that no machine is too quick."""

from __future__ import annotations

import itertools
import os
import signal
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from catpose.files import atomic_write
from catpose.run import checkpoint_writer


class Held(pl.Callback):
    """Waits before the second batch of the second epoch where $HELD names a folder, until a file `go` is in it.

    Each process tells by a file of its rank that it has come there.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        folder = os.environ.get("HELD")
        if folder and (trainer.current_epoch, batch_idx) == (1, 1):
            (Path(folder) / str(trainer.global_rank)).touch()
            while not (Path(folder) / "go").exists():
                time.sleep(0.02)


class SlowDisk(pl.Callback):
    """Checkpoints take a third of a second to write, about an epoch of a small model, of which the third is the best.

    $KILLED, "2 7" for example, kills the process in the second of its writes, after the seventh of the pieces.
    """

    def setup(self, *_: Any, **__: Any) -> None:
        checkpoint_writer.write_serialised = _written_slowly

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("val/AP", 0.8 - abs(trainer.current_epoch - 2) / 10)


PIECES = 20
_writes = itertools.count(1)


def _written_slowly(content: BytesIO, path: Path) -> None:
    number = next(_writes)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        data = content.getbuffer()
        for i in range(PIECES + 1):
            if os.environ.get("KILLED") == f"{number} {i}":
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(data[i * len(data) // PIECES : (i + 1) * len(data) // PIECES])
            file.flush()
            time.sleep(1 / 3 / PIECES)
