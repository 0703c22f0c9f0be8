"""What happens round an epoch beside training: score, history, checkpoints, pictures. Lightning callbacks."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import WandbLogger

from catpose.data.coco_split import split_hash
from catpose.data.copies import pool_of
from catpose.errors import InputError
from catpose.figures.overlay import draw_pose
from catpose.files import atomic_write, write_json
from catpose.geometry import apply, invert
from catpose.model.pose import PoseModel
from catpose.run.checkpoint_writer import BackgroundCheckpointIO
from catpose.run.directory import RunDirectory
from catpose.score.ap import own_oks
from catpose.score.metric import KeypointAP, metric_values
from catpose.score.oks import MIN_CONFIDENCE
from catpose.score.protocol import EvaluationProtocol, Score
from catpose.skeleton import Skeleton

log = logging.getLogger("catpose")

N_OVERLAYS = 4
#: The columns of metrics.csv that come first.
COLUMNS = ("epoch", "step", "lr", "train_seconds", "epoch_seconds", "images_per_second")


class Validation(Callback):
    """Validation AP, overall and per keypoint, at the end of each validation; logged as `val/AP`, `val/AP/left_eye`, …

    Every process computes the score of all samples, so that all know it and none has to be told. The first of them
    keeps the detections with their OKS, and the score with its protocol: no question about them needs the model again.

    A validation of a part of the split (`trainer.limit_val_batches` and the like) is scored on the instances that it
    looked at, and logged as `val_partial/AP`, …: nobody who asks for the split's AP finds it. Lightning's sanity check
    is no validation: nothing of it is kept.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.truth = trainer.datamodule.val_split  # type: ignore[attr-defined]
        self.input_size = trainer.datamodule.input_size  # type: ignore[attr-defined]
        self.split_hash, self.pool = split_hash(self.truth), pool_of(self.truth)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.metric = KeypointAP(self.truth, self.input_size).to(pl_module.device)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.metric.update(outputs["keypoints"], outputs["confidence"], outputs["annotation_id"])

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        values, detections, seen = self.metric.compute(), self.metric.detections, self.metric.seen
        assert detections is not None and seen is not None  # noqa: PT018
        protocol = EvaluationProtocol.of(
            self.truth,
            detections,
            split="val",
            split_hash=self.split_hash,
            box_source="ground truth",
            flip_test=pl_module.flip_test,  # type: ignore[arg-type]
            seen=int((seen & ~self.truth.ignored).sum()),
            pool=self.pool,
        )
        if protocol.is_partial:  # instances that nobody looked at are no missed ones
            values = metric_values(dataclasses.replace(self.truth, ignored=self.truth.ignored | ~seen), detections)
            log.info("validation looked at %d of %d instances: no AP of the split", protocol.seen, protocol.instances)
        if trainer.is_global_zero:
            write_json(self.run.val_results, detections.to_results(own_oks(self.truth, detections)), indent=None)
            checkpoint = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            Score(values, protocol, checkpoint=checkpoint).write(self.run.val_score)
        name = "val_partial" if protocol.is_partial else "val"
        logged = {f"{name}/{key}": value for key, value in values.items() if not math.isnan(value)}
        pl_module.log_dict(logged, rank_zero_only=False, sync_dist=False)
        trainer.progress_bar_metrics["partial AP" if protocol.is_partial else "AP"] = values["AP"]
        del self.metric

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.run.val_score.exists():
            with contextlib.suppress(InputError):  # damaged: the next validation writes it anew
                if Score.read(self.run.val_score).checkpoint.get("epoch", -1) > trainer.current_epoch:
                    self.run.val_results.unlink(missing_ok=True)  # of before a kill, to be made again
                    self.run.val_score.unlink()


class History(Callback):
    """`metrics.csv`: a row for each epoch's end and for each validation within an epoch, with its epoch and step.

    What a row says of the validation is of its very step: of an epoch that doesn't end in a validation it says nothing.
    A validation within an epoch has no metrics of the training. Each row is a line in `log.txt` too. A resumed run's
    rows follow those it had finished.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.rows: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Epochs after the last checkpoint are trained again; the file loses their rows with the first new one.
        rows = self.run.rows()
        self.rows = [dict(row) for row in rows if int(row["epoch"]) < trainer.current_epoch]
        if len(rows) > len(self.rows):
            log.info("epochs from %d on have no checkpoint, and are trained again", trainer.current_epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = time.perf_counter()
        self.trains_since: float | None = self.start  # None while it validates
        self.trained = 0.0  # seconds
        self.images = 0
        self.validated = self.has_row = False  # since the last batch

    def on_train_batch_start(self, *_: Any) -> None:
        if self.trains_since is None:
            self.trains_since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.images += len(args[1]["image_id"]) * trainer.world_size
        self.validated = self.has_row = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._stop_clock()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.validated, self.end = True, time.perf_counter()
        metrics = trainer.callback_metrics  # an exchange between the processes, so before the first one is left alone
        if trainer.is_global_zero and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._add(self._moment(trainer) | _texts({k: v for k, v in metrics.items() if _of_validation(k)}))
            self.has_row = True
            log.info("step %d in epoch %d: %s", trainer.global_step, trainer.current_epoch, self._summary())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics  # as above
        if not trainer.is_global_zero:
            return
        self._stop_clock()
        seconds = (self.end if self.validated else time.perf_counter()) - self.start
        if self.has_row:  # the epoch was ended right after it
            self.rows.pop()
        row = self._moment(trainer) | {
            "train_seconds": round(self.trained, 4),
            "epoch_seconds": round(seconds, 4),
            "images_per_second": round(self.images / self.trained, 2),
        }
        self._add(row | _texts({k: v for k, v in metrics.items() if self.validated or not _of_validation(k)}))
        log.info("epoch %d: %s, %.1f s", trainer.current_epoch, self._summary(), seconds)

    def _moment(self, trainer: pl.Trainer) -> dict[str, Any]:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        return {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate}

    def _stop_clock(self) -> None:
        if self.trains_since is not None:
            self.trained += time.perf_counter() - self.trains_since
            self.trains_since = None

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        names = list(dict.fromkeys([*COLUMNS, *(name for row in self.rows for name in row)]))
        with atomic_write(self.run.metrics) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)

    def _summary(self) -> str:
        row = self.rows[-1]
        names = ("train/loss", "val/loss", "val/AP", "val_partial/loss", "val_partial/AP")
        return ", ".join(f"{name} {float(row[name]):.4g}" for name in names if name in row)


def _of_validation(name: str) -> bool:
    return name.startswith(("val/", "val_partial/"))


def _texts(metrics: Mapping[str, torch.Tensor]) -> dict[str, str]:
    return {name: f"{float(value):.8g}" for name, value in sorted(metrics.items())}


class BestAndLast(Checkpoint):
    """`best.ckpt`, the model of the best validation AP, the first of equals, and `last.ckpt`, that of the last epoch.

    The best model is taken by the validation that found it, were that within an epoch: later its weights would be
    others than those scored. A validation of a part of the split chooses nothing.

    Lightning's ModelCheckpoint forgets what was best once a run's directory has moved, as it does between machines.
    Both files are written whole or not at all, and `last.ckpt` after `best.ckpt`: a run that dies in between goes on
    from the checkpoint before and writes `best.ckpt` again. `BackgroundCheckpointIO` says which ends of epochs cost
    little enough to be written; the run's last is.
    """

    def __init__(self, run: RunDirectory, settings: str) -> None:
        self.run = run
        self.settings = settings
        self.best_ap = -math.inf
        self.best_epoch = -1
        self.best_step = -1
        self.is_each = True  # epoch's end written so far

    def state_dict(self) -> dict[str, Any]:
        return {"best_ap": self.best_ap, "best_epoch": self.best_epoch, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_ap, self.best_epoch = float(state_dict["best_ap"]), int(state_dict["best_epoch"])
        self.best_step = int(state_dict.get("best_step", -1))  # 0.1.0 had none

    def __str__(self) -> str:
        if self.best_epoch < 0:
            return "none, since the whole split was never validated"
        return f"best val/AP {self.best_ap:.4f} in epoch {self.best_epoch}" + (
            f", step {self.best_step}" if self.best_step >= 0 else ""
        )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["catpose"] = self.settings

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        ap = float(trainer.callback_metrics.get("val/AP", -math.inf))
        if ap > self.best_ap:
            self.best_ap, self.best_epoch, self.best_step = ap, trainer.current_epoch, trainer.global_step
            trainer.save_checkpoint(self.run.best, weights_only=False)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if isinstance(trainer.strategy.checkpoint_io, BackgroundCheckpointIO):
            trainer.strategy.checkpoint_io.check()  # a full disk ends the run now rather than with its epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        ours = trainer.strategy.checkpoint_io  # or the user's own
        is_last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        is_last |= trainer.global_step == trainer.max_steps
        is_due = is_last or not isinstance(ours, BackgroundCheckpointIO) or ours.is_due()
        if trainer.strategy.broadcast(is_due):  # of the first process, which writes
            trainer.save_checkpoint(self.run.last, weights_only=False)
        elif self.is_each and trainer.is_global_zero:
            self.is_each = False
            log.info("from epoch %d on not each has a checkpoint (--checkpoint_seconds)", trainer.current_epoch)


class ResumedAtEpochEnd(Callback):
    """Keeps Lightning from taking a resumed run of `trainer.max_steps` for one that was stopped within an epoch.

    It would end the finished epoch once more, and so train one less. Ours are resumed at an epoch's end only, and the
    number of steps need not be known while Lightning finds out where a run stands.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.max_steps, trainer.fit_loop.epoch_loop.max_steps = trainer.max_steps, -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.fit_loop.epoch_loop.max_steps = self.max_steps


class Overlays(Callback):
    """The first validation crops with predicted (filled) and true (hollow) keypoints, to W&B after each validation."""

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero and not trainer.sanity_checking:
            self.pictures = overlays(outputs, batch, pl_module.skeleton)  # type: ignore[arg-type]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero and not trainer.sanity_checking:
                import wandb

                pictures: Any = [wandb.Image(picture) for picture in self.pictures]
                step = {"epoch": trainer.current_epoch, "trainer/global_step": trainer.global_step - 1}
                logger.log_metrics({"val/overlays": pictures, **step})


def overlays(outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], skeleton: Skeleton) -> list[np.ndarray]:
    """Pictures (H, W, 3) uint8 of the first crops of a batch with prediction and truth drawn."""
    pictures = []
    for i in range(min(N_OVERLAYS, len(batch["crop"]))):
        to_crop = invert(batch["crop_to_image"][i].double().cpu().numpy())
        predicted = apply(to_crop, outputs["keypoints"][i].double().cpu().numpy())
        crop = batch["crop"][i].cpu().numpy()
        points, labelled = batch["keypoints_crop"][i].cpu().numpy(), batch["visibility"][i].cpu().numpy() > 0
        truth = draw_pose(crop, points, labelled, skeleton, hollow=True)
        confident = outputs["confidence"][i].float().cpu().numpy() > MIN_CONFIDENCE
        pictures.append(draw_pose(truth, predicted, confident, skeleton))
    return pictures


class NewLineage(Callback):
    """Leaves a run that goes on under other settings its new optimiser; Lightning would restore the one of before.

    What the optimiser had gathered stays, where it is of the same kind and has its parameters in the same groups. The
    schedule stands where the finished epochs have brought it, also where an epoch now has another number of steps.

    Args:
        renewed: whether the settings are others. The first process tells all.
    """

    def __init__(self, renewed: bool) -> None:
        self.renewed = renewed
        self.before: list[dict[str, Any]] | None = None  # the optimiser's state

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        ours = type(pl_module).configure_optimizers is PoseModel.configure_optimizers
        if trainer.strategy.broadcast(self.renewed) and ours:
            self.before = checkpoint["optimizer_states"]
            checkpoint["optimizer_states"], checkpoint["lr_schedulers"] = [], []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.before is None:
            return
        (optimizer,) = trainer.optimizers
        groups = optimizer.state_dict()["param_groups"]
        for before in self.before:
            if _layout(before["param_groups"]) == _layout(groups):
                optimizer.load_state_dict({"state": before["state"], "param_groups": groups})
        scheduler: Any = trainer.lr_scheduler_configs[0].scheduler
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)  # of an epoch
        ends_by_steps = trainer.max_steps == trainer.estimated_stepping_batches and pl_module.needs_the_end
        scheduler.last_epoch = trainer.global_step if ends_by_steps else trainer.current_epoch * steps
        factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
        scheduler._last_lr = [rate * factor for rate in scheduler.base_lrs]
        for group, rate in zip(optimizer.param_groups, scheduler._last_lr, strict=True):
            group["lr"] = rate


def _layout(groups: Sequence[dict[str, Any]]) -> list[tuple[set[str], list[int]]]:
    """An optimiser's settings by name, which tell its kind, and its parameters by place, group by group."""
    return [({*group}, group["params"]) for group in groups]
