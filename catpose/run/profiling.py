"""What a configuration costs, as one record: measured, written as profile.json, read again."""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from catpose.data.datamodule import CatDataModule
from catpose.data.images import usable_cores
from catpose.errors import InputError, one_line
from catpose.files import write_json
from catpose.model.complexity import Complexity, complexity
from catpose.model.pose import PoseModel
from catpose.run.checkpoint import require_fit
from catpose.run.cli import FitCLI, input_error
from catpose.run.memory import is_out_of_memory
from catpose.run.runtime import RunTime
from catpose.run.timing import Timing, half_of, name_of, time_predictions
from catpose.run.training_step import (
    PRECISIONS,
    TrainingStep,
    largest_prediction_batch,
    largest_training_batch,
    time_training,
)

#: A profile.json of another shape has another number.
FORMAT = 1
#: No cost comes near it.
LARGEST_NUMBER = 1e18
#: Of the budget for one measurement, that of the training steps, whose times vary more.
TRAINING_BUDGETS = 4


@dataclass(frozen=True)
class Cost:
    """What a model costs on a device."""

    model: str  # its class
    settings: dict[str, Any]  # every setting of `fit`, defaults included
    device: str
    threads: int  # of torch, on the CPU
    complexity: Complexity
    predictions: tuple[Timing, ...]
    training: TrainingStep | None
    largest_training_batch: int | None  # that fits; None where it wasn't looked for
    largest_prediction_batch: int | None
    notes: tuple[str, ...]  # what could not be measured, and why


@dataclass(frozen=True)
class Profile:
    """The content of a profile.json."""

    provenance: dict[str, Any]
    cost: Cost | None
    runs: tuple[RunTime, ...]
    format: int = FORMAT

    def write(self, folder: Path) -> Path:
        """Write profile.json, whole or not at all.

        Raises:
            InputError: the folder can't be written to.
        """
        write_json(folder / "profile.json", dataclasses.asdict(self))
        return folder / "profile.json"


def measure(
    words: Sequence[str],
    device: torch.device,
    batch_sizes: Sequence[int] | None,
    seconds: float,
    *,
    compiled: bool = False,
    half: bool = False,
    skip: Sequence[str] = (),
    say: Callable[[str], object] = lambda line: None,
) -> Cost:
    """Count and time what a configuration comes to; the model's weights are random, which changes no cost.

    Args:
        words: as `fit` takes them, `--config` and settings.
        batch_sizes: of the predictions; None: 1, 2, 4, … as far as `seconds` allow.
        seconds: for each measurement of predictions, and four times as much for the training steps.
        compiled, half: time predictions so, too.
        skip: "training", "predictions" or both.
        say: told what is being done.

    Raises:
        InputError: settings or data that can't be used.
    """
    say("building")
    cli = FitCLI(list(words))
    settings = json.loads(json.dumps(cli.resolved()), parse_constant=str)  # JSON has no infinity
    model, datamodule = build(cli)
    size = datamodule.input_size
    require_fit(model, size)
    say("counting")
    counted, notes = complexity(model, size), busy()
    training, in_training, in_prediction = None, None, None
    predictions: list[Timing] = []
    if "training" not in skip:
        asked = settings["trainer"]["precision"]
        asked = None if asked is None else str(asked)
        dtype = PRECISIONS.get(asked, torch.float32)
        notes += [] if asked in PRECISIONS else [f"trainer.precision {asked} is not timed; float32 is in its place"]
        say("training steps")
        try:
            training = time_training(model, datamodule, device, TRAINING_BUDGETS * seconds, dtype)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            notes.append(f"no room for training steps of {datamodule.batch_size} crops")
        if device.type == "cuda":
            say("largest batch")
            in_training = largest_training_batch(model, size, device, dtype)
            in_prediction = largest_prediction_batch(model, size, device, dtype)
        else:
            notes.append("the largest batch that fits is looked for on CUDA devices only")
    if "predictions" not in skip:
        for dtype in (torch.float32, half_of(device)) if half else (torch.float32,):
            for by_compiler in (False, True) if compiled else (False,):
                timed, lines = time_predictions(model, size, device, batch_sizes, seconds, dtype, by_compiler, say)
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
        made = cli.parser.instantiate_classes(cli.config)
    except (MisconfigurationException, ImportError, RuntimeError, ValueError, TypeError) as error:
        raise input_error(error, cli.config.trainer) from error
    return made.model, made.data


def read_profile(path: Path) -> Profile:
    """What `Profile.write` wrote, each value checked; nothing in the file is executed.

    Raises:
        InputError: no such file, no JSON, or no profile.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return _checked(Profile, content, "profile")
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); name a profile.json of catpose.profile") from None
    except (ValueError, RecursionError) as error:
        why = one_line(error)[:120]
        raise InputError(f"{path}: is no profile ({why}); make it again with catpose.profile") from None


def _checked(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as what its annotation says; ValueError where it is something else.

    Args:
        kind: a dataclass, tuple[X, ...], dict[str, X], X | None, int or float (from 0), str (printable), bool, or Any.
        where: the value's name.
    """
    of = typing.get_args(kind)
    if kind is Any:
        return value
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return None if value is None else _checked(of[0], value, where)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        if value.keys() == hints.keys():
            return kind(**{key: _checked(hints[key], value[key], f"{where}.{key}") for key in hints})  # type: ignore[operator]
    elif typing.get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_checked(of[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    elif typing.get_origin(kind) is dict and isinstance(value, dict):
        return {key: _checked(of[1], each, f"{where}.{key}") for key, each in value.items()}
    elif kind in (int, float) and isinstance(value, int if kind is int else int | float):
        if not isinstance(value, bool) and 0 <= value < LARGEST_NUMBER:
            return value
    elif (kind is bool and isinstance(value, bool)) or (kind is str and isinstance(value, str) and value.isprintable()):
        return value
    raise ValueError(f"{where} can't be used")
