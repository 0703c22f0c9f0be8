"""An experiment as it stands, among studies that one command runs in their order."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from catpose.errors import InputError
from catpose.plain_yaml import flatten, read_yaml
from catpose.run.cli import FitCLI
from catpose.run.directory import RunDirectory, lacking
from catpose.study.deadline import START_S, part_of, too_long
from catpose.study.environment import environment
from catpose.study.kept import differing_settings, keep, taken
from catpose.study.process import POLL, die_with_parent, end, line
from catpose.study.rehearsing import answers, duration, seconds_of_run


def is_experiment(file: Path) -> bool:
    """Whether a file is an experiment, rather than a study that varies one.

    Raises:
        InputError: it can't be read.
    """
    content = read_yaml(file, "see experiments/ and sweeps/ for some")
    return isinstance(content, dict) and "model" in content and not {"experiment", "space"} & content.keys()


def run_experiment(file: Path, overrides: Sequence[str], out: Path, options: Namespace, until: float | None) -> None:
    """Train an experiment in a `fit` of its own, or go on with it; or take it as done.

    Args:
        overrides: settings of the command line.
        out: the run's folder.
        options: `sweep`'s.
        until: when all has to be over, by `time.monotonic()`: then it is stopped, to be gone on with later.

    Raises:
        InputError: it can't be trained.
        SystemExit: stopped by a signal.
    """
    imports = [f"--import={module}" for module in options.imports]
    args = [*imports, "--config", str(file), *overrides, f"--out={out}"]
    title, run = f"experiment {file.stem}", RunDirectory(out)
    place = None if options.results is None else options.results / file.stem
    if options.dry_run and place is not None and place.exists():
        print(f"{title}: is kept in {place}")
        return
    if options.dry_run:
        print(f"{title}: about {duration(_seconds(file, args, out))} here, by its first steps")
        return
    if place is not None and taken(place, args, out, options.mixed_versions, f"{title}: "):
        return
    settings = flatten(FitCLI(args).resolved())
    whole = run.record.exists() and not differing_settings(run, settings) and lacking(settings, run.history()) is None
    if whole and (run.complexity.exists() or not run.last.exists()):  # not killed in its last checkpoint's writing
        print(f"{title}: has all its epochs ({out})")
    else:
        why = "" if until is None else too_long(_seconds(file, args, out), until - time.monotonic())
        if why:
            print(f"{title}: not begun, {why}")
            return
        print(f"{title}: {line(args)}", flush=True)
        if not _train(title, args, until):
            return
    if place is not None and not place.exists():
        keep(out, place, {})


def _seconds(file: Path, args: Sequence[str], out: Path) -> float:
    """How long what is left of it will take, by its first steps."""
    found = answers([{"args": [*args], "step": True}], [], 1, lambda done: None)[0]
    if "error" in found:
        raise InputError(f"{file}: {found['error']}")
    return seconds_of_run(found, flatten(FitCLI([*args]).resolved())) * (1 - part_of([out])) + START_S


def _train(title: str, args: Sequence[str], until: float | None) -> bool:
    """Whether the training ended by itself, and not because the time was over."""
    from catpose.study.running import stopped_by_signals

    stopping = threading.Event()
    with stopped_by_signals() as stops:
        stops.append(stopping.set)
        child = subprocess.Popen(
            [sys.executable, "-m", "catpose.fit", *args],
            stdin=subprocess.DEVNULL,
            env=environment(1, 0),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            while child.poll() is None:
                if stopping.is_set() or (until is not None and time.monotonic() > until):
                    end(child, gently=True)
                    print(f"{title}: stopped; the same command goes on from its last checkpoint", flush=True)
                    return False
                time.sleep(POLL)
        finally:
            if child.poll() is None:
                end(child, gently=False)
    if child.returncode:
        raise InputError(f"{title}: its training ended with exit code {child.returncode}; see above")
    return True
