"""A run that was disturbed ends as one that wasn't, with any number of data workers and processes."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from fit_server import FitServer

from catpose.run.checkpoint import read_checkpoint

PATIENCE = 600  # seconds, on a busy machine
CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
EXACT = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")


HELD = "--trainer.callbacks+=held.Held"


@dataclass
class Run:
    """A training of one or two processes, on the tiny configuration."""

    server: FitServer
    config: Path
    out: Path
    processes: int
    workers: int

    def start(self, epochs: int, *more: str, held: Path | None = None) -> int:
        """The number of its first process."""
        shared = ["--trainer.devices=2", "--trainer.strategy=ddp"] if self.processes == 2 else []
        argv = [
            *("--config", str(self.config), "--out", str(self.out), "--wandb.mode=disabled"),
            *(f"--trainer.max_epochs={epochs}", f"--data.num_workers={self.workers}", *shared, *more),
        ]
        return self.server.start(argv, {"HELD": str(held or "")}, fresh=self.processes == 2)

    def fit(self, epochs: int, *more: str) -> None:
        self.start(epochs, *more)
        assert self.server.wait() == 0, self.server.output.read_text()[-3000:]

    def disturb(self, sent: signal.Signals, held: Path) -> str:
        """Send a signal to all its processes within its second epoch, as a terminal or SLURM does.

        Returns:
            what it said.
        """
        held.mkdir()
        leader = self.start(3, HELD, held=held)
        deadline = time.time() + PATIENCE
        awaited = [*(held / str(rank) for rank in range(self.processes)), self.out / "last.ckpt"]  # by a thread
        while not all(file.exists() for file in awaited):
            assert psutil.Process(leader).status() != psutil.STATUS_ZOMBIE, self.server.output.read_text()[-3000:]
            assert time.time() < deadline
            time.sleep(0.02)
        os.killpg(leader, sent)
        time.sleep(0.5)
        (held / "go").touch()
        code, output = self.server.wait(), self.server.output.read_text()
        assert code == CODES[sent], output[-3000:]
        return output


@pytest.fixture(scope="module")
def whole(server: FitServer, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Run]:
    """A run of three epochs that nobody disturbed, of so many processes, without data workers."""

    @cache
    def whole_of(processes: int) -> Run:  # no parameter of the fixture, which would train it for each test
        run = Run(server, tiny, tmp_path_factory.mktemp("runs") / "whole", processes, 0)
        run.fit(3)
        return run

    return whole_of


def numbers(run: Path) -> list[dict[str, str]]:
    """The rows of a run without its times."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def assert_same(run: Path, whole: Path) -> None:
    """Weights, optimiser, schedule and every number but times, bit for bit."""
    assert numbers(run) == numbers(whole)
    for name in ("last.ckpt", "best.ckpt"):
        one, other = read_checkpoint(run / name), read_checkpoint(whole / name)
        assert [key for key in EXACT if not equal(one[key], other[key])] == [], name
    for name in ("val_results.json", "val_score.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


#: Processes, signal, data workers: of two processes, which take ten times as long, two pairs, the others by hand.
DISTURBED = [
    pytest.param(processes, sent, workers, id=f"{processes} processes, {sent.name}, {workers} workers", marks=marks)
    for processes in (1, 2)
    for sent in CODES
    for workers in (0, 2)
    for by_hand in [processes == 2 and (sent, workers) not in ((signal.SIGKILL, 2), (signal.SIGTERM, 0))]
    for marks in [pytest.mark.long if by_hand else pytest.mark.slow]
]


@pytest.mark.parametrize(("processes", "sent", "workers"), DISTURBED)
def test_a_run_that_was_ended_within_an_epoch(
    processes: int, sent: signal.Signals, workers: int, whole: Callable[[int], Run], tmp_path: Path
) -> None:
    undisturbed = whole(processes)
    run = replace(undisturbed, out=tmp_path / "run", workers=workers)
    said = run.disturb(sent, tmp_path / "held")
    assert read_checkpoint(run.out / "last.ckpt")["epoch"] == 0
    if sent != signal.SIGKILL:
        assert "the same command goes on from its last checkpoint" in said
        assert "Traceback" not in said
    run.fit(3, HELD)
    assert_same(run.out, undisturbed.out)


@pytest.mark.parametrize(
    ("processes", "workers"),
    [
        pytest.param(1, 0, marks=pytest.mark.slow),
        pytest.param(1, 2, marks=pytest.mark.slow),
        pytest.param(2, 0, marks=pytest.mark.long),
        pytest.param(2, 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_given_more_epochs(
    processes: int, workers: int, whole: Callable[[int], Run], tmp_path: Path
) -> None:
    undisturbed = whole(processes)
    run = replace(undisturbed, out=tmp_path / "run", workers=workers)
    run.fit(1)
    run.fit(3)
    assert_same(run.out, undisturbed.out)
