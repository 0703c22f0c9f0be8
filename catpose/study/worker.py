"""A worker: claim a trial, run it, follow it, deliver it, until the study is done. Any number may work on one study.

The ledger decides (see there), Optuna's rows follow: a trial that is finished in the ledger is reported to Optuna after
it, by its worker or, should that die in between, by whoever looks next. When the database is away, trainings go on;
what is to be written waits until it is back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from catpose.errors import InputError, one_line
from catpose.study.deadline import Deadline
from catpose.study.file import Study
from catpose.study.ledger import MOST_LOST, Ledger
from catpose.study.outcome import Ended
from catpose.study.patience import Patience, Stopped
from catpose.study.process import Stop
from catpose.study.rows import Rows
from catpose.study.runner import Runner, ShouldStop, log
from catpose.study.storage import AWAY
from catpose.study.stored import Outcome
from catpose.study.trial import FINISHED, RETRIED, Key, Trial
from catpose.text import duration

#: So many failures alike, one after the other, end a study.
ALIKE = 3
#: Seconds that a stopping worker tries to reach the database to give its trial back.
LAST_TRY = 20.0


class WorkerPool:
    """The workers of this process: what they share.

    Args:
        study: the study file's.
        ledger: who owns which trial.
        rows: Optuna's.
        run: runs one trial.
        ended: called whenever a trial has ended.
        deadline: when all has to be over, None for never.
    """

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        rows: Rows,
        run: Runner,
        ended: Callable[[], object] = lambda: None,
        deadline: Deadline | None = None,
    ) -> None:
        self.study, self.ledger, self.rows, self.run = study, ledger, rows, run
        self.ended = ended
        self.metric = next(iter(study.metrics))
        self.stopping = threading.Event()
        self.owned: dict[Key, Trial] = {}  # by this process
        self.fenced: set[tuple[Key, int]] = set()  # with the token
        self.epoch: dict[int, str] = {}  # of what is running, by number
        self._patience = Patience(self.stopping, log)
        self._done = threading.Event()
        self._deadline = deadline
        limit = study.time_limit
        self._until = None if limit is None else time.monotonic() + limit

    def work(self, workers: int = 1) -> None:
        """Run trials with so many threads until nothing is left, the time limit is over, or `stop` is called."""
        self._done.clear()
        heart = threading.Thread(target=self._beat, daemon=True)
        heart.start()
        failures: list[BaseException] = []

        def one(index: int) -> None:
            try:
                self._work(index)
            except Stopped:
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
                if self._deadline is not None and self._deadline.left() <= 0:
                    self.stop()
                self._show()
        self._done.set()
        heart.join()
        if failures:
            raise failures[0]
        with contextlib.suppress(Stopped):
            self._patience.call(self.rows.mirror)

    def stop(self) -> None:
        """End the trials that are running, and give them back."""
        self.stopping.set()

    # -- one worker -------------------------------------------------------------------------------------------------

    def _work(self, index: int) -> None:
        while not self.stopping.is_set() and not self._is_late():
            trial = self._patience.call(self.ledger.claim)
            if trial is not None and self._deadline is not None and (why := self._deadline.refuses(trial)):
                self._give_back(trial)
                log(f"{self._title(trial)}: not begun, {why}")
                break
            elif trial is not None:
                self._own(trial, index)
            elif not self._patience.call(self.ledger.unfinished):
                break
            else:  # others are at the last ones; one of them may die
                self.stopping.wait(min(self.ledger.interval, 5.0) * random.uniform(0.5, 1.0))

    def _is_late(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def _own(self, trial: Trial, index: int) -> None:
        self.owned[trial.key] = trial
        try:
            prepared = self._patience.call(lambda: self._prepare(trial))
            if prepared is None:
                return
            trial, row = prepared
            self.owned[trial.key] = trial
            try:
                ended = self.run(
                    trial, index, lambda epoch, value: self._report(row, epoch, value), self._should_stop(trial)
                )
            except Exception as error:  # a full disk, a checkpoint that can't be read: this trial's result, like any
                ended = Ended("failed", Outcome(reason=f"{type(error).__name__}: {one_line(error)[:300]}"))
            self._deliver(trial, ended)
        except (Stopped, InputError) as error:  # an InputError is of the storage: this worker can't go on
            self._give_back(trial)
            if isinstance(error, InputError):
                raise
        finally:
            self.owned.pop(trial.key, None)
            self.epoch.pop(-1 if trial.number is None else trial.number, None)

    def _prepare(self, trial: Trial) -> tuple[Trial, optuna.trial.Trial] | None:
        """A claimed trial with its configuration, and its Optuna row; None where it isn't to be run."""
        token, trial = trial.token, self.ledger.trial(*trial.key)  # an earlier try may have come half way
        is_mine = trial.token == token and trial.state == "running"
        row = self.rows.take_up(trial) if is_mine else None
        if row is None:
            log(f"{self._title(trial)}: another worker has taken it over")
            return None
        is_new, configuration = trial.number is None, self.ledger.trial(*trial.key).configuration
        trial = dataclasses.replace(trial, configuration=configuration, number=row.number)
        same = self._same_as(trial) if is_new else None
        if same is not None:
            outcome = Outcome(reason=f"the same settings and seed as trial {same}", same_as=same)
            self._deliver(trial, Ended("failed", outcome))
            return None
        return trial, row

    def _same_as(self, trial: Trial) -> int | None:
        """The number of an earlier trial with the same settings and seed, which a sampler may propose again."""
        if self.study.trials is None or trial.configuration is None or trial.number is None:
            return None
        for other in self.ledger.trials():
            if other.configuration is None or other.number is None or other.state in RETRIED:
                continue
            is_same = (other.configuration.params, other.seed) == (trial.configuration.params, trial.seed)
            # Of two at the same time the one of the lower number is run: both have noted theirs before they look.
            if is_same and other.number < trial.number:
                return other.number
        return None

    def _should_stop(self, trial: Trial) -> ShouldStop:
        def should_stop() -> Stop | None:
            if (trial.key, trial.token) in self.fenced:
                return "fenced"
            return "stopped" if self.stopping.is_set() else None

        return should_stop

    def _report(self, row: optuna.trial.Trial, epoch: int, value: float) -> bool:
        """Report an epoch to Optuna; whether the trial is to be pruned."""
        self.epoch[row.number] = f"epoch {epoch}: {self.metric} {value:.4g}"
        if len(self.study.metrics) > 1:
            return False

        def report() -> bool:
            with contextlib.suppress(UpdateFinishedTrialError):  # someone ended the row in the dashboard
                row.report(value, epoch)
            return self.study.pruner is not None and row.should_prune()

        try:
            return self._patience.call(report)
        except Stopped:
            return False

    def _deliver(self, trial: Trial, ended: Ended) -> None:
        if ended.how == "fenced":
            log(f"{self._title(trial)}: another worker has taken it over; stopped here")
            return
        if ended.how == "stopped":
            self._give_back(trial)
            return
        if ended.how == "vanished":
            if self._patience.call(lambda: self.ledger.lose(trial, ended.outcome)):
                again = "is tried again" if trial.lost_attempts < MOST_LOST else "is given up"
                log(f"{self._title(trial)}: {ended.outcome.reason}; it {again}")
        elif self._patience.call(lambda: self.ledger.finish(trial, ended.how, ended.outcome, ended.results)):
            log(f"{self._title(trial)}: {self._result(ended)}")
            log(progress(self._patience.call(self.ledger.trials)))
        self._patience.call(lambda: self.rows.tell(trial))
        with contextlib.suppress(InputError):  # a full disk: the ledger has it all
            self._patience.call(self.ended)
        if ended.how in ("failed", "vanished"):
            self._require_unlike()

    def _require_unlike(self) -> None:
        """InputError where the study's last trials failed alike: the others would, too."""
        reason = shared_failure(self._patience.call(self.ledger.trials))
        if reason is not None:
            raise InputError(
                f"study {self.study.name}: its last {ALIKE} trials failed alike, so it stops ({reason}); once that is"
                " mended the same command goes on, with --retry-failed for these too"
            )

    def _give_back(self, trial: Trial) -> None:
        try:
            self._patience.call(lambda: self.ledger.release(trial), tries_for=LAST_TRY)
        except Stopped:
            log(f"{self._title(trial)}: could not be given back; other workers take it over after the grace period")

    def _beat(self) -> None:
        while not self._done.wait(self.ledger.interval):
            try:
                for key, trial in list(self.owned.items()):
                    if not self.ledger.beat(trial) and self.owned.get(key) is trial:
                        self.fenced.add((key, trial.token))
                self.ledger.watch()
            except AWAY:
                continue
            except Exception as error:  # without a heartbeat its trials would be taken over, unknown to it
                log(f"the heartbeat failed: {type(error).__name__}: {one_line(error)[:200]}")

    # -- for people -------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """What is running, in one line of a terminal that is written over."""
        if sys.stderr.isatty() and self.epoch:
            line = "; ".join(f"[{number}] {text}" for number, text in sorted(self.epoch.items()))
            print(f"\r\033[K{line[:200]}", end="\r", file=sys.stderr, flush=True)

    def _title(self, trial: Trial) -> str:
        label = trial.configuration.label if trial.configuration else f"configuration {trial.configuration_index}"
        number = "" if trial.number is None else f"[{trial.number}] "
        return f"{number}{label}, seed {trial.seed}"

    def _result(self, ended: Ended) -> str:
        outcome = ended.outcome
        if ended.how == "failed":
            return f"failed: {outcome.reason}"
        text = ", ".join(f"{name} {outcome.values[name]:.4g}" for name in self.study.metrics)
        if outcome.best_ap is not None:
            text += f" (best val/AP {outcome.best_ap:.4g} in epoch {outcome.best_epoch})"
        if outcome.seconds is not None:
            text += f", {outcome.seconds / 60:.1f} min"
        if ended.how == "pruned":
            return f"pruned after epoch {(outcome.epochs or 0) - 1}, {text}"
        return f"ended early, with {outcome.reason}: {text}" if ended.how == "early" else text


def progress(trials: Sequence[Trial]) -> str:
    """How far a study has come: "3 of 9 done, about 12 min left", by the mean trial and those that run now."""
    seconds = [trial.outcome.seconds for trial in trials if trial.outcome and trial.outcome.seconds]
    done, running = (sum(t.state in states for t in trials) for states in (FINISHED, ("running",)))
    line = f"{done} of {len(trials)} done"
    if not seconds or done == len(trials):
        return line
    left = sum(seconds) / len(seconds) * math.ceil((len(trials) - done) / (running + 1))
    return f"{line}, about {duration(left)} left"


def shared_failure(trials: Sequence[Trial]) -> str | None:
    """Why the study's last trials failed, where they all failed alike; None otherwise.

    Alike are reasons that differ in numbers and in the trial's own paths alone. Trials are in the order in which they
    began; those that a sampler proposed twice, and nobody ran, don't count.
    """
    ended = [t for t in trials if t.state in FINISHED and t.number is not None and not _is_twin(t)]
    last = sorted(ended, key=lambda trial: trial.number or 0)[-ALIKE:]
    reasons = [trial.reason for trial in last if trial.state == "failed"]
    kinds = {re.sub(r"\S*/\S*|\d+", "#", reason) for reason in reasons if reason}
    return reasons[-1] if len(reasons) == ALIKE and None not in reasons and len(kinds) == 1 else None


def _is_twin(trial: Trial) -> bool:
    return trial.outcome is not None and trial.outcome.same_as is not None
