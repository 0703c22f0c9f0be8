"""What a finished training's validation looks like, as figures on W&B."""

from __future__ import annotations

import io

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.loggers import WandbLogger

from catpose.run.directory import RunDirectory
from catpose.run.evaluation import read_results
from catpose.score.calibration import reliability
from catpose.score.error_kinds import kinds
from catpose.score.full import evaluate
from catpose.score.instances import Detections, Truth
from catpose.skeleton import KEYPOINTS


class FinalFigures(Callback):
    """At the end, the last validation's figures to W&B: AP by keypoint, kinds of error, reliability."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not (loggers and trainer.is_global_zero and self.run.val_results.exists()):
            return
        import wandb
        from PIL import Image

        split = trainer.datamodule.val_split  # type: ignore[attr-defined]
        truth = Truth.from_coco(split.coco, str(split.file))
        pictures = {
            name: wandb.Image(Image.open(io.BytesIO(files["png"])))
            for name, files in figures(truth, read_results(self.run.val_results, truth)).items()
        }
        for logger in loggers:
            step = {"epoch": trainer.current_epoch - 1, "trainer/global_step": trainer.global_step - 1}
            logger.experiment.log(pictures | step)


def figures(truth: Truth, detections: Detections) -> dict[str, dict[str, bytes]]:
    """By the name that they have on W&B: "png" and "svg" each."""
    from catpose.show.calibration import draw_reliability  # matplotlib takes half a second, which only W&B needs
    from catpose.show.cat import draw_keypoint_values
    from catpose.show.errors_figure import draw_kinds

    values = evaluate(truth, detections, draws=0).values
    return {
        "val/figures/keypoints": draw_keypoint_values([values[f"AP/{name}"] for name in KEYPOINTS], "AP"),
        "val/figures/kinds": draw_kinds(kinds(truth, detections)),
        "val/figures/reliability": draw_reliability(reliability(truth, detections)),
    }
