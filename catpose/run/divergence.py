"""A training that diverged, or overflowed half precision, ends in one line before a checkpoint is made of it."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from catpose.errors import InputError
from catpose.run.directory import RunDirectory

log = logging.getLogger("catpose")

HALF = ("16-mixed", "16-true")  # float16; bfloat16 reaches as far as float32


class Divergence(Callback):
    """Looks at the training loss and the weights before `BestAndLast`, which Lightning calls last, saves them.

    A validation loss that isn't finite is said, and no end: the training may well come through, but that validation's
    keypoints mean nothing.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._require_finite(trainer, pl_module, pl_module.train_loss.compute())  # type: ignore[operator,union-attr]
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val") and name.endswith("/loss") and not value.isfinite():
                log.warning(
                    "%s is %g after epoch %d, so that its AP says nothing; %s",
                    *(name, float(value), trainer.current_epoch, remedy(trainer)),
                )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._require_finite(trainer, pl_module, trainer.callback_metrics.get("train/loss"))

    def _require_finite(self, trainer: pl.Trainer, model: pl.LightningModule, loss: Tensor | None) -> None:
        what = None
        broken = next((name for name, value in model.state_dict().items() if not value.isfinite().all()), None)
        if loss is not None and not torch.isfinite(loss):
            what = f"the training loss is {float(loss)}"
        elif broken:
            what = f"{broken} holds NaN or infinity"
        if not trainer.strategy.reduce_boolean_decision(what is None):  # all processes end together
            raise InputError(
                f"{self.run.path}: {what or 'another process has NaN or infinity'} in epoch {trainer.current_epoch};"
                f" {remedy(trainer)} (no checkpoint was made of this epoch)"
            )


def remedy(trainer: Any) -> str:
    """What to do about values that aren't finite, in the trainer's precision."""
    if trainer.precision in HALF:
        return f"trainer.precision {trainer.precision} ends at 65504: set bf16-mixed or 32-true, or lower model.lr"
    return "lower model.lr or lengthen model.warmup_iterations"
