"""Running a study with the workers of this process."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning
from tqdm import tqdm

from catpose.data.resplit import resplit
from catpose.errors import INTERRUPTED, TERMINATED, InputError, one_line
from catpose.files import require_writable
from catpose.study.deadline import Deadline, part_of, time_of
from catpose.study.directory import StudyDirectory
from catpose.study.file import OptunaClass, Study
from catpose.study.opening import Opened, open_ledger, settings_of, trained
from catpose.study.record import require_own, write_record
from catpose.study.rehearsing import rehearse
from catpose.study.results import design_of
from catpose.study.rows import Rows
from catpose.study.runner import fit_runner, name_of, place_of
from catpose.study.space import Configuration
from catpose.study.storage import AWAY, AwayError, masked, open_storage, open_study
from catpose.study.trial import OPEN, Trial
from catpose.study.worker import WorkerPool

T = TypeVar("T")
#: Seconds that a study's server has to come back.
PATIENCE_S = 600


def run(
    study: Study,
    url: str,
    directory: StudyDirectory,
    workers: int,
    retry_failed: bool,
    command: Sequence[str],
    mixed_versions: bool,
    results: Path | None = None,
    until: float | None = None,
) -> Opened:
    """Create the study or go on with it, until all its trials are finished.

    Args:
        results: where finished trials are kept in small, and taken from. until: the end by `time.monotonic()`, or None.

    Raises:
        InputError: as `open_ledger`.
        SystemExit: stopped by SIGTERM or SIGUSR2 (143) or Ctrl-C (130); trials were given back.
    """

    def patiently(call: Callable[[], T]) -> T:
        return _while_away(directory, call)

    with stopped_by_signals() as stops:
        sampler_of(study), pruner_of(study)  # refused before anything is tried
        require_writable(directory.path, "--out", folder=True)
        warnings.filterwarnings("ignore", "The reported value is ignored", UserWarning)  # a resumed trial's old epochs
        known = patiently(lambda: trained(study, url, mixed_versions)) | kept_labels(study, results)
        tried = {each.label: seconds for each, seconds in rehearsed(study, workers, known)}
        opened = patiently(lambda: open_ledger(study, url, create=True, mixed_versions=mixed_versions))
        ledger = opened.ledger
        directory.set_aside(opened.corrections)
        if study.splits:
            resplit(opened.root, study.splits, directory.divisions)
        rows = patiently(lambda: _open_rows(study, opened, url))
        if retry_failed:
            print(f"{patiently(ledger.retry_failed)} trials that failed or ended early are tried again")
        patiently(lambda: begin(study, rows))
        require_own(directory, study.name)  # another one may have begun there meanwhile
        directory.record(f"python -m catpose.sweep {shlex.join(command)}", study.file.read_text(encoding="utf-8"))
        for note in opened.notes:
            print(note)

        def record() -> list[Trial]:
            """How the study stands, for a report that is made while it runs."""
            trials = ledger.trials()
            write_record(directory.summary, design_of(study, opened.reference), trials, opened.notes)
            return trials

        trials = patiently(record)
        to_come = sum(trial.state in OPEN for trial in trials)
        places = f"storage {masked(url)}, files {directory.path}/"
        print(f"study {study.name}: {len(trials)} trials, {to_come} to come; {places}")
        deadline = _deadline(until, tried, trials, _finished_in(study, directory, results))
        run_one = fit_runner(study, opened.id, directory, workers, results, mixed_versions)
        pool = WorkerPool(study, ledger, rows, run_one, ended=record, deadline=deadline)
        stops.append(pool.stop)
        pool.work(workers)
    return opened


def rehearsed(study: Study, workers: int, known: Collection[str]) -> list[tuple[Configuration, float]]:
    """Configurations to try the study with, all but those of the known labels, and the seconds of a trial of each.

    Raises:
        InputError: one can't be trained.
    """
    configurations = [each for each in study.space.samples() if each.label not in known]
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False, disable=None) as progress:
        seconds = rehearse(
            study,
            [(each, settings_of(study, each)) for each in configurations],
            workers,
            lambda line: progress.set_description_str(f"first steps: {line}"),
        )
    return list(zip(configurations, seconds, strict=True))


def _deadline(
    until: float | None, tried: dict[str, float], trials: Sequence[Trial], finished: Callable[[Trial], float]
) -> Deadline | None:
    return None if until is None else Deadline(until, time_of(tried, trials, finished))


def kept_labels(study: Study, results: Path | None) -> set[str]:
    """The labels of configurations that were finished elsewhere with all seeds, and are kept in `results`."""
    if results is None:
        return set()
    return {
        each.label
        for index, each in enumerate(study.configurations)
        if each and all(place_of(study, results, Trial(index, seed, each, "waiting")).exists() for seed in study.seeds)
    }


def _finished_in(study: Study, directory: StudyDirectory, results: Path | None) -> Callable[[Trial], float]:
    """Which part of a trial is done already, 0 to 1: all of one that is kept in `results`."""

    def part(trial: Trial) -> float:
        if trial.configuration is None:
            return 0.0
        if results is not None and place_of(study, results, trial).exists():
            return 1.0
        name = name_of(trial)
        return part_of([directory.trials / name, *directory.trials.glob(f"{name}-claim*")])

    return part


def _open_rows(study: Study, opened: Opened, url: str) -> Rows:
    """Optuna's rows of a study; those of a corrected one begin anew.

    Raises:
        InputError: the storage can't be used.
    """
    name = study.name + (f" ({opened.corrections + 1})" if opened.corrections else "")
    storage = open_storage(url)
    record = open_study(storage, name, [*study.metrics.values()], sampler_of(study), pruner_of(study))
    return Rows(record, storage, opened.ledger, [*study.metrics], study.space)


def begin(study: Study, rows: Rows) -> None:
    """What every worker brings up to date in Optuna's study before it works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        rows.study.set_metric_names([*study.metrics])  # what the dashboard writes on its axes
    rows.study.set_user_attr("question", study.question)
    rows.mirror()


def _while_away(directory: StudyDirectory, call: Callable[[], T]) -> T:
    """What `call` returns. Where a study was run in this directory before, its server has ten minutes to come back.

    A worker that is started again, by a cluster for example, may well come while the server is restarted. On a first
    start it is more likely that the URL is wrong, and nobody wants to wait for that.

    Raises:
        InputError: the storage can't be used.
    """
    until = time.monotonic() + (PATIENCE_S if directory.was_run else 0)
    is_waiting = False
    while True:
        try:
            return call()
        except (AwayError, *AWAY) as error:
            if time.monotonic() >= until:
                raise
            if not is_waiting:
                print(f"waiting for the storage: {one_line(error)[:200]}", flush=True)
            is_waiting = True
            time.sleep(2)


def sampler_of(study: Study) -> optuna.samplers.BaseSampler | None:
    """The sampler that the study asks for, Optuna's TPE for one that is sampled without, none for a grid.

    Raises:
        InputError: Optuna has none of this name, or refuses its settings.
    """
    if study.sampler is None:
        return None if study.trials is None else optuna.samplers.TPESampler(constant_liar=True)
    where = f"{study.file}: sampler"
    kind = _class(optuna.samplers, study.sampler, optuna.samplers.BaseSampler, where)
    with _refusals(where, study.sampler):  # some only say when they are asked what they lack, or can't do
        probe = optuna.create_study(sampler=kind(**study.sampler.settings), directions=[*study.metrics.values()])
        probe.tell(probe.ask(study.space.distributions()), [0.0] * len(study.metrics))
        return kind(**study.sampler.settings)


def pruner_of(study: Study) -> optuna.pruners.BasePruner:
    """The pruner that the study asks for, or one that prunes nothing. Raises as `sampler_of`."""
    if study.pruner is None:
        return optuna.pruners.NopPruner()
    where = f"{study.file}: pruner"
    kind = _class(optuna.pruners, study.pruner, optuna.pruners.BasePruner, where)
    with _refusals(where, study.pruner):
        return kind(**study.pruner.settings)


def _class(module: Any, described: OptunaClass, base: type, where: str) -> Callable[..., Any]:
    kind = getattr(module, described.name, None)
    if not isinstance(kind, type) or not issubclass(kind, base):
        suffix = base.__name__.removeprefix("Base")
        known = sorted(name for name in module.__all__ if name.endswith(suffix) and not name.startswith("Base"))
        raise InputError(f"{where}: Optuna has no {one_line(described.name)}; it has {', '.join(known)}")
    return kind


@contextlib.contextmanager
def _refusals(where: str, described: OptunaClass) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise InputError(f"{where}: {described.name}: {one_line(error)[:200]}") from None


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[list[Callable[[], None]]]:
    """On SIGTERM, SIGUSR2 or Ctrl-C call what was put into the list, then leave with the signal's exit code.

    A second signal ends at once.
    """
    calls: list[Callable[[], None]] = []
    received: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if len(received) > 1 or not calls:
            sys.exit(code(signum))
        print("stopping: running trials end and are given back; the same command goes on", file=sys.stderr)
        for call in calls:
            call()

    def code(signum: int) -> int:
        return INTERRUPTED if signum == signal.SIGINT else TERMINATED

    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP]
    handled = [signum for signum in signals if signal.getsignal(signum) is not signal.SIG_IGN]  # nohup's wish stands
    before = {signum: signal.signal(signum, handle) for signum in handled}
    try:
        yield calls
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if received:
        sys.exit(code(received[0]))
