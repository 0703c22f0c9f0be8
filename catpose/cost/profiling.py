"""What a configuration costs, as one record: measured, written as profile.json, read again."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from catpose.cost.complexity import Complexity, complexity
from catpose.cost.memory import is_out_of_memory
from catpose.cost.runtime import RunTime
from catpose.cost.timing import Timing, half_of, name_of, time_predictions
from catpose.cost.training_step import (
    TrainingStep,
    largest_prediction_batch,
    largest_training_batch,
    time_training,
)
from catpose.cost.values import Count, Text
from catpose.data.datamodule import CatDataModule
from catpose.errors import InputError, one_line
from catpose.files import LARGEST_RECORD, as_record, read_json, write_json
from catpose.machine import usable_cores
from catpose.model.pose import PoseModel
from catpose.run.checkpoint import require_fit
from catpose.run.cli import FitCLI, input_error
from catpose.run.provenance import Provenance

#: A profile.json of another shape has another number.
FORMAT = 1
#: Of the budget for one measurement, that of the training steps, whose times vary more.
TRAINING_BUDGETS = 4


@dataclass(frozen=True)
class Cost:
    """What a model costs on a device."""

    model: Text  # its class
    settings: dict[str, Any]  # every setting of `fit`, defaults included
    device: Text
    threads: Count  # of torch, on the CPU
    complexity: Complexity
    predictions: tuple[Timing, ...]
    training: TrainingStep | None
    largest_training_batch: Count | None  # that fits; None where it wasn't looked for
    largest_prediction_batch: Count | None
    notes: tuple[Text, ...]  # what could not be measured, and why


@dataclass(frozen=True)
class Profile:
    """The content of a profile.json."""

    provenance: Provenance
    cost: Cost | None
    runs: tuple[RunTime, ...]
    format: Count = FORMAT

    def write(self, folder: Path) -> Path:
        """Write profile.json, whole or not at all.

        Raises:
            InputError: the folder can't be written to.
        """
        write_json(folder / "profile.json", dataclasses.asdict(self))
        return folder / "profile.json"


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
) -> Cost:
    """Count and time what a configuration comes to; the model's weights are random, which changes no cost.

    Args:
        args: as `fit` takes them, `--config` and settings.
        batch_sizes: of the predictions; None: 1, 2, 4, … as far as `seconds` allow.
        seconds: for each measurement of predictions, and four times as much for the training steps.
        compiled, half: time predictions so, too.
        skip: "training", "predictions" or both.
        progress: told what is being done.

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
    training, in_training, in_prediction = None, None, None
    predictions: list[Timing] = []
    if "training" not in skip:
        progress("training steps")
        training, lines = _training(cli, model, datamodule, device, TRAINING_BUDGETS * seconds)
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
    cli: FitCLI, model: PoseModel, datamodule: CatDataModule, device: torch.device, seconds: float
) -> tuple[TrainingStep | None, list[str]]:
    """The training steps; a line where there is no room for them."""
    try:
        return time_training(model, datamodule, device, seconds, cli.config.trainer.as_dict()), []
    except MisconfigurationException as error:
        raise input_error(error, cli.config.trainer) from error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None, [f"no room for training steps of {datamodule.batch_size} crops"]


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


def read_profile(path: Path) -> Profile:
    """What `Profile.write` wrote, each value checked; nothing in the file is executed.

    Raises:
        InputError: as `read_json`, or no profile.
    """
    try:
        content = read_json(path, LARGEST_RECORD)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return as_record(Profile, content)
    except ValueError as error:
        why = one_line(error)[:120]
        raise InputError(f"{path}: is no profile ({why}); make it again with catpose.profile") from None
