"""A run that was disturbed ends as one that wasn't, with any number of data workers and processes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from catpose.run.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

PATIENCE = 600  # seconds, on a busy machine
CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
EXACT = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")


HELD = "--trainer.callbacks+=held.Held"


def command(config: Path, out: Path, processes: int, workers: int, epochs: int, *more: str) -> list[str]:
    shared = ["--trainer.devices=2", "--trainer.strategy=ddp"] if processes == 2 else []
    return [
        *(sys.executable, "-m", "catpose.fit", "--config", str(config), "--out", str(out), "--wandb.mode=disabled"),
        *(f"--trainer.max_epochs={epochs}", f"--data.num_workers={workers}", *shared, *more),
    ]


def environment(held: Path | None = None) -> dict[str, str]:
    ours = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])  # where held.py is
    return {**os.environ, "PYTHONPATH": ours} | ({"HELD": str(held)} if held else {})


def fit(*arguments: Any) -> None:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=PATIENCE, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module", params=[1, 2], ids=lambda n: f"{n} process" + "es" * (n > 1))
def whole(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """How many processes, and a run of three epochs that nobody disturbed, without data workers."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(tiny, out, request.param, 0, 3)
    return request.param, out


def disturb(sent: signal.Signals, arguments: tuple[Any, ...], held: Path) -> str:
    """Send a signal to all processes of a run within its second epoch, as a terminal or SLURM does.

    Returns:
        what it said on standard error.
    """
    held.mkdir()
    processes = arguments[2]
    run = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(held),
        start_new_session=True,
        # A shell starts what runs in the background deaf to Ctrl-C, and so would be what these tests start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.time() + PATIENCE
        while not all((held / str(rank)).exists() for rank in range(processes)):
            assert run.poll() is None, run.communicate()[1][-3000:]
            assert time.time() < deadline
            time.sleep(0.02)
        os.killpg(run.pid, sent)
        time.sleep(0.5)
        (held / "go").touch()
        stderr = run.communicate(timeout=PATIENCE)[1]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == CODES[sent], stderr[-3000:]
    return stderr


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


@pytest.mark.parametrize("workers", [0, 2], ids=lambda n: f"{n} workers")
@pytest.mark.parametrize("sent", CODES, ids=lambda sent: sent.name)
def test_a_run_that_was_ended_within_an_epoch(
    sent: signal.Signals, workers: int, whole: tuple[int, Path], tiny: Path, tmp_path: Path
) -> None:
    arguments = (tiny, tmp_path / "run", whole[0], workers, 3, HELD)
    stderr = disturb(sent, arguments, tmp_path / "held")
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 0
    if sent != signal.SIGKILL:
        assert "the same command goes on after its last finished epoch" in stderr
        assert "Traceback" not in stderr
    fit(*arguments)
    assert_same(tmp_path / "run", whole[1])


@pytest.mark.parametrize("workers", [0, 2], ids=lambda n: f"{n} workers")
def test_a_run_that_is_given_more_epochs(workers: int, whole: tuple[int, Path], tiny: Path, tmp_path: Path) -> None:
    processes, undisturbed = whole
    fit(tiny, tmp_path / "run", processes, workers, 1)
    fit(tiny, tmp_path / "run", processes, workers, 3)
    assert_same(tmp_path / "run", undisturbed)
