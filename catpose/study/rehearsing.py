"""Before a study's first trial its configurations are built and take a step, in a process of their own.

So a configuration that can't be trained is known in seconds, and how long all will take.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from catpose.errors import InputError
from catpose.run.outlook import UNVALIDATED, ends_validated
from catpose.study.environment import environment
from catpose.study.file import Study
from catpose.study.outcome import last_words
from catpose.study.process import POLL, die_with_parent
from catpose.study.space import Configuration
from catpose.text import duration

Settings = dict[str, Any]


def rehearse(
    study: Study,
    configurations: Sequence[tuple[Configuration, Settings]],
    workers: int,
    progress: Callable[[str], object] = lambda line: None,
) -> list[float]:
    """Build every configuration; of those that differ in numbers alone (a rate, a probability), one takes a step.

    Args:
        configurations: with all their settings, by dotted name.
        workers: so many share this machine.
        progress: called with how far it is.

    Returns:
        seconds of a trial of each configuration, as far as a step tells.

    Raises:
        InputError: a configuration can't be trained, by its name.
    """
    if not configurations:
        return []
    first: dict[str, int] = {}
    groups = [first.setdefault(_shape(settings), i) for i, (_, settings) in enumerate(configurations)]
    trainings = [
        {"args": study.args(configuration, study.seeds[0]), "step": groups[i] == i}
        for i, (configuration, _) in enumerate(configurations)
    ]
    metrics = [metric for metric in study.metrics if not metric.startswith("val/")]
    count = len(configurations)
    found = answers(trainings, metrics, workers, lambda i: progress(f"configuration {i + 1} of {count}"))
    for (configuration, _), answer in zip(configurations, found, strict=False):
        if "error" in answer:
            raise InputError(f"{study.file}: configuration {configuration.label}: {answer['error']}")
    for i, (configuration, settings) in enumerate(configurations):
        if not _has_ap(found[groups[i]], settings):
            raise InputError(f"{study.file}: configuration {configuration.label}: {UNVALIDATED}")
    return [seconds_of_run(found[groups[i]], settings) for i, (_, settings) in enumerate(configurations)]


def seconds_of_run(answer: dict[str, Any], settings: Settings) -> float:
    """Seconds of a whole training whose first steps were timed.

    Args:
        answer: of `answers`, with a step. settings: the training's, by dotted name.
    """
    return answer["epoch_s"] * math.ceil(_steps(answer, settings) / answer["steps"])


def _steps(answer: dict[str, Any], settings: Settings) -> int:
    """Of a whole training; those of an epoch where nothing ends it."""
    epochs, steps = (int(settings.get(f"trainer.{key}") or -1) for key in ("max_epochs", "max_steps"))
    ends = [*([epochs * answer["steps"]] if epochs > 0 else []), *([steps] if steps > 0 else [])]
    return min(ends, default=answer["steps"])


def _has_ap(answer: dict[str, Any], settings: Settings) -> bool:
    """Whether a training ends with a validation, as far as one device tells."""
    of = {key.removeprefix("trainer."): value for key, value in settings.items() if key.startswith("trainer.")}
    if of["limit_val_batches"] == 0:
        return False
    if "batches" not in answer:
        return True
    every, interval, steps = of["check_val_every_n_epoch"], of["val_check_interval"], _steps(answer, settings)
    return ends_validated(answer["batches"], of["accumulate_grad_batches"], steps, every, interval)


def _shape(settings: Settings) -> str:
    """What two configurations share whose steps are alike: all but fractions, the seed and the number of epochs."""
    shared = {
        key: value
        for key, value in settings.items()
        if not isinstance(value, float) and key not in ("seed_everything", "data.seed", "trainer.max_epochs")
    }
    return json.dumps(shared, sort_keys=True, default=str)


def answers(
    trainings: list[dict[str, Any]], metrics: list[str], workers: int, progress: Callable[[int], object]
) -> list[dict[str, Any]]:
    """Those of `catpose.cost.rehearsal`, one for each training up to the first that fails.

    Args:
        trainings: of each the arguments of `fit`, "args", and whether it takes a "step".
        metrics: costs that will be asked for, by name.
        workers: so many share this machine.
        progress: called with how many are done.

    Returns:
        of each "epoch_s", seconds of an epoch, and "steps", so many it has, where it took one; or "error", why it can't
        be trained.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers, log = Path(folder) / "answers", Path(folder) / "log"
        answers.touch()
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "catpose.cost.rehearsal", str(answers)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(workers, 0),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        assert child.stdin is not None
        try:
            with child.stdin:
                child.stdin.write(json.dumps({"trainings": trainings, "metrics": metrics}).encode())
            while child.poll() is None:
                progress(answers.read_bytes().count(b"\n"))
                time.sleep(POLL)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        found = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        if len(found) < len(trainings) and not (found and "error" in found[-1]):
            found.append({"error": _how_it_died(child.returncode, log)})
        return found


def _how_it_died(code: int, log: Path) -> str:
    if code < 0:
        return f"its first step was ended by {signal.Signals(-code).name}; is the machine's memory too small for it?"
    return f"its first step ended with exit code {code}: {last_words(log, 0)}"


def forecast(study: Study, tried: Sequence[tuple[Configuration, float]], workers: int) -> str:
    """What a study will take, as lines for people.

    Args:
        tried: configurations with the seconds of a trial of each, as they were rehearsed.
        workers: so many at once.
    """
    count = len(study.configurations)
    trials = count * len(study.seeds)
    lines = [f"study {study.name}: {count} configurations with {len(study.seeds)} seeds are {trials} trials"]
    lines += [f"  {each.label}: {duration(s)} a trial" for each, s in tried]
    if not tried:
        return f"{lines[0]}, all of which are kept"
    total = duration(sum(seconds for _, seconds in tried) / len(tried) * math.ceil(trials / workers))
    machines = "one after the other" if workers == 1 else f"{workers} at once"
    lines.append(f"{machines} they take about {total} here, by their first steps, which are slower than later ones")
    return "\n".join(lines)
