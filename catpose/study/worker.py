"""A worker: claim a trial, run it, follow it, deliver it, until the study is done. Any number may work on one study.

The ledger decides (see there), Optuna's rows follow: a trial that is finished in the ledger is told to Optuna after it,
by its worker or, should that die in between, by whoever looks next. When the database is away, trainings go on; what is
to be told to it waits until it is back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from catpose.errors import one_line
from catpose.study import rows
from catpose.study import trial as trials
from catpose.study.file import COSTS, Study
from catpose.study.ledger import MOST_LOST, Ledger, Trial
from catpose.study.storage import AWAY

T = TypeVar("T")
OnEpoch = Callable[[int, float], bool]
Told = Callable[[], Literal["stopped", "fenced"] | None]
#: Runs a trial; the second argument is the worker's index on this machine.
Runner = Callable[[Trial, int, OnEpoch, Told], trials.Ended]
#: Seconds that a stopping worker tries to reach the database to give its trial back.
LAST_TRY = 20.0


def tell_people(line: str) -> None:
    """Print a line at once, also into a log that someone follows."""
    print(line, flush=True)


class Crew:
    """The workers of this process: what they share.

    Args:
        study: what is being found out.
        ledger: who holds what.
        record: Optuna's study.
        run: runs one trial.
        say: prints a line for people.
    """

    def __init__(
        self, study: Study, ledger: Ledger, record: optuna.Study, run: Runner, say: Callable[[str], None] | None = None
    ) -> None:
        self.study, self.ledger, self.record, self.run, self.say = study, ledger, record, run, say or tell_people
        self.distributions = study.space.distributions()
        self.metric = next(iter(study.metrics))
        self.stopping = threading.Event()
        self.held: dict[tuple[int, int], Trial] = {}  # by this process
        self.fenced: set[tuple[int, int, int]] = set()  # (point, seed, token)
        self.epoch: dict[int, str] = {}  # of what is running, by number
        self._away_since: float | None = None
        self._lock = threading.Lock()
        limit = study.time_limit
        self._until = None if limit is None else time.monotonic() + limit

    def work(self, workers: int = 1) -> None:
        """Run trials with so many threads until nothing is left, the time limit is over, or `stop` is called."""
        heart = threading.Thread(target=self._beat, daemon=True)
        done = self._done = threading.Event()
        heart.start()
        failures: list[BaseException] = []

        def one(index: int) -> None:
            try:
                self._work(index)
            except _Stopped:
                return
            except BaseException as error:
                failures.append(error)
                self.stopping.set()

        threads = [threading.Thread(target=one, args=(index,)) for index in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # a bare join would not let signals in
                self._show()
        done.set()
        heart.join()
        if failures:
            raise failures[0]
        with contextlib.suppress(_Stopped):
            self._patiently(lambda: rows.mirror(self.record, self.ledger, [*self.study.metrics], self.distributions))

    def stop(self) -> None:
        """End the trials that are running, and give them back."""
        self.stopping.set()

    # -- one worker -------------------------------------------------------------------------------------------------

    def _work(self, index: int) -> None:
        while not self.stopping.is_set() and not self._is_late():
            trial = self._patiently(self.ledger.claim)
            if trial is not None:
                self._hold(trial, index)
            elif not self._patiently(self.ledger.unfinished):
                break
            else:  # others are at the last ones; one of them may die
                self.stopping.wait(min(self.ledger.interval, 5.0) * random.uniform(0.5, 1.0))

    def _is_late(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def _hold(self, trial: Trial, index: int) -> None:
        key = (trial.point, trial.seed)
        self.held[key] = trial
        try:
            prepared = self._patiently(lambda: self._prepare(trial))
            if prepared is None:
                return
            trial, row = prepared
            self.held[key] = trial
            try:
                ended = self.run(trial, index, lambda epoch, value: self._report(row, epoch, value), self._told(trial))
            except Exception as error:  # a full disk, a checkpoint that can't be read: this trial's result, like any
                ended = trials.Ended("failed", {"reason": f"{type(error).__name__}: {one_line(error)[:300]}"})
            self._deliver(trial, ended)
        except _Stopped:
            self._give_back(trial)
        finally:
            self.held.pop(key, None)
            self.epoch.pop(-1 if trial.number is None else trial.number, None)

    def _prepare(self, trial: Trial) -> tuple[Trial, optuna.trial.Trial] | None:
        """A claimed trial with its arm, and its Optuna row; None where it isn't to be run."""
        token, trial = trial.token, self.ledger.trial(trial.point, trial.seed)  # an earlier try may have come half way
        is_mine = trial.token == token and trial.state == "running"
        row = rows.row(self.record, self.ledger, trial, self.distributions, self.study.space.arm) if is_mine else None
        if row is None:
            self.say(f"{self._title(trial)}: another worker has taken it over")
            return None
        is_new, stands = trial.number is None, self.ledger.trial(trial.point, trial.seed).arm
        trial = dataclasses.replace(trial, arm=stands, number=row.number)
        same = self._same_as(trial) if is_new else None
        if same is not None:
            self._deliver(trial, trials.Ended("failed", {"reason": f"the same settings and seed as trial {same}"}))
            return None
        return trial, row

    def _same_as(self, trial: Trial) -> int | None:
        """The number of an earlier trial with the same settings and seed, which a sampler may propose again."""
        if self.study.trials is None or trial.arm is None or trial.number is None:
            return None
        for other in self.ledger.trials():
            is_same = other.arm is not None and (other.arm["words"], other.seed) == (trial.arm["words"], trial.seed)
            # Of two at the same time the one of the lower number is run: both have noted theirs before they look.
            if is_same and other.number is not None and other.number < trial.number and other.state != "failed":
                return other.number
        return None

    def _told(self, trial: Trial) -> Told:
        def told() -> Literal["stopped", "fenced"] | None:
            if (trial.point, trial.seed, trial.token) in self.fenced:
                return "fenced"
            return "stopped" if self.stopping.is_set() else None

        return told

    def _show(self) -> None:
        """What is running, in one line of a terminal that is written over."""
        if sys.stderr.isatty() and self.epoch:
            line = "; ".join(f"[{number}] {text}" for number, text in sorted(self.epoch.items()))
            print(f"\r\033[K{line[:200]}", end="\r", file=sys.stderr, flush=True)

    def _report(self, row: optuna.trial.Trial, epoch: int, value: float) -> bool:
        """Tell Optuna of an epoch; whether the trial is to be pruned."""
        self.epoch[row.number] = f"epoch {epoch}: {self.metric} {value:.4g}"
        if len(self.study.metrics) > 1:
            return False

        def report() -> bool:
            with contextlib.suppress(UpdateFinishedTrialError):  # someone ended the row in the dashboard
                row.report(value, epoch)
            return self.study.pruner is not None and row.should_prune()

        try:
            return self._patiently(report)
        except _Stopped:
            return False

    def _deliver(self, trial: Trial, ended: trials.Ended) -> None:
        if ended.how == "fenced":
            self.say(f"{self._title(trial)}: another worker has taken it over; stopped here")
            return
        if ended.how == "stopped":
            self._give_back(trial)
            return
        if ended.how == "vanished":
            if self._patiently(lambda: self.ledger.lose(trial, ended.outcome)):
                again = "is tried again" if trial.lost < MOST_LOST else "is given up"
                self.say(f"{self._title(trial)}: {ended.outcome['reason']}; it {again}")
        else:
            if self._patiently(lambda: self.ledger.finish(trial, ended.how, ended.outcome, ended.results)):
                self.say(f"{self._title(trial)}: {self._result(ended)}")
        self._patiently(lambda: rows.tell(self.record, self.ledger, trial, [*self.study.metrics], self.distributions))

    def _title(self, trial: Trial) -> str:
        label = trial.arm["label"] if trial.arm else f"point {trial.point}"
        return f"[{trial.number}] {label}, seed {trial.seed}"

    def _result(self, ended: trials.Ended) -> str:
        if ended.how == "failed":
            return f"failed: {ended.outcome['reason']}"
        outcome = ended.outcome
        figures = ", ".join(f"{name} {outcome['values'][name]:.4g}" for name in self.study.metrics)
        best = (
            f" (best val/AP {outcome['best_ap']:.4g} in epoch {outcome['best_epoch']})" if "best_ap" in outcome else ""
        )
        how = f"pruned after epoch {outcome.get('epochs', 0) - 1}, " if ended.how == "pruned" else ""
        minutes = f", {outcome['seconds'] / 60:.1f} min" if "seconds" in outcome else ""
        return f"{how}{figures}{best}{minutes}"

    def _give_back(self, trial: Trial) -> None:
        try:
            self._patiently(lambda: self.ledger.release(trial), tries_for=LAST_TRY)
        except _Stopped:  # its silence will tell the others
            self.say(f"{self._title(trial)}: could not be given back; it will be taken over")

    # -- heart, and patience ----------------------------------------------------------------------------------------

    def _beat(self) -> None:
        while not self._done.wait(self.ledger.interval):
            try:
                for key, trial in list(self.held.items()):
                    if not self.ledger.beat(trial) and self.held.get(key) is trial:
                        self.fenced.add((trial.point, trial.seed, trial.token))
                self.ledger.watch()
            except AWAY:
                continue
            except Exception as error:  # without a heart its trials would be taken over, unknown to it
                self.say(f"the heartbeat failed: {type(error).__name__}: {one_line(error)[:200]}")

    def _patiently(self, call: Callable[[], T], tries_for: float | None = None) -> T:
        """What `call` returns, tried until the database answers.

        Raises:
            _Stopped: told to stop, and not answered within `tries_for` seconds (at once where none are given).
        """
        start, pause = time.monotonic(), 0.2
        while True:
            try:
                result = call()
            except AWAY as error:
                self._is_away(error)
            else:
                self._is_back()
                return result
            if self.stopping.is_set() and time.monotonic() - start >= (tries_for or 0.0):
                raise _Stopped
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 1.5, 5.0)

    def _is_away(self, error: Exception) -> None:
        with self._lock:
            if self._away_since is None:
                self._away_since = time.monotonic()
                why = one_line(getattr(error, "orig", None) or error.__cause__ or error)[:150]
                self.say(f"the storage is away ({why}); trials go on, their results wait")

    def _is_back(self) -> None:
        with self._lock:
            if self._away_since is not None:
                self.say(f"the storage is back after {time.monotonic() - self._away_since:.0f} s")
                self._away_since = None


class _Stopped(Exception):
    """The worker is told to stop while the database is away."""


def fit_runner(study: Study, study_id: str, out: Path, workers: int) -> Runner:
    """Runs a trial as a `fit` below `out`, on the worker's share of this machine."""

    def run(trial: Trial, index: int, on_epoch: OnEpoch, told: Told) -> trials.Ended:
        words = trials.fit_words(study, study_id, trial, out)
        folder, logs = out / "trials" / trials.name_of(trial), out / "logs"
        tell_people(f"[{trial.number}] {trials.line(words)}")
        metric = next((name for name in study.metrics if name not in COSTS), "val/AP")
        ended = trials.run(
            words,
            folder,
            logs / f"{trials.name_of(trial)}.log",
            metric,
            trial.token,
            trials.environment(workers, index),
            on_epoch,
            told,
        )
        if ended.how == "complete":
            ended.outcome["values"] |= costs(folder, [name for name in study.metrics if name in COSTS])
        return ended

    return run


def costs(folder: Path, names: list[str]) -> dict[str, float]:
    """What the model of a run costs, by name."""
    if not names:
        return {}
    from catpose.model import cost
    from catpose.run.checkpoint import load_model

    model, settings = load_model(folder / "last.ckpt")
    width, height = settings["data"]["input_size"]
    device = "cuda" if trials.visible_gpus() else "cpu"
    measure: dict[str, Callable[[], float]] = {
        "GMACs": lambda: cost.gmacs(model, (width, height)),
        "params_M": lambda: cost.params_m(model),
        "latency_ms": lambda: cost.latency_ms(model, (width, height), device),
    }
    return {name: measure[name]() for name in names}
