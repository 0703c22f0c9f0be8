"""A callback for tests that disturb a run: it waits for them, so that no machine is too quick."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl


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
