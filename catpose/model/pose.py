"""A pose model: crops to keypoints, and how it is trained. One subclass per backbone."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import MeanMetric

from catpose.errors import InputError
from catpose.model.codec import Codec, MSRAHeatmap
from catpose.model.head import HEATMAP_STRIDE
from catpose.model.layers import parameter_groups
from catpose.model.normalisation import config_of, described, normalisation, with_normalisation
from catpose.model.schedule import depends_on_the_end, lr_factor, require, require_schedule
from catpose.model.stored import stored_model
from catpose.model.weights import load_weights
from catpose.skeleton import AP10K, Skeleton

Batch = dict[str, Tensor]

#: Every backbone's deepest map has a whole number of pixels where the crop's sides are multiples of this, px.
SIZE_STEP = 32

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
}

#: Fields of a batch that its predictions carry, so that results need no second join.
CARRIED = ("annotation_id", "image_id", "category_id", "box", "area")


class Mean(MeanMetric):
    """A mean in float32; torchmetrics' takes torch's default type at the time Lightning last moved it."""

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32


class PoseModel(pl.LightningModule):
    """A backbone, a head, a codec, and the training of the three.

    A subclass makes its backbone and head and hands them to `super().__init__`, with its other arguments passed
    through as `**kwargs`; its signature and this one are its settings.

    Args:
        backbone: (B, 3, H, W) to its feature map, or to a list with the map last. Its `pretrained_cfg`, which timm's
            networks have, tells the mean and std that pictures are scaled by; else they are ImageNet's.
        head: the feature map to (B, K, H/4, W/4), a heatmap a keypoint, such as `DeconvolutionHead`. It is told K by
            `set_outputs(K)`, where it has that.
        codec: how keypoints become heatmaps and heatmaps keypoints.
        weights: what the model starts from: "imagenet" (timm's, from the network or its cache), a file, null (random).
        optimizer: adam, adamw or adamax, with torch's other defaults.
        lr: the learning rate after the warm-up, for a global batch of `global_batch_size`.
        weight_decay: of all parameters; decoupled with adamw, L2 otherwise.
        decay_all: of `weight_decay`; false spares biases, norms' parameters, embeddings and class tokens, as the
            recipes of transformers do.
        layer_decay: factor on the learning rate from each of the backbone's layers to the one before it, so that the
            first ones keep more of what they came with: 1 for one rate, 0.8 in ViTPose's S, 0.75 in its B.
        warmup_iterations: optimiser steps of linear warm-up, or below 1 a share of the run's; 0 for none.
        warmup_ratio: the part of the learning rate that the warm-up starts from, 0 to 1.
        schedule: "multistep", or "cosine" to 0 at the run's end.
        cosine_from: the part of the run after which the cosine falls, 0 to 1; RTMPose has 0.5. Cosine only.
        milestones: epochs (from 0) at whose start the learning rate is multiplied by `gamma`, or below 1 shares of the
            run, such as [0.8, 0.95]; multistep only.
        gamma: see `milestones`.
        global_batch_size: crops per optimiser step, over all devices, that `lr` belongs to.
        scale_lr: multiply `lr` by the run's global batch over `global_batch_size` (Goyal et al., "Accurate, Large
            Minibatch SGD", 2017), rather than only say that they differ.
        freeze_norm_statistics: normalise by the means and variances that the backbone's BatchNorm layers came with, in
            training too, rather than by those of each batch; their scale and shift still learn. For few images.
        keypoint_weights: factors on keypoints' part in the loss, by name, such as {tail_end: 2}; 1 for the others.
        flip_test: predict from the mean of the heatmaps of the crop and of its mirror image.
        compile: compile the forward and backward passes of training steps with `torch.compile`, which takes minutes at
            the start, for quicker ones on a GPU; a last batch with fewer crops, validation and prediction do without.
        skeleton: the K keypoints. Not a setting: `fit` takes it from the data, a checkpoint holds it.
    """

    #: (1, 3, 1, 1) float32 in any precision: of red, green and blue, 0–255; the backbone's, or its weights'.
    mean: Tensor
    std: Tensor
    #: What its confidences are worth (`catpose.score.trust`), where its checkpoint holds that.
    calibration: dict[str, Any] | None = None

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        codec: Codec = MSRAHeatmap(sigma=2.0),  # noqa: B008 (a codec has no state)
        weights: str | None = "imagenet",
        optimizer: Literal["adam", "adamw", "adamax"] = "adam",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        decay_all: bool = True,
        layer_decay: float = 1.0,
        warmup_iterations: int | float = 500,
        warmup_ratio: float = 0.001,
        schedule: Literal["multistep", "cosine"] = "multistep",
        cosine_from: float = 0.0,
        milestones: tuple[int | float, ...] = (170, 200),
        gamma: float = 0.1,
        global_batch_size: int = 32,
        scale_lr: bool = False,
        freeze_norm_statistics: bool = False,
        keypoint_weights: dict[str, float] | None = None,
        flip_test: bool = True,
        compile: bool = False,
        skeleton: Skeleton = AP10K,
    ) -> None:
        super().__init__()
        _require_optimizer(optimizer, lr, weight_decay, layer_decay, global_batch_size)
        require_schedule(schedule, warmup_iterations, warmup_ratio, milestones, gamma, cosine_from)
        self.skeleton = skeleton
        if hasattr(head, "set_outputs"):
            head.set_outputs(len(skeleton))  # type: ignore[operator]
        self.backbone = backbone
        self.head = head
        self.timm_name = _timm_name(backbone)
        self.codec = codec
        self.readout = codec.readout(HEATMAP_STRIDE)
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.decay_all = decay_all
        self.layer_decay = layer_decay
        self.warmup_iterations = warmup_iterations
        self.warmup_ratio = warmup_ratio
        self.schedule = schedule
        self.cosine_from = cosine_from
        self.milestones = tuple(milestones)
        self.gamma = gamma
        self.global_batch_size = global_batch_size
        self.scale_lr = scale_lr
        self.freeze_norm_statistics = freeze_norm_statistics
        self.keypoint_weights = _weights_of(keypoint_weights, skeleton)
        self.flip_test = flip_test
        self.is_compiled = compile
        for name, value in normalisation(config_of(backbone), f"model: {self.timm_name or 'the backbone'}").items():
            self.register_buffer(name, value)  # saved in checkpoints
        # Metrics, since Lightning's own epoch mean truncates the count of samples where processes hold unequal shares.
        self.train_loss, self.val_loss = Mean(nan_strategy="disable"), Mean(nan_strategy="disable")
        if weights is not None:
            load_weights(self, weights)

    def features(self, picture: Tensor) -> Tensor:
        """Normalised pictures (B, 3, H, W) to what the head takes; override it where a backbone isn't just called."""
        maps = self.backbone(picture)
        return maps[-1] if isinstance(maps, list | tuple) else maps

    def forward(self, crop: Tensor) -> Tensor:
        """Heatmaps (B, K, H/4, W/4), or what the codec reads out of them, of uint8 RGB crops (B, H, W, 3).

        Raises:
            InputError: H and W are no multiples of 32, or not the codec's.
        """
        height, width = crop.shape[1:3]
        if height % SIZE_STEP or width % SIZE_STEP:
            raise InputError(f"data.input_size: {width} x {height} px; give multiples of {SIZE_STEP} (width, height)")
        picture = (crop.permute(0, 3, 1, 2).float() - self.mean) / self.std  # (B, 3, H, W)
        return self.readout(self.head(self.features(picture.to(self.dtype))))

    def loss(self, heatmaps: Tensor, batch: Batch) -> Tensor:
        """The loss () of heatmaps (B, K, h, w) against the batch's keypoints; override it for another one."""
        target, weight = self.codec.encode(  # (B, K, h, w), (B, K)
            batch["keypoints_crop"], batch["visibility"], size_of_crop(batch), (heatmaps.shape[3], heatmaps.shape[2])
        )
        if self.keypoint_weights is not None:
            weight = weight * weight.new_tensor(self.keypoint_weights)
        return self.codec.loss(heatmaps, target, weight)  # ()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        is_compiled = self.is_compiled and len(batch["crop"]) == self._batch_per_device()
        heatmaps = (self._compiled_forward if is_compiled else self)(batch["crop"])  # (B, H, W, 3) to (B, K, h, w)
        loss = self.loss(heatmaps, batch)  # ()
        self.train_loss.update(loss.detach().expand(len(heatmaps)))
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    @functools.cached_property
    def _compiled_forward(self) -> Callable[[Tensor], Tensor]:
        return torch.compile(self.forward)

    def validation_step(self, batch: Batch, batch_index: int) -> Batch:
        heatmaps = self(batch["crop"])  # (B, H, W, 3) to (B, K, h, w)
        self.val_loss.update(self.loss(heatmaps, batch).expand(len(heatmaps)))
        return self.poses(heatmaps, batch)

    def on_validation_epoch_end(self) -> None:
        self.log(f"{_validation_name(self.trainer)}/loss", self.val_loss, prog_bar=True)

    def predict_step(self, batch: Batch, batch_index: int = 0) -> Batch:
        return self.poses(self(batch["crop"]), batch)

    test_step = predict_step

    def poses(self, heatmaps: Tensor, batch: Batch) -> Batch:
        """Keypoints (B, K, 2) in image px and confidence (B, K), float32, with what is carried from the batch.

        Args:
            heatmaps: (B, K, h, w) of the batch's crops.
        """
        keypoints_crop, confidence = self.located(heatmaps, batch["crop"])
        keypoints = apply_affines(batch["crop_to_image"], keypoints_crop)
        return {"keypoints": keypoints, "confidence": confidence} | {name: batch[name] for name in CARRIED}

    def located(self, heatmaps: Tensor, crop: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in crop px and confidence (B, K), float32.

        Args:
            heatmaps: (B, K, h, w) of the crops; `flip_test` adds those of their mirror images.
            crop: (B, H, W, 3) uint8 RGB.
        """
        return self.codec.decode(self.averaged(heatmaps, crop), (crop.shape[2], crop.shape[1]))

    def averaged(self, heatmaps: Tensor, crop: Tensor) -> Tensor:
        """Heatmaps (B, K, h, w) of crops, the mean of these and their mirror images' with `flip_test`; as `located`."""
        if not self.flip_test:
            return heatmaps
        mirrored = self.codec.unflip(self(crop.flip(2)), self.skeleton.flip)  # (B, K, h, w)
        return (heatmaps.float() + mirrored.float()) / 2

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["skeleton"] = self.skeleton.to_plain()

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's would build the class by its defaults
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", *, trusted: tuple[str, ...] = ()
    ) -> Self:
        """The model in a checkpoint of `fit`, built from the settings in it, in evaluation mode; nothing is fetched.

        Args:
            map_location: the device that it is moved to.
            trusted: names of modules whose classes the checkpoint may name, beside this class's own.

        Raises:
            InputError: as of `catpose.model.stored.stored_model`; it is the checkpoint of another class.
        """
        return stored_model(Path(checkpoint_path), cls, (*trusted, cls.__module__))[0].to(map_location)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """torch's; a complete `state_dict` without `mean` and `std` is one of 0.1.0, which scaled by ImageNet's."""
        return super().load_state_dict(with_normalisation(state_dict) if strict else state_dict, strict, assign)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> PoseModel:
        """torch's, which every `.to()` calls; mean, std and the metrics change device but stay float32.

        A mean over samples in bfloat16 would count no further than 256.
        """
        scale = {"mean": self.mean, "std": self.std}
        super()._apply(fn, *args, **kwargs)
        for name, value in scale.items():
            setattr(self, name, value.to(getattr(self, name).device))
        for metric in (self.train_loss, self.val_loss):
            metric.set_dtype(torch.float32)
        return self

    def setup(self, stage: str) -> None:
        self.to(memory_format=torch.channels_last)  # the crops' layout, in which convolutions are fastest
        # Of a batch only the crops enter the network, and `forward` brings them to its precision. All other numbers
        # are places and areas in pixels, of which a half precision would leave every other or every eighth.
        self.trainer.precision_plugin.convert_input = lambda data: data  # type: ignore[method-assign]

    def train(self, mode: bool = True) -> PoseModel:
        """torch's, but for the statistics that `freeze_norm_statistics` keeps."""
        super().train(mode)
        if self.freeze_norm_statistics:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def on_train_start(self) -> None:
        self.train()  # Lightning leaves a model in the mode that it finds
        if self.trainer.precision == "bf16-true":
            rank_zero_info(
                "trainer.precision bf16-true keeps 8 bits of a weight, bf16-mixed 24: steps of model.lr"
                f" {self.lr:g} are lost on weights above {512 * self.lr:.2g}"
            )
        rank_zero_info(f"pictures are scaled by {described({'mean': self.mean, 'std': self.std})}")

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Key dropout and its like by (seed, epoch, batch, rank): a run resumed at an epoch's end draws the same.

        The seed is Lightning's, of `seed_everything`.
        """
        key = (int(os.environ.get("PL_GLOBAL_SEED", 0)), self.current_epoch, batch_index, self.global_rank)
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # without CUDA `manual_seed` formats the stack, for a millisecond
        else:
            torch.manual_seed(seed)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        self.trainer.fit_loop.setup_data()  # else the number of batches isn't known yet
        total_steps = self.trainer.estimated_stepping_batches
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        if self.needs_the_end and math.isinf(total_steps):
            what = (
                "schedule: cosine needs" if self.schedule == "cosine" else "warmup_iterations, milestones: shares need"
            )
            raise InputError(f"model.{what} to know the run's end; set trainer.max_epochs or max_steps")
        lr = self.lr * self.lr_scale()
        groups = parameter_groups(self, lr, self.weight_decay, self.layer_decay, self.decay_all)
        optimizer = OPTIMIZERS[self.optimizer](groups, lr=lr, weight_decay=self.weight_decay)  # type: ignore[call-arg]

        def factor(step: int) -> float:
            return lr_factor(
                step,
                steps_per_epoch=steps_per_epoch,
                total_steps=total_steps,
                warmup_iterations=self.warmup_iterations,
                warmup_ratio=self.warmup_ratio,
                schedule=self.schedule,
                cosine_from=self.cosine_from,
                milestones=self.milestones,
                gamma=self.gamma,
            )

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}

    @property
    def needs_the_end(self) -> bool:
        """Whether the learning rate depends on how long the run is."""
        return depends_on_the_end(self.schedule, self.warmup_iterations, self.milestones)

    def lr_scale(self) -> float:
        """Factor on `lr` for the run's global batch, 1 unless `scale_lr`; logs a line where the batches differ."""
        batch = self._batch_per_device() * self.trainer.world_size * self.trainer.accumulate_grad_batches
        if batch == self.global_batch_size:
            return 1.0
        scale = batch / self.global_batch_size if self.scale_lr else 1.0
        rank_zero_info(
            f"model.lr {self.lr:g} belongs to a global batch of {self.global_batch_size}, this run's is {batch}: "
            + (f"scaled to {self.lr * scale:g}" if self.scale_lr else "left as it is (model.scale_lr true scales it)")
        )
        return scale

    def _batch_per_device(self) -> int:
        """The crops of a whole batch of training."""
        loader: Any = self.trainer.train_dataloader
        return loader.batch_size or loader.batch_sampler.batch_size


def _validation_name(trainer: pl.Trainer) -> str:
    """Prefix of a validation's metrics: "val", or "val_partial" where some batches are left out."""
    return "val" if sum(trainer.num_val_batches) == len(trainer.val_dataloaders) else "val_partial"  # type: ignore[arg-type]


def size_of_crop(batch: Batch) -> tuple[int, int]:
    """(width, height) of a batch's crops, px."""
    return batch["crop"].shape[2], batch["crop"].shape[1]


def apply_affines(affines: Tensor, points: Tensor) -> Tensor:
    """Points (B, K, 2) through affines (B, 2, 3); not a matrix product, which autocast would round."""
    return (affines[:, None, :, :2] * points[:, :, None, :]).sum(-1) + affines[:, None, :, 2]


def _timm_name(backbone: nn.Module) -> str | None:
    """timm's name of a backbone with the tag of its weights; None for one that isn't timm's."""
    config: Any = getattr(backbone, "pretrained_cfg", None)
    if not isinstance(config, Mapping):
        return None
    return ".".join(part for part in (config.get("architecture"), config.get("tag")) if part) or None


def _weights_of(by_name: Mapping[str, float] | None, skeleton: Skeleton) -> list[float] | None:
    """Each keypoint's factor in the loss, (K,)."""
    if not by_name:
        return None
    for name, weight in by_name.items():
        require(name in skeleton.names, "keypoint_weights", name, f"names of {', '.join(skeleton.names)}")
        require(0 <= weight < math.inf, f"keypoint_weights.{name}", weight, "0 or a number above")
    return [float(by_name.get(name, 1.0)) for name in skeleton.names]


def _require_optimizer(
    optimizer: str, lr: float, weight_decay: float, layer_decay: float, global_batch_size: int
) -> None:
    require(optimizer in OPTIMIZERS, "optimizer", optimizer, "adam, adamw or adamax")
    require(0 < lr < math.inf, "lr", lr, "a number above 0, such as 1e-4")
    require(0 <= weight_decay < math.inf, "weight_decay", weight_decay, "0 or a number above")
    require(global_batch_size >= 1, "global_batch_size", global_batch_size, "the batch that lr belongs to, from 1")
    require(0 < layer_decay <= 1, "layer_decay", layer_decay, "a factor above 0 and at most 1, such as 0.75")
