"""A callback for tests that need the same weights at validation whatever was trained before."""

from __future__ import annotations

import lightning.pytorch as pl


class FrozenNorms(pl.Callback):
    """Batch norm keeps its running statistics while training."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        for module in pl_module.modules():
            if "BatchNorm" in type(module).__name__:
                module.eval()
