"""Batches of one, from which BatchNorm can't learn."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch.nn.modules.batchnorm import _BatchNorm

from catpose.errors import InputError


class BatchOfOne(Callback):
    """Says before the training what becomes of BatchNorm where a device's batch is a single sample.

    With a map of one pixel anywhere there is one value a channel, which torch refuses to normalise. With larger maps it
    trains, on statistics of single pictures, and then predicts with other ones.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """InputError where it couldn't train, a line where it can."""
        loader: Any = trainer.train_dataloader
        size = min(loader.batch_size, len(loader.sampler))
        synchronised = (torch.nn.SyncBatchNorm,) if trainer.world_size > 1 else ()
        norms = [m for m in pl_module.modules() if isinstance(m, _BatchNorm) and not isinstance(m, synchronised)]
        if size > 1 or not any(norm.training for norm in norms):
            return
        lone = "data.batch_size: 1" if loader.batch_size == 1 else "one labelled instance to train on"
        remedy = "give two or more, or a model without BatchNorm"
        if not _trains(pl_module, trainer, loader.dataset.input_size):
            raise InputError(f"{lone}, and maps of one pixel, leave BatchNorm nothing to learn from; {remedy}")
        rank_zero_info(f"{lone}: BatchNorm learns from one picture at a time, but predicts by means over all; {remedy}")


def _trains(model: pl.LightningModule, trainer: pl.Trainer, input_size: tuple[int, int]) -> bool:
    """Whether a single black crop goes through a model that trains; it is left as it was."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    crop = torch.zeros(1, input_size[1], input_size[0], 3, dtype=torch.uint8, device=model.device)
    try:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            model(crop)
    except ValueError:  # torch's: expected more than 1 value per channel when training
        return False
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    return True
