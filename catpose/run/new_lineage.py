"""A run that goes on under other settings, from the checkpoint of those before."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from catpose.model.pose import PoseModel


class NewLineage(Callback):
    """Gives a run that goes on under other settings the optimiser's of now; Lightning restores those of before.

    The schedule stands where the finished epochs have brought it, also where an epoch now has another number of steps.
    An optimiser of another kind begins without what the one before had gathered.

    Args:
        renewed: whether the settings are others. The first process tells all.
    """

    def __init__(self, renewed: bool) -> None:
        self.renewed = renewed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        ours = type(pl_module).configure_optimizers is PoseModel.configure_optimizers
        if not trainer.strategy.broadcast(self.renewed) or not ours:
            return
        now: Any = pl_module.configure_optimizers()
        groups, new_groups = trainer.optimizers[0].param_groups, now["optimizer"].param_groups
        if groups[0].keys() != new_groups[0].keys():
            trainer.optimizers[0].state.clear()
        scheduler: Any = trainer.lr_scheduler_configs[0].scheduler
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)  # of an epoch
        scheduler.last_epoch = trainer.current_epoch * steps
        scheduler.base_lrs = now["lr_scheduler"]["scheduler"].base_lrs
        scheduler._last_lr = [rate * scheduler.lr_lambdas[0](scheduler.last_epoch) for rate in scheduler.base_lrs]
        for group, new, rate in zip(groups, new_groups, scheduler._last_lr, strict=True):
            parameters = group["params"]
            group.clear()
            group.update(new, params=parameters, lr=rate)
