"""Two workers in two containers, one frozen and thawed at random, its training with it or alive all the while.

To each other they are machines: neither sees the other's processes. Whatever happens, each trial is to be complete
once, with every epoch, and its numbers and weights those of a run that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import csv
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import psutil
import pytest
import torch

from catpose.study.ledger import Ledger, Trial
from catpose.study.storage import normal_url, open_engine

REPOSITORY = Path(__file__).parents[2]
#: How long the long form goes on: `CATPOSE_FREEZE_MINUTES=60 make long`.
MINUTES = "CATPOSE_FREEZE_MINUTES"
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
GRACE = 4.0
EPOCHS = 12
#: Who lost its owner more often has failed; so much is freezing allowed to bring about.
MOST_TAKEN = 2
DEADLINE = 1500.0  # seconds of one study


def missing() -> str | None:
    """Why there can be no containers here."""
    if shutil.which("unshare") is None:
        return "no unshare (util-linux, Linux)"
    tried = subprocess.run([*CONTAINER, "true"], capture_output=True, text=True)
    return f"no PID namespaces: {tried.stderr.strip()[:100]}" if tried.returncode else None


@pytest.fixture(autouse=True)
def _containers() -> None:
    why_not = missing()
    if why_not:
        pytest.skip(why_not)


def study_file(folder: Path, tiny: Path, arms: int, seeds: int, loaders: int) -> Path:
    rates = ", ".join(f"{0.001 * (i + 1):.3f}" for i in range(max(arms, 2)))
    file = folder / "freeze.yaml"
    file.write_text(
        f"# Question: does anybody notice?\nexperiment: {tiny}\n"
        f"settings: {{trainer.max_epochs: {EPOCHS}, wandb.mode: disabled, data.num_workers: {loaders}}}\n"
        f"space:\n  model.lr: [{rates}]\nseeds: {seeds}\ngrace: {GRACE}\n"
    )
    return file


class Study:
    """A study with workers in containers."""

    def __init__(self, file: Path, out: Path) -> None:
        self.file, self.out, self.log = file, out, out.with_suffix(".log")
        self.url = f"sqlite:///{out}/study.db"
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, workers: int = 1) -> None:
        command = [sys.executable, "-m", "catpose.sweep", "--config", str(self.file), "--out", str(self.out)]
        for _ in range(workers):
            with self.log.open("ab") as log:
                self.workers.append(subprocess.Popen([*CONTAINER, *command], cwd=REPOSITORY, stdout=log, stderr=log))

    def trials(self) -> list[Trial]:
        with contextlib.suppress(Exception):  # nobody has made the tables yet
            return Ledger(open_engine(self.url), "freeze", GRACE).trials()
        return []

    def is_locked(self) -> bool:
        """Whether somebody is within a write; who is frozen there, SQLite lets nobody pass, this process neither."""
        with contextlib.closing(sqlite3.connect(self.out / "study.db", timeout=1)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
        return False

    def is_running(self) -> bool:
        return any(worker.poll() is None for worker in self.workers)

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()


def children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def folder_of(training: int) -> Path | None:
    with contextlib.suppress(psutil.Error):
        args = psutil.Process(training).cmdline()
        return next((Path(arg.removeprefix("--out=")) for arg in args if arg.startswith("--out=")), None)
    return None


def trainings(study: Study) -> Iterator[tuple[int, int, Path]]:
    """(worker, its training, the training's folder), as this namespace sees them; of those that have their folder and
    not yet all epochs."""
    for container in study.workers:
        for worker in children(container.pid) if container.poll() is None else ():
            for training in children(worker):
                folder = folder_of(training)
                if folder and (folder / "run.json").exists() and len(history(folder)) < EPOCHS - 2:
                    yield worker, training, folder


def others(study: Study, training: int, index: int, seed: int) -> list[int]:
    """Other trainings of a trial."""
    each = [t for c in study.workers for worker in children(c.pid) for t in children(worker) if t != training]
    name = re.compile(rf"{index:03d}-.*-seed{seed}(-claim\d+)?")
    return [pid for pid in each if (folder := folder_of(pid)) and name.fullmatch(folder.name)]


def history(run: Path) -> list[dict[str, str]]:
    with contextlib.suppress(OSError), (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
    return []


def family(pid: int) -> list[int]:
    return [pid, *(each for child in children(pid) for each in family(child))]


def send(pids: list[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def freeze(study: Study, dice: random.Random, until_taken: bool, done: Counter[str]) -> None:
    """Freeze a worker, with its training or without, and thaw it."""
    able = list(trainings(study))
    if not able:
        return
    worker, training, folder = dice.choice(able)
    index, seed = map(int, re.fullmatch(r"(\d+)-.*-seed(\d+)(?:-claim\d+)?", folder.name).groups())  # type: ignore[union-attr]
    alone = until_taken or dice.random() < 0.6
    both = [worker, *family(training)]
    send([worker], signal.SIGSTOP)  # first, for a quick machine: what has no worker can't be written down as finished
    try:
        if study.is_locked():
            return
        trial = next((trial for trial in study.trials() if trial.key == (index, seed)), None)
        if trial is None or trial.state != "running" or trial.lost_attempts >= MOST_TAKEN:
            return
        if until_taken or not alone:
            begun = time.monotonic() + 60
            while time.monotonic() < begun and not (folder / "last.ckpt").exists():
                time.sleep(0.01)
            both = [worker, *family(training)]
            send(both, signal.SIGSTOP)
        end = time.monotonic() + (120 if until_taken else dice.uniform(0.2, 3 * GRACE))
        while time.monotonic() < end and study.is_running():
            if until_taken and others(study, training, index, seed):
                break
            time.sleep(0.1)
        if until_taken:  # its training lives on beside the other's, and nobody watches it
            time.sleep(dice.uniform(0, 8))
            send(both[1:], signal.SIGCONT)
        time.sleep(dice.uniform(0, 3))  # it is thawed at any moment of what the other does
    finally:
        send(both, signal.SIGCONT)
    done["freezes"] += 1
    done["of the worker alone"] += alone


def disturbed(file: Path, out: Path, dice: random.Random, done: Counter[str]) -> Study:
    """A study of two workers, one of which is frozen again and again."""
    study = Study(file, out)
    started = time.monotonic()
    try:
        study.start(2)
        while study.is_running():
            assert time.monotonic() - started < DEADLINE, study.log.read_text()[-3000:]
            freeze(study, dice, until_taken=not any(trial.lost_attempts for trial in study.trials()), done=done)
            time.sleep(dice.uniform(0.05, 0.3))
    finally:
        study.end()
    assert [worker.returncode for worker in study.workers] == [0, 0], study.log.read_text()[-3000:]
    return study


def undisturbed(file: Path, out: Path) -> Study:
    study = Study(file, out)
    study.start()
    study.workers[0].wait(DEADLINE)
    assert study.workers[0].returncode == 0, study.log.read_text()[-3000:]
    return study


def numbers(run: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if "second" not in key} for row in history(run)]


def require_same(study: Study, reference: Study) -> None:
    ledgers = [Ledger(open_engine(each.url), "freeze", GRACE) for each in (study, reference)]
    ours, theirs = (ledger.trials() for ledger in ledgers)
    assert [trial.state for trial in ours] == ["complete"] * len(theirs)
    rows = optuna.load_study(study_name="freeze", storage=normal_url(study.url)).get_trials()
    complete = [row.user_attrs for row in rows if row.state is optuna.trial.TrialState.COMPLETE]
    assert sorted((row["point"], row["seed"]) for row in complete) == sorted(t.key for t in theirs)
    for trial, other in zip(ours, theirs, strict=True):
        assert trial.outcome and trial.outcome.run  # noqa: PT018
        assert other.outcome and other.outcome.run  # noqa: PT018
        run, undisturbed = Path(trial.outcome.run), Path(other.outcome.run)
        assert run.name.endswith(f"seed{trial.seed}" if trial.token == 1 else f"-claim{trial.token}")
        assert [row["epoch"] for row in numbers(run)] == [str(epoch) for epoch in range(EPOCHS)], trial
        assert numbers(run) == numbers(undisturbed), trial
        assert trial.outcome.values == other.outcome.values
        results = [ledger.results(*trial.key) or b"" for ledger in ledgers]
        assert zlib.decompress(results[0]) == zlib.decompress(results[1]) == (run / "val_results.json").read_bytes()
        states = [torch.load(each / "last.ckpt", weights_only=True)["state_dict"] for each in (run, undisturbed)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[1]), trial
    folders = [file.parent.name for file in study.out.glob("trials/*/last.ckpt")]
    assert len(folders) == len(ours), folders  # what was left behind is gone


def report(done: Counter[str], studies: int, trials: int, seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    freezes = f"{done['freezes']} freezes ({done['of the worker alone']} of the worker alone)"
    with capsys.disabled():
        print(
            f"\n{studies} studies, {trials} trials, {freezes}, {done['take-overs']} take-overs,"
            f" {seconds / 60:.1f} min: all equal to undisturbed runs"
        )


@pytest.mark.parametrize("loaders", [pytest.param(0, marks=pytest.mark.long), pytest.param(2, marks=pytest.mark.slow)])
def test_a_frozen_worker_is_taken_over_and_changes_nothing(
    tiny: Path, tmp_path: Path, loaders: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file, done, started = study_file(tmp_path, tiny, 2, 1, loaders), Counter[str](), time.monotonic()
    study = disturbed(file, tmp_path / "disturbed", random.Random(loaders), done)
    done["take-overs"] = sum(trial.token - 1 for trial in study.trials())
    assert done["take-overs"]
    require_same(study, undisturbed(file, tmp_path / "undisturbed"))
    report(done, 1, 2, time.monotonic() - started, capsys)


@pytest.mark.long
def test_hours_of_freezing(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    minutes = float(os.environ.get(MINUTES, "60"))
    seed = random.randrange(2**32)
    dice, done, started, studies, trials = random.Random(seed), Counter[str](), time.monotonic(), 0, 0
    file = study_file(tmp_path, tiny, 3, 2, 0)
    reference = undisturbed(file, tmp_path / "undisturbed")
    try:
        while time.monotonic() - started < 60 * minutes:
            folder = tmp_path / f"{studies}"
            folder.mkdir()
            study = disturbed(study_file(folder, tiny, 3, 2, 2 * (studies % 2)), folder / "out", dice, done)
            done["take-overs"] += sum(trial.token - 1 for trial in study.trials())
            require_same(study, reference)
            studies, trials = studies + 1, trials + len(study.trials())
            shutil.rmtree(folder)
    finally:
        with capsys.disabled():
            print(f"\ndice of {seed}")
    report(done, studies, trials, time.monotonic() - started, capsys)
