"""A training step taken apart: waiting for data, moving it, forward, backward, optimiser."""

from __future__ import annotations

import itertools
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer

from catpose.data.datamodule import CatDataModule
from catpose.model.cost import WARM_UP_PASSES, evaluated, synchronise
from catpose.model.pose import OPTIMIZERS, Batch, PoseModel
from catpose.run.memory import IN_MEMORY, ON_GPU, has_room, largest, peak_mb
from catpose.run.timing import autocast, made_up_batch, percentiles, rate

PHASES = ("waiting for data", "moving to the device", "forward", "backward", "optimiser")
LEAST, MOST = 3, 1000  # steps that are timed; a budget of time lies in between
#: Lightning's names of the precisions that are known here.
PRECISIONS: dict[str | None, torch.dtype] = {
    **dict.fromkeys((None, "32", "32-true"), torch.float32),
    **dict.fromkeys(("16", "16-mixed"), torch.float16),
    **dict.fromkeys(("bf16", "bf16-mixed"), torch.bfloat16),
}


@dataclass(frozen=True)
class Phase:
    """Part of a training step."""

    name: str  # one of PHASES
    median_ms: float
    share: float  # of the time of all steps


@dataclass(frozen=True)
class TrainingStep:
    """Training steps as `fit` takes them, without what Lightning, callbacks and loggers do in between."""

    batch_size: int
    data: str | None  # the folder; None where the crops were made up, and none waited for
    workers: int | None  # loading processes; None as `data`
    precision: str  # "float32", or with autocast "bfloat16" or "float16"
    phases: tuple[Phase, ...]
    p50_ms: float
    p95_ms: float
    n: int  # steps timed
    images_per_s: float
    peak_mb: float | None  # None where nobody tells
    peak_is: str  # what `peak_mb` is of

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"no batch has {self.batch_size} crops")


class Learner:
    """Training steps of a model on a device."""

    def __init__(self, model: PoseModel, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.model, self.device, self.dtype = model.to(device).train(), device, dtype
        model.setup("fit")  # as Lightning does
        make = OPTIMIZERS[model.optimizer]
        self.optimizer = make(model.parameters(), lr=model.lr, weight_decay=model.weight_decay)  # type: ignore[call-arg]
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def step(self, batch: Batch) -> list[float]:
        """Learn from a batch in main memory.

        Returns:
            seconds at the start, and at the end of each phase but the first.
        """
        moments = [time.perf_counter()]
        moved = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        self._note(moments)
        with autocast(self.device, self.dtype):
            loss = self.model.loss(self.model(moved["crop"]), moved)
        self._note(moments)
        self.scaler.scale(loss).backward()
        self._note(moments)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self._note(moments)
        return moments

    def _note(self, moments: list[float]) -> None:
        synchronise(self.device)
        moments.append(time.perf_counter())


def time_training(
    model: PoseModel,
    datamodule: CatDataModule,
    device: torch.device,
    seconds: float,
    dtype: torch.dtype = torch.float32,
) -> TrainingStep:
    """Time training steps on the datamodule's data, or on made-up crops where its folder isn't there.

    Args:
        seconds: for all steps; three are timed even where they take longer.
        dtype: of autocast; float32 does without.

    Raises:
        InputError: the data folder is there and can't be used.
        torch.OutOfMemoryError: the GPU's memory is too small.
    """
    size, data, workers = datamodule.batch_size, None, None
    batches: Iterator[Batch] = itertools.repeat(made_up_batch(size, datamodule.input_size))
    if Path(datamodule.root).exists():
        loader = opened(datamodule, device)
        batches, size = endless(loader), min(size, len(loader.sampler))  # type: ignore[arg-type]
        data, workers = datamodule.root, loader.num_workers
    with peak_mb(device) as peak:
        seconds_each = _steps(Learner(model, device, dtype), batches, size, seconds)
        most = peak()
    each = 1000 * np.array(seconds_each)  # (n, 5)
    whole = each.sum(1).tolist()
    medians, shares = np.median(each, axis=0).tolist(), (each.sum(0) / each.sum()).tolist()
    phases = tuple(Phase(*known) for known in zip(PHASES, medians, shares, strict=True))
    return TrainingStep(
        size,
        data,
        workers,
        str(dtype).removeprefix("torch."),
        phases[0 if data is not None else 1 :],
        *percentiles(whole),
        len(whole),
        rate(size, whole),
        most,
        IN_MEMORY if device.type == "cpu" else ON_GPU,
    )


def _steps(learner: Learner, batches: Iterator[Batch], size: int, seconds: float) -> list[np.ndarray]:
    """Seconds of each phase, of steps after the first few; a smaller batch at an epoch's end is learnt from only."""
    steps: list[np.ndarray] = []
    begun = time.perf_counter()
    for i in itertools.count():
        asked = time.perf_counter()
        batch = next(batches)
        moments = learner.step(batch)
        warm = i >= WARM_UP_PASSES or (i > 0 and asked - begun > seconds)
        if warm and len(batch["crop"]) == size:
            steps.append(np.diff([asked, *moments]))
        if len(steps) >= LEAST and (len(steps) >= MOST or np.sum(steps) >= seconds):
            return steps
    raise AssertionError


def opened(datamodule: CatDataModule, device: torch.device) -> torch.utils.data.DataLoader:
    """The training loader, with as many processes as `fit` has on this device."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on clusters and versions, which concern nobody here
        datamodule.trainer = Trainer(
            accelerator=device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    datamodule.setup("fit")
    return datamodule.train_dataloader()


def endless(loader: torch.utils.data.DataLoader) -> Iterator[Batch]:
    """Epoch after epoch."""
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader


def largest_training_batch(
    model: PoseModel, input_size: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32
) -> int:
    """The most crops, up to `LARGEST`, that a GPU has room for in a training step."""
    learner = Learner(model, device, dtype)
    return largest(partial(has_room, lambda n: learner.step(made_up_batch(n, input_size)), device))


def largest_prediction_batch(
    model: PoseModel, input_size: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32
) -> int:
    """The same in predicting with the flip test."""

    def predict(n: int) -> None:
        batch = {name: value.to(device) for name, value in made_up_batch(n, input_size).items()}
        with autocast(device, dtype):
            model.poses(model(batch["crop"]), batch)

    model.to(device).zero_grad()
    flip_test, model.flip_test = model.flip_test, True
    try:
        with evaluated(model):
            return largest(partial(has_room, predict, device))
    finally:
        model.flip_test = flip_test
