"""When a command's time is over, and what can still end before that."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median

from catpose.errors import InputError
from catpose.run.directory import RunDirectory
from catpose.study.rehearsing import duration
from catpose.study.trial import Trial

#: Seconds that a training takes beside its epochs: a process that starts, data that are checked.
START_S = 15.0


class Deadline:
    """The end of a command's time.

    Args:
        at: by `time.monotonic()`.
        seconds_of: how long a trial will take.
    """

    def __init__(self, at: float, seconds_of: Callable[[Trial], float]) -> None:
        self._at, self._seconds_of = at, seconds_of

    def left(self) -> float:
        """Seconds that are left."""
        return self._at - time.monotonic()

    def refuses(self, trial: Trial) -> str:
        """Why a trial isn't to be begun; "" where it will end in time."""
        return too_long(self._seconds_of(trial), self.left())


def too_long(seconds: float, left: float) -> str:
    """Why what takes so many seconds isn't to be begun with so many left; "" where it will end in time."""
    return f"since it takes about {duration(seconds)} and {duration(max(left, 0))} are left" if seconds > left else ""


def time_of(
    rehearsed: Mapping[str, float], trials: Iterable[Trial], finished: Callable[[Trial], float]
) -> Callable[[Trial], float]:
    """How long a trial will take, seconds: as long as finished ones of its configuration, else as its first step told.

    Args:
        rehearsed: seconds by configuration's label.
        trials: the study's.
        finished: which part of a trial is done already, 0 to 1.
    """
    known: dict[str, list[float]] = {}
    for trial in trials:
        if trial.state == "complete" and trial.configuration and trial.outcome and trial.outcome.seconds:
            known.setdefault(trial.configuration.label, []).append(trial.outcome.seconds)
    seconds = dict(rehearsed) | {label: median(each) for label, each in known.items()}

    def of(trial: Trial) -> float:
        longest = max(seconds.values(), default=math.inf)  # of one that a sampler hasn't chosen yet
        whole = seconds.get(trial.configuration.label, longest) if trial.configuration else longest
        part = finished(trial)
        return whole * (1 - part) + START_S if part < 1 else 0.0

    return of


def part_of(folders: Iterable[Path]) -> float:
    """Which part of a run is done, 0 to 1, in the folder where it has come farthest; none without a checkpoint.

    Epochs after the last checkpoint count, though a killed run trains them again.
    """
    parts = [0.0]
    for folder in folders:
        run = RunDirectory(folder)
        try:
            history, settings = (run.history(), run.settings) if run.last.exists() else ([], {})
            epochs, steps = (int(settings.get(f"trainer.{key}") or -1) for key in ("max_epochs", "max_steps"))
            parts.append(len(history) / epochs if epochs > 0 else 0.0)
            parts.append(float(history[-1].get("step") or 0) / steps if steps > 0 and history else 0.0)
        except (InputError, ValueError):
            continue
    return min(max(parts), 1.0)
