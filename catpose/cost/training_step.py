"""A training step taken apart, as Lightning's profiler sees it in `fit`'s own loop: waiting for data, forward, …"""

from __future__ import annotations

import logging
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from catpose.cost.memory import IN_MEMORY, LARGEST, ON_GPU, has_room, largest, peak_mb
from catpose.cost.metrics import WARM_UP_PASSES, synchronise
from catpose.cost.record import Phase, TrainingStep
from catpose.cost.timing import made_up_batch, percentiles, rate
from catpose.data.datamodule import CatDataModule
from catpose.model.pose import Batch, PoseModel
from catpose.run.network import default_precision

#: The last is what Lightning does between the others: hooks, metrics, the schedule.
PHASES = ("waiting for data", "moving to the device", "forward", "backward", "optimiser", "in between")
LEAST, MOST = 3, 1000  # steps that are timed; a budget of time lies in between
#: The trainer's settings that a step's time hangs on.
TAKEN = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "deterministic",
         "benchmark")  # fmt: skip
#: What Lightning calls the phases, by the ends of its names; an optimiser's step has forward and backward within it.
_ACTIONS = {
    "train_dataloader_next": "waiting for data",
    "batch_to_device": "moving to the device",
    "training_step": "forward",
    "backward": "backward",
    "optimizer_step": "optimiser",
}


class Phases(Profiler):
    """Lightning's profiler with the seconds of each phase since they were last taken, all work on the device done."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def start(self, action_name: str) -> None:
        self._count(action_name, -1)

    def stop(self, action_name: str) -> None:
        self._count(action_name, 1)

    def _count(self, action: str, sign: int) -> None:
        phase = _ACTIONS.get(action.rpartition(".")[2])
        if phase and not action.startswith("[Callback]"):
            synchronise(self.device)
            self.seconds[phase] += sign * time.perf_counter()


class Steps(Callback):
    """The seconds of each phase in each step, until there are enough.

    Args:
        size: of a whole batch; an epoch's smaller last one is learnt from only.
        seconds: for all steps; some are timed even where they take longer.
    """

    def __init__(self, phases: Phases, size: int, seconds: float) -> None:
        self.phases, self.size, self.seconds = phases, size, seconds
        self.taken = 0
        self.timed: list[list[float]] = []  # as PHASES
        self.begun = time.perf_counter()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.moment = time.perf_counter()
        self.phases.seconds.clear()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        synchronise(self.phases.device)
        now = time.perf_counter()
        warm = self.taken >= WARM_UP_PASSES or (self.taken > 0 and self.moment - self.begun > self.seconds)
        if warm and len(batch["crop"]) == self.size:
            seconds = self.phases.seconds
            seconds["optimiser"] -= seconds["forward"] + seconds["backward"] if seconds["optimiser"] else 0
            each = [max(0.0, seconds[phase]) for phase in PHASES[:-1]]
            self.timed.append([*each, max(0.0, now - self.moment - sum(each))])
        enough = len(self.timed) >= MOST or sum(map(sum, self.timed)) >= self.seconds
        trainer.should_stop = len(self.timed) >= LEAST and enough
        self.taken += 1
        self.moment = time.perf_counter()
        self.phases.seconds.clear()


def time_training(
    model: PoseModel,
    datamodule: CatDataModule,
    device: torch.device,
    seconds: float,
    settings: Mapping[str, Any] | None = None,
) -> TrainingStep:
    """Time training steps on the datamodule's data, or on made-up crops where its folder isn't there.

    Args:
        seconds: for all steps; three are timed even where they take longer.
        settings: the trainer's, of which those in `TAKEN` are.

    Raises:
        InputError: the data folder is there and can't be used.
        torch.OutOfMemoryError: the GPU's memory is too small.
    """
    has_data = Path(datamodule.root).exists()
    size, phases = datamodule.batch_size, Phases(device)
    if has_data:
        datamodule.setup("fit")
        size = min(size, len(datamodule.train_dataloader().sampler))  # type: ignore[arg-type]
    steps = Steps(phases, size, seconds)
    with quiet(), peak_mb(device) as peak:
        trainer = trainer_of(device, settings or {}, callbacks=[steps], profiler=phases)
        if has_data:
            trainer.fit(model, datamodule=datamodule)
        else:
            trainer.fit(model, _made_up_loader(size, datamodule.input_size, len(model.skeleton), MOST + WARM_UP_PASSES))
        most = peak()
    each = 1000 * np.array(steps.timed)  # (n, 6)
    whole = each.sum(1).tolist()
    medians, shares = np.median(each, axis=0).tolist(), (each.sum(0) / each.sum()).tolist()
    known = tuple(Phase(*values) for values in zip(PHASES, medians, shares, strict=True))
    return TrainingStep(
        size,
        datamodule.root if has_data else None,
        getattr(trainer.train_dataloader, "num_workers", None) if has_data else None,
        str(trainer.precision),
        known[0 if has_data else 1 :],
        *percentiles(whole),
        len(whole),
        rate(size, whole),
        most,
        IN_MEMORY if device.type == "cpu" else ON_GPU,
    )


def trainer_of(device: torch.device, settings: Mapping[str, Any], **arguments: Any) -> pl.Trainer:
    """Lightning's trainer on a device, as `fit` has it but without end, loggers, checkpoints and validations."""
    return pl.Trainer(
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=10**6,  # an end that a schedule can know
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"precision": default_precision(device.type)}
        | {key: settings[key] for key in TAKEN if settings.get(key) is not None},
        **arguments,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's lines and warnings on clusters, versions and loaders; Ctrl-C, which it makes an exit of, is
    Ctrl-C again."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SIGTERMException:
        raise
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        logger.setLevel(level)


def _made_up_loader(size: int, input_size: tuple[int, int], n_keypoints: int, batches: int = 1) -> DataLoader:
    """Loads one made-up batch so many times."""
    batch = made_up_batch(size, input_size, n_keypoints)
    return DataLoader(range(size * batches), batch_size=size, collate_fn=lambda _: batch)  # type: ignore[arg-type]


def largest_training_batch(
    model: PoseModel, input_size: tuple[int, int], device: torch.device, settings: Mapping[str, Any] | None = None
) -> int:
    """The most crops, up to `LARGEST`, that a GPU has room for in a training step."""

    def step(n: int) -> None:
        with quiet():
            trainer_of(device, settings or {}, max_steps=1).fit(
                model, _made_up_loader(n, input_size, len(model.skeleton))
            )

    return largest(partial(has_room, step, device), LARGEST)


def largest_prediction_batch(
    model: PoseModel, input_size: tuple[int, int], device: torch.device, settings: Mapping[str, Any] | None = None
) -> int:
    """The same in predicting with the flip test."""

    def predict(n: int) -> None:
        with quiet():
            trainer_of(device, settings or {}).predict(model, _made_up_loader(n, input_size, len(model.skeleton)))

    flip_test, model.flip_test = model.flip_test, True
    try:
        return largest(partial(has_room, predict, device), LARGEST)
    finally:
        model.flip_test = flip_test
