"""How a run ends before its last epoch: with a whole epoch, and once; or at once, by a signal."""

from __future__ import annotations

import logging
import signal
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from catpose.run.directory import RunDirectory

log = logging.getLogger("catpose")


class EndedBySIGTERM(Callback):
    """Ends a run before its next batch once its first process was sent SIGTERM, all processes together.

    Lightning passes the signal on by a broadcast from within its handler, which crosses with what the processes are
    exchanging where more than one was sent it, as SLURM does. Here the others leave it to the first.
    """

    def __init__(self) -> None:
        self.sent = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signal.signal(signal.SIGTERM, self._note)  # in the place of Lightning's, which puts back what was there before

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if _of_the_first(self.sent, trainer):
            raise SIGTERMException

    def _note(self, *_: Any) -> None:
        self.sent = True


def _of_the_first(value: bool, trainer: pl.Trainer) -> bool:
    """A truth value of the first process, in all of them."""
    if trainer.world_size == 1:
        return value
    flag = torch.tensor(int(value), device=trainer.strategy.root_device)
    torch.distributed.broadcast(flag, src=0)
    return bool(flag)


class WholeEpochs(Callback):
    """Ends a run with an epoch, whoever asks for it, and keeps a run that its settings ended from going on.

    `trainer.max_time` and callbacks may stop a run within an epoch, which Lightning then counts as finished, and which
    would be compared with whole ones: their wish is granted at the epoch's end. It stands in the checkpoint, so that
    the same command finds a finished run. A file named `stop` in the run's directory ends the run with its epoch too,
    and the same command goes on after that.

    Args:
        renewed: go on with a run that has ended, since its settings are others now.
    """

    def __init__(self, run: RunDirectory, renewed: bool) -> None:
        self.run, self.renewed = run, renewed
        self.wished = False  # within this epoch
        self.requested = False  # by the file

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if checkpoint.get("ended") and not trainer.strategy.broadcast(self.renewed):
            trainer.should_stop = True  # before the first batch

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["ended"] = trainer.should_stop and not self.requested

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.wished = False

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._put_off(trainer)

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._put_off(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wished:
            trainer.should_stop = True
        if trainer.strategy.broadcast(self.run.stop.exists()):
            trainer.should_stop = self.requested = True
            log.info("stopped after epoch %d, as asked", trainer.current_epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.run.stop.unlink(missing_ok=True)

    def _put_off(self, trainer: pl.Trainer) -> None:
        if (
            trainer.should_stop
            and not trainer.sanity_checking
            and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        ):
            self.wished, trainer.should_stop = True, False
