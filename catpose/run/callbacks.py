"""What happens round an epoch beside training: score, history, checkpoints, pictures. Lightning callbacks."""

from __future__ import annotations

import csv
import logging
import math
import time
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import WandbLogger

from catpose.data.coco import split_hash
from catpose.errors import InputError
from catpose.files import atomic_write, write_json
from catpose.geometry import apply, invert
from catpose.run.directory import RunDirectory
from catpose.score.ap import own_oks
from catpose.score.contract import Contract
from catpose.score.contract import Score as Figures
from catpose.score.instances import Truth
from catpose.score.metric import KeypointAP
from catpose.score.oks import MIN_CONFIDENCE
from catpose.show.overlay import draw_pose

log = logging.getLogger("catpose")

N_OVERLAYS = 4


class Score(Callback):
    """Validation AP, overall and per keypoint, at the end of each validation; logged as `val/AP`, `val/AP/left_eye`, …

    Every process computes the score of all samples, so that all know it and none has to be told. The first of them
    keeps the detections with their OKS, and the score with its contract: no question about them needs the model again.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        split = trainer.datamodule.val_split  # type: ignore[attr-defined]
        self.truth, self.split_hash = Truth.from_coco(split.coco), split_hash(split)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.metric = KeypointAP(self.truth).to(pl_module.device)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.metric.update(outputs["keypoints"], outputs["confidence"], outputs["annotation_id"])

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = self.metric.compute()
        if trainer.is_global_zero:
            self.keep(score, pl_module.flip_test)  # type: ignore[arg-type]
        values = {f"val/{name}": value for name, value in score.items() if not math.isnan(value)}
        pl_module.log_dict(values, rank_zero_only=False, sync_dist=False)
        trainer.progress_bar_metrics["AP"] = values.get("val/AP", math.nan)
        del self.metric

    def keep(self, score: dict[str, float], flip_test: bool) -> None:
        """Write `val_results.json` and `val_score.json` of the validation just done."""
        detections = self.metric.detections
        assert detections is not None
        write_json(self.run.val_results, detections.to_results(own_oks(self.truth, detections)), indent=None)
        contract = Contract.of(
            self.truth,
            detections,
            split="val",
            split_hash=self.split_hash,
            box_source="ground truth",
            flip_test=flip_test,
        )
        Figures(score, contract).write(self.run.val_score)


class History(Callback):
    """One row an epoch in `metrics.csv`, one line in `log.txt`. A resumed run's rows follow those it had finished."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.rows: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.run.metrics.exists():  # rows of an epoch that was not finished with a checkpoint are left out
            with self.run.metrics.open(newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = time.perf_counter()
        self.images = 0
        self.validated = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.images += len(args[1]["image_id"]) * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validation_start = time.perf_counter()
        self.validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics  # an exchange between the processes, so before the first one is left alone
        if not trainer.is_global_zero:
            return
        end = time.perf_counter()
        trained = (self.validation_start if self.validated else end) - self.start
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "train_seconds": round(trained, 4),
            "epoch_seconds": round(end - self.start, 4),
            "images_per_second": round(self.images / trained, 2),
        }
        for name, value in sorted(metrics.items()):
            if self.validated or not name.startswith("val/"):
                row[name] = f"{float(value):.8g}"
        self.rows.append(row)
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_write(self.run.metrics) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)
        seen = ", ".join(
            f"{name} {float(row[name]):.4g}" for name in ("train/loss", "val/loss", "val/AP") if name in row
        )
        log.info("epoch %d: %s, %.1f s", trainer.current_epoch, seen, end - self.start)


class BestAndLast(Checkpoint):
    """`best.ckpt` (the epoch of the best validation AP, the first of equals) and `last.ckpt`, after every epoch.

    Lightning's ModelCheckpoint forgets what was best once a run's directory has moved, as it does between machines.
    Both files are written whole or not at all, and `last.ckpt` after `best.ckpt`: a run that dies in between goes on
    from the epoch before and writes `best.ckpt` again.
    """

    def __init__(self, run: RunDirectory, settings: str) -> None:
        self.run = run
        self.settings = settings
        self.best_ap = -math.inf
        self.best_epoch = -1

    def state_dict(self) -> dict[str, Any]:
        return {"best_ap": self.best_ap, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_ap, self.best_epoch = float(state_dict["best_ap"]), int(state_dict["best_epoch"])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["catpose"] = self.settings

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None and not torch.isfinite(loss):
            raise InputError(
                f"{self.run.path}: the training loss is {float(loss)} in epoch {trainer.current_epoch};"
                " lower model.lr or lengthen model.warmup_iterations (no checkpoint was made of this epoch)"
            )
        ap = float(trainer.callback_metrics.get("val/AP", -math.inf))
        if ap > self.best_ap:
            self.best_ap, self.best_epoch = ap, trainer.current_epoch
            trainer.save_checkpoint(self.run.best, weights_only=False)
        trainer.save_checkpoint(self.run.last, weights_only=False)


class StopWhenAsked(Callback):
    """Ends the training with the epoch in which a file named `stop` was made in the run's directory.

    All processes end together: Lightning's way to pass on a SIGTERM, a broadcast from within the signal's handler, can
    cross with what the processes are exchanging.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.strategy.broadcast(self.run.stop.exists()):
            trainer.should_stop = True
            log.info("stopped after epoch %d, as asked", trainer.current_epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.run.stop.unlink(missing_ok=True)


class Overlays(Callback):
    """The first validation crops with predicted (filled) and true (hollow) keypoints, to W&B after each validation."""

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero:
            self.pictures = overlays(outputs, batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                import wandb

                pictures = [wandb.Image(picture) for picture in self.pictures]
                step = {"epoch": trainer.current_epoch, "trainer/global_step": trainer.global_step - 1}
                logger.experiment.log({"val/overlays": pictures, **step})


def overlays(outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Pictures (H, W, 3) uint8 of the first crops of a batch with prediction and truth drawn."""
    pictures = []
    for i in range(min(N_OVERLAYS, len(batch["crop"]))):
        to_crop = invert(batch["crop_to_image"][i].double().cpu().numpy())
        predicted = apply(to_crop, outputs["keypoints"][i].double().cpu().numpy())
        crop = batch["crop"][i].cpu().numpy()
        truth = draw_pose(
            crop, batch["keypoints_crop"][i].cpu().numpy(), batch["visibility"][i].cpu().numpy() > 0, hollow=True
        )
        pictures.append(draw_pose(truth, predicted, outputs["confidence"][i].float().cpu().numpy() > MIN_CONFIDENCE))
    return pictures
