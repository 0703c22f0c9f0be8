"""The first steps of a training, before it is begun: whether its settings can be used, its memory, its time.

Run as a program it rehearses several trainings, one after the other, and leaves the device's memory free behind it: the
arguments of each are read from standard input as JSON, and a line of JSON is written for each to the file named.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from catpose.cost.metrics import costs
from catpose.errors import InputError, one_line
from catpose.run.cli import FitCLI
from catpose.run.directory import RunDirectory
from catpose.run.outlook import batches_apart
from catpose.run.training import fit, sound_data

#: Training steps, of which the first is slower than those that follow.
STEPS = 2


class _FirstSteps(Callback):
    """Ends a training after its first steps, and with a validation."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.validation: list[float] = []

    def on_train_epoch_start(self, *args: Any) -> None:
        self.moments.append(time.perf_counter())

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.moments.append(time.perf_counter())
        if len(self.moments) > STEPS:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.should_stop = True  # an epoch of a single batch

    def on_validation_batch_start(self, *args: Any) -> None:
        self.validation.append(-time.perf_counter())

    def on_validation_batch_end(self, *args: Any) -> None:
        self.validation[-1] += time.perf_counter()


def rehearse(args: Sequence[str], step: bool, metrics: Sequence[str]) -> dict[str, float]:
    """Build all that `fit` would build; take the first steps and a validation batch, and write nothing.

    Args:
        args: of `fit`'s command line.
        step: or else only build.
        metrics: costs of the model that will be asked for, by name.

    Returns:
        "epoch_s": seconds of an epoch, as far as its first steps tell; "steps": of the optimiser in it, "batches" too
        where one device trains. Nothing where only building was asked for.

    Raises:
        InputError: settings or data that can't be used. Exception: whatever a training step raises.
    """
    cli, every, interval = _small(args)
    first = _FirstSteps()
    with tempfile.TemporaryDirectory() as folder:
        cli.build(RunDirectory(Path(folder) / "run"), [first], resume=False)
        several = cli.trainer.world_size > 1
        if several:  # built as asked; its steps are taken by one process
            cli, *_ = _small(args)
            cli.config.trainer.devices, cli.config.trainer.num_nodes, cli.config.trainer.strategy = 1, 1, "auto"
            cli.build(RunDirectory(Path(folder) / "run"), [first], resume=False)
        if not step:
            return {}
        fit(cli, RunDirectory(Path(folder) / "run"), resume=False)
    device = cli.trainer.strategy.root_device.type
    costs(cli.model.eval(), cli.datamodule.input_size, metrics, device)
    each = [later - earlier for earlier, later in zip(first.moments, first.moments[1:], strict=False)]
    step_s = each[-1] if each else 0.0  # waiting for its data included
    validation_s = statistics.median(first.validation) if first.validation else 0.0
    batches = len(cli.datamodule.val_dataloader())
    training = int(cli.trainer.num_training_batches)
    steps = math.ceil(training / cli.trainer.accumulate_grad_batches)
    validations = validations_an_epoch(training, every, interval)
    epoch_s = training * step_s + validations * batches * validation_s
    return {"epoch_s": epoch_s, "steps": steps} | ({} if several else {"batches": training})


def validations_an_epoch(batches: int, every: int | None, interval: float | None) -> float:
    """How many there are on average in an epoch of so many batches.

    Args:
        every, interval: trainer.check_val_every_n_epoch and .val_check_interval, batches or a part of an epoch.
    """
    apart = batches_apart(batches, interval)
    return batches / apart if every is None else batches // apart / every


def _small(args: Sequence[str]) -> tuple[FitCLI, int | None, float | None]:
    """The settings, but for what takes time or leaves something behind; and how often they asked for a validation:
    trainer's check_val_every_n_epoch and val_check_interval."""
    cli = FitCLI(list(args))
    config = cli.config
    every, interval = config.trainer.check_val_every_n_epoch, config.trainer.val_check_interval
    config.data.cache, config.data.num_workers, config.wandb.mode = "off", 0, "disabled"
    config.trainer.logger, config.trainer.enable_checkpointing = False, False
    config.trainer.enable_progress_bar, config.trainer.enable_model_summary = False, False
    config.trainer.min_epochs, config.trainer.min_steps = None, None
    if every is not None:
        config.trainer.check_val_every_n_epoch = 1
    elif isinstance(interval, int):  # of batches, across epochs that may have fewer
        config.trainer.check_val_every_n_epoch, config.trainer.val_check_interval = 1, 1.0
    if config.trainer.limit_val_batches in (None, 1.0):
        config.trainer.limit_val_batches = 1
    return cli, every, interval


def main() -> None:
    request = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    with Path(sys.argv[1]).open("a", encoding="utf-8") as answers:
        for i, each in enumerate(request["trainings"]):
            try:
                if i == 0:
                    cli = FitCLI(each["args"])
                    sound_data(Path(cli.config.data.root), cli.config.data.area)
                answer: dict[str, Any] = {**rehearse(each["args"], each["step"], request["metrics"])}
            except InputError as error:
                answer = {"error": one_line(error)}
            except SystemExit:
                raise
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {one_line(error)[:300]}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            if "error" in answer:
                return
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
