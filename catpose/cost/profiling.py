"""What a configuration costs, measured as one record (`catpose.cost.record`)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from itertools import product

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from catpose.cost.complexity import complexity
from catpose.cost.memory import is_out_of_memory
from catpose.cost.record import Cost, Timing, TrainingStep
from catpose.cost.table import milliseconds, quantity
from catpose.cost.timing import half_of, name_of, time_predictions
from catpose.cost.training_step import largest_prediction_batch, largest_training_batch, time_training
from catpose.data.datamodule import CatDataModule
from catpose.machine import usable_cores
from catpose.model.pose import PoseModel
from catpose.model.stored import require_fit
from catpose.run.cli import FitCLI, input_error

#: Of the budget for one measurement, that of the training steps, whose times vary more.
TRAINING_BUDGETS = 4


def measure(
    args: Sequence[str],
    device: torch.device,
    batch_sizes: Sequence[int] | None,
    seconds: float,
    *,
    compiled: bool = False,
    half: bool = False,
    skip: Sequence[str] = (),
    progress: Callable[[str], object] = lambda line: None,
    found: Callable[[str], object] = lambda line: None,
) -> Cost:
    """Count and time what a configuration comes to; the model's weights are random, which changes no cost.

    Args:
        args: as `fit` takes them, `--config` and settings.
        batch_sizes: of the predictions; None: 1, 2, 4, … as far as `seconds` allow.
        seconds: for each measurement of predictions, and four times as much for the training steps.
        compiled, half: time predictions so, too.
        skip: "training", "predictions" or both.
        progress: told what is being done.
        found: told each result as it comes.

    Raises:
        InputError: settings or data that can't be used.
    """
    progress("building")
    cli = FitCLI(list(args))
    settings = json.loads(json.dumps(cli.resolved()), parse_constant=str)  # JSON has no infinity
    model, datamodule = build(cli)
    size = datamodule.input_size
    require_fit(model, size)
    progress("counting")
    counted, notes = complexity(model, size), busy()
    found(f"{quantity(counted.params)} parameters, {quantity(counted.macs)} multiply–adds")
    training, in_training, in_prediction = None, None, None
    predictions: list[Timing] = []
    if "training" not in skip:
        progress("training steps")
        training, lines = _training(cli, model, datamodule, device, TRAINING_BUDGETS * seconds, found)
        in_training, in_prediction, more = _largest_batches(cli, model, size, device, progress)
        notes += lines + more
    if "predictions" not in skip:
        dtypes = (torch.float32, half_of(device)) if half else (torch.float32,)
        for dtype, by_compiler in product(dtypes, (False, True) if compiled else (False,)):
            timed, lines = time_predictions(model, size, device, batch_sizes, seconds, dtype, by_compiler, progress)
            predictions, notes = predictions + timed, notes + lines
    return Cost(
        type(model).__name__,
        settings,
        name_of(device),
        torch.get_num_threads(),
        counted,
        tuple(predictions),
        training,
        in_training,
        in_prediction,
        tuple(notes),
    )


def _training(
    cli: FitCLI,
    model: PoseModel,
    datamodule: CatDataModule,
    device: torch.device,
    seconds: float,
    found: Callable[[str], object],
) -> tuple[TrainingStep | None, list[str]]:
    """The training steps; a line where there is no room for them."""
    try:
        step = time_training(model, datamodule, device, seconds, cli.config.trainer.as_dict())
    except MisconfigurationException as error:
        raise input_error(error, cli.config.trainer) from error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None, [f"no room for training steps of {datamodule.batch_size} crops"]
    found(f"a training step of {step.batch_size} crops: {milliseconds(step.p50_ms)} ms")
    return step, []


def _largest_batches(
    cli: FitCLI, model: PoseModel, size: tuple[int, int], device: torch.device, progress: Callable[[str], object]
) -> tuple[int | None, int | None, list[str]]:
    """Of training and of prediction; a line where they aren't looked for."""
    if device.type != "cuda":
        return None, None, ["the largest batch that fits is looked for on CUDA devices only"]
    progress("largest batch")
    trainer = cli.config.trainer.as_dict()
    in_training = largest_training_batch(model, size, device, trainer)
    return in_training, largest_prediction_batch(model, size, device, trainer), []


def busy() -> list[str]:
    """A line where the machine has other things to do, which makes every time too long."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load <= usable_cores() / 2:
        return []
    return [f"the machine was busy before (load {load:.1f} on {usable_cores()} cores): times are too long"]


def build(cli: FitCLI) -> tuple[PoseModel, CatDataModule]:
    """The model, its weights random, and the data side of settings, nothing of either opened.

    Raises:
        InputError: a value that one of the classes refuses.
    """
    if "weights" in cli.config.model.init_args:
        cli.config.model.init_args.weights = None
    try:
        built = cli.parser.instantiate_classes(cli.config)
    except (MisconfigurationException, ImportError, RuntimeError, ValueError, TypeError) as error:
        raise input_error(error, cli.config.trainer) from error
    return built.model, built.data
