"""What a training is going to be: steps, warm-up, milestones; said before it, with what doesn't suit so few images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.utilities import rank_zero_info
from torch.nn.modules.batchnorm import _BatchNorm

from catpose.errors import InputError
from catpose.model.pose import PoseModel
from catpose.model.schedule import steps_of
from catpose.text import counted, duration, number

#: The part of a run that warm-up may take.
LONGEST_WARMUP = 0.1
#: What averaged weights may keep of the first step's.
LARGEST_FIRST_SHARE = 0.05
#: The difference in AP that a validation should be able to show.
VISIBLE = 0.1
#: Standard deviation of two models' difference on one animal, in AP: each has about 0.35 (an AP of 132 animals has a
#: standard error of 0.03), and on the same animals they correlate by about one half.
SPREAD = 0.35
#: Standard errors of a difference that is seen with 80 % power at a significance of 5 %.
SEEN = 2.8

UNVALIDATED = (
    "its last step is followed by no validation, so that it has no AP for a study or a report; set"
    " trainer.val_check_interval or trainer.check_val_every_n_epoch to what ends with the run"
)


class Schedule(NamedTuple):
    """A training in numbers."""

    animals: int  # labelled ones to train on
    validated: int  # labelled ones to validate on
    batch: int  # crops of one batch on one device
    steps: int  # optimiser steps of an epoch
    total_steps: float  # of the run; infinite where nothing ends it
    warmup: float  # steps
    milestones: Sequence[float]  # steps; none with a cosine
    is_end_validated: bool = True
    late_from: int | None = None  # the epoch
    first_share: float = 0.0  # that the first step's weights have in averaged ones at the end

    @property
    def epochs(self) -> int:
        """How many the run has, its last one perhaps cut short."""
        return math.ceil(self.total_steps / self.steps)


class Outlook(Callback):
    """Says before the training what it is going to be, with a line for each thing that doesn't suit the data, and with
    each epoch how far it has come."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun, self.first_step = time.perf_counter(), trainer.global_step
        if isinstance(pl_module, PoseModel):
            parameters = sum(parameter.numel() for parameter in pl_module.parameters())
            rank_zero_info(f"{type(pl_module).__name__} has {parameters / 1e6:.1f} M parameters")
            for line in outlook(_schedule(trainer, pl_module)):
                rank_zero_info(line)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # An exchange between the processes, so before the first one is left alone. Others are of an epoch before.
        metrics = {k: v for k, v in trainer.callback_metrics.items() if self.validated or not k.startswith("val")}
        if trainer.is_global_zero:
            steps, total = trainer.global_step, trainer.estimated_stepping_batches
            a_step = (time.perf_counter() - self.begun) / max(1, steps - self.first_step)
            per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
            epochs = math.ceil(total / per_epoch) if math.isfinite(total) else None
            line = progress(trainer.current_epoch + 1, epochs, metrics, (total - steps) * a_step)
            bar: Any = trainer.progress_bar_callback  # above which a line must be written
            (bar.print if bar is not None else print)(line)


def progress(done: int, epochs: int | None, metrics: Mapping[str, Any], seconds: float) -> str:
    """How far a training has come, as a line.

    Args:
        done: epochs; of `epochs`, None where nothing ends them.
        metrics: of the epoch, by name.
        seconds: that are left; infinite where that isn't known.
    """
    names = {"val/AP": "AP", "val_partial/AP": "AP of a part", "train/loss": "loss"}
    found = [f"{short} {number(float(metrics[name]))}" for name, short in names.items() if name in metrics]
    left = f"; about {duration(seconds)} left" if epochs is not None and 0 < seconds < math.inf else ""
    return f"epoch {done}{'' if epochs is None else f' of {epochs}'}: {', '.join(found)}{left}"


def outlook(schedule: Schedule) -> Iterator[str]:
    """The line that sums a training up, then one for each warning, with its remedy."""
    steps, total, warmup = schedule.steps, schedule.total_steps, schedule.warmup
    known = math.isfinite(total)
    line = f"{counted(schedule.animals, 'animal')} → {counted(steps, 'step')} an epoch"
    line += f", {total:g} in all" if known else ""
    yield f"{line}; warm-up ends in epoch {math.ceil(warmup / steps)}" if warmup else f"{line}; no warm-up"
    if known and warmup > math.ceil(LONGEST_WARMUP * total):
        part = f"{warmup / total:.0%} of the run" if warmup < total else "the whole run, which never reaches model.lr"
        yield (
            f"warning: warm-up takes {part}; set model.warmup_iterations to {LONGEST_WARMUP:g}, a share of the run, or"
            " train for more epochs"
        )
    late = [milestone for milestone in schedule.milestones if known and milestone >= total]
    if late:
        epochs = ", ".join(f"{milestone / steps:g}" for milestone in late)
        yield (
            f"warning: model.milestones {epochs} lie behind the run's end after {counted(schedule.epochs, 'epoch')},"
            " so that the learning rate stays high; set shares of the run, such as [0.8, 0.95]"
        )
    if schedule.late_from is not None and known and schedule.late_from * steps >= total:
        yield (
            f"warning: data.late_from {schedule.late_from} lies behind the run's end after"
            f" {counted(schedule.epochs, 'epoch')}, so that data.late_augment is never used; set an earlier"
            " epoch, or null"
        )
    if schedule.first_share > LARGEST_FIRST_SHARE:
        yield (
            f"warning: at the run's end averaged weights are still {schedule.first_share:.0%} those of its first step;"
            " set a lower decay of EMAWeightAveraging, or train for more epochs"
        )
    if schedule.batch > schedule.animals:
        yield (
            f"warning: data.batch_size {schedule.batch} exceeds the {counted(schedule.animals, 'animal')}: an epoch is"
            f" one step; set data.batch_size to {max(2, schedule.animals // 4)} or so"
        )
    if not schedule.is_end_validated:
        yield f"warning: {UNVALIDATED}"
    visible = SEEN * SPREAD / math.sqrt(schedule.validated)
    if visible > VISIBLE:
        fewest = math.ceil((SEEN * SPREAD / VISIBLE) ** 2)
        yield (
            f"warning: validation has {counted(schedule.validated, 'animal')}: a difference between two models of less"
            f" than about {min(visible, 1):.1f} AP can't be told from chance; label more for val (from {fewest} on it"
            f" is {VISIBLE:g}), or compare means over several splits and seeds"
        )


def batches_apart(batches: int, interval: float | None) -> int:
    """How many batches lie between validations, of an epoch of so many: trainer's val_check_interval as Lightning takes
    it, a number of batches or a part of an epoch."""
    return interval if isinstance(interval, int) else max(1, int(batches * (1.0 if interval is None else interval)))


def ends_validated(batches: int, accumulate: int, steps: int, every: int | None, interval: float | None) -> bool:
    """Whether a run validates with its last step, so that its AP is its end's.

    Args:
        batches: of an epoch. accumulate: batches a step. steps: of the whole run.
        every, interval: trainer's check_val_every_n_epoch and val_check_interval.
    """
    apart = batches_apart(batches, interval)
    epochs, step = divmod(steps - 1, math.ceil(batches / accumulate))
    last = min((step + 1) * accumulate, batches)  # the batch of its epoch with which the run ends
    if every is None:
        return (epochs * batches + last) % apart == 0
    return (epochs + 1) % every == 0 and last % apart == 0


def first_share(callback: Callback, steps: float) -> float:
    """The share of the first averaged weights in the average after so many steps of a run; 0 of any other callback."""
    if not isinstance(callback, EMAWeightAveraging):
        return 0.0
    average: Any = callback._kwargs["avg_fn"]  # the one place where the decay is kept
    updates = max(0.0, steps - (callback.update_starting_at_step or 0)) // max(1, callback.update_every_n_steps)
    return float(average(torch.tensor(1.0), torch.tensor(0.0), 1)) ** max(0.0, updates - 1)


def _schedule(trainer: pl.Trainer, model: PoseModel) -> Schedule:
    loader: Any = trainer.train_dataloader
    # The trainer has no validation loader yet where the first epoch isn't validated.
    validation = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
    total_steps = trainer.estimated_stepping_batches
    steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    milestones = model.milestones if model.schedule == "multistep" else ()
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_interval
    batches, accumulate = int(trainer.num_training_batches), trainer.accumulate_grad_batches
    return Schedule(
        animals=len(loader.dataset),
        validated=len(validation.dataset),
        batch=loader.batch_size or loader.batch_sampler.batch_size,
        steps=steps,
        total_steps=total_steps,
        warmup=steps_of(model.warmup_iterations, 1, total_steps) if model.warmup_iterations else 0,
        milestones=[steps_of(milestone, steps, total_steps) for milestone in milestones],
        is_end_validated=math.isinf(total_steps)
        or ends_validated(batches, accumulate, int(total_steps), every, interval),
        late_from=trainer.datamodule.late_from,  # type: ignore[attr-defined]
        first_share=max([first_share(each, total_steps) for each in trainer.callbacks], default=0.0),  # type: ignore[attr-defined]
    )


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
