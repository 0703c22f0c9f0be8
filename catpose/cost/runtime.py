"""The run time of a run, from its metrics.csv and run.json."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from catpose.cost.values import Amount, Count, Text
from catpose.errors import InputError
from catpose.run.directory import RunDirectory

COLUMNS = ("epoch", "step", "train_seconds", "epoch_seconds", "images_per_second")


@dataclass(frozen=True)
class Spread:
    """Seconds of some epochs, or of an iteration in each of them."""

    mean_s: Amount
    std_s: Amount | None  # over epochs, n - 1 in the denominator; None of a single one
    slowest_s: Amount
    slowest_epoch: Count
    fastest_s: Amount
    fastest_epoch: Count


@dataclass(frozen=True)
class RunTime:
    """A run's finished epochs. An epoch is training and validation; an iteration is a step of the optimiser.

    The first epoch of each start, in which caches fill and kernels are chosen, is left out of mean and spread where
    others are there.
    """

    run: Text  # the folder
    starts: Count  # more than one where the run was resumed
    epochs: Count
    first_epochs: tuple[Count, ...]  # of each start; of runs of 0.1.0, which didn't write them down, of the first alone
    first_epochs_s: tuple[Amount, ...]
    epoch: Spread  # of the others, or of the first ones where there are no others
    iteration: Spread | None  # means over an epoch's training; None where the rows don't tell how many there were
    training_share: Amount  # of the time of the same epochs
    images_per_s: Amount  # in their training
    total_s: Amount  # of all finished epochs, the first ones too


def run_time(folder: Path) -> RunTime:
    """How long a run took.

    Args:
        folder: of a run of `fit`.

    Raises:
        InputError: no metrics.csv there, or a damaged one.
    """
    run = RunDirectory(folder, remedy="restore it, or leave out this --run")
    rows = run.history()
    if not rows:
        raise InputError(f"--run {folder}: has no epoch in a metrics.csv; name the folder of a run of catpose.fit")
    try:
        numbers = [{key: float(row[key]) for key in COLUMNS} for row in rows]
        if not all(0 < row["train_seconds"] <= row["epoch_seconds"] < math.inf for row in numbers):
            raise ValueError
        if not all(0 <= row[key] < math.inf for row in numbers for key in COLUMNS):
            raise ValueError
    except (KeyError, ValueError):
        raise InputError(f"{run.metrics}: has no usable {', '.join(COLUMNS)}; name a run of catpose.fit") from None
    seconds = {int(row["epoch"]): row["epoch_seconds"] for row in numbers}
    trained = {int(row["epoch"]): row["train_seconds"] for row in numbers}
    steps = {-1: 0.0} | {int(row["epoch"]): row["step"] for row in numbers}
    iterations = {e: steps[e] - steps[e - 1] for e in seconds if e - 1 in steps and steps[e] > steps[e - 1]}
    starts = run.starts if run.record.exists() else []
    first = [epoch for epoch in seconds if epoch == min(seconds) or epoch in {start.first_epoch for start in starts}]
    settled = [epoch for epoch in seconds if epoch not in first] or list(seconds)
    each_step = {epoch: trained[epoch] / iterations[epoch] for epoch in settled if epoch in iterations}
    images = sum(row["images_per_second"] * row["train_seconds"] for row in numbers if int(row["epoch"]) in settled)
    return RunTime(
        str(folder),
        max(1, len(starts)),
        len(seconds),
        tuple(first),
        tuple(seconds[epoch] for epoch in first),
        _spread({epoch: seconds[epoch] for epoch in settled}),
        _spread(each_step) if each_step else None,
        sum(trained[epoch] for epoch in settled) / sum(seconds[epoch] for epoch in settled),
        images / sum(trained[epoch] for epoch in settled),
        sum(seconds.values()),
    )


def _spread(seconds: dict[int, float]) -> Spread:
    slowest, fastest = max(seconds, key=seconds.__getitem__), min(seconds, key=seconds.__getitem__)
    std = statistics.stdev(seconds.values()) if len(seconds) > 1 else None
    return Spread(statistics.fmean(seconds.values()), std, seconds[slowest], slowest, seconds[fastest], fastest)
