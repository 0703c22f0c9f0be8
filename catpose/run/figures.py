"""What a finished training's validation looks like, as figures on W&B."""

from __future__ import annotations

import io
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.loggers import WandbLogger

from catpose.figures.canvas import Drawing
from catpose.instances import Instances
from catpose.run.directory import RunDirectory
from catpose.run.scoring import read_results
from catpose.score.calibration import reliability
from catpose.score.detections import Detections
from catpose.score.error_types import error_types
from catpose.score.full import evaluate
from catpose.score.protocol import Score


class FinalFigures(Callback):
    """At the end, the last validation's figures to W&B: AP by keypoint, error types, reliability."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not (loggers and trainer.is_global_zero and self.run.val_results.exists()):
            return
        if Score.read(self.run.val_score).protocol.is_partial:
            return  # they would be taken for the split's
        import wandb
        from PIL import Image

        split = trainer.datamodule.val_split  # type: ignore[attr-defined]
        pictures: dict[str, Any] = {
            name: wandb.Image(Image.open(io.BytesIO(files["png"])))
            for name, files in figures(split, read_results(self.run.val_results, split)).items()
        }
        for logger in loggers:
            step = {"epoch": trainer.current_epoch - 1, "trainer/global_step": trainer.global_step - 1}
            logger.log_metrics(pictures | step)


def figures(truth: Instances, detections: Detections) -> dict[str, Drawing]:
    """By the name that they have on W&B."""
    from catpose.figures.calibration import draw_reliability  # matplotlib takes half a second, which only W&B needs
    from catpose.figures.cat import draw_keypoint_values
    from catpose.figures.error_types import draw_error_types

    values, skeleton = evaluate(truth, detections, draws=0).values, truth.skeleton
    return {
        "val/figures/keypoints": draw_keypoint_values(
            skeleton, [values[f"AP/{name}"] for name in skeleton.names], "AP"
        ),
        "val/figures/error_types": draw_error_types(error_types(truth, detections), skeleton),
        "val/figures/reliability": draw_reliability(reliability(truth, detections)),
    }
