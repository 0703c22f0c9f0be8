"""`trainer.sync_batchnorm` for timm's networks."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers import convert_sync_batchnorm
from torch.nn import Module


class SyncedNorms(TorchSyncBatchNorm):
    """Lightning's, but for timm's BatchNorm layers that hold an activation: torch's own conversion drops it, and so
    trains another network than the checkpoint is read as.
    """

    def apply(self, model: Module) -> Module:
        return convert_sync_batchnorm(model)

    def revert(self, model: Module) -> Module:
        """The model as it is: outside a training of several processes these layers are plain ones."""
        return model
