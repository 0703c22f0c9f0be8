"""No kill and no full disk loses a run: on a small disk of its own, other than that of temporary files.

The disk is slow, so that the training goes on while a checkpoint is written, and each start has its own idea of how
often that is to be.

`CATPOSE_KILLS` says how many kills the long test has (200), `CATPOSE_KILLS_SEED` which moments they come at.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import held
import pytest
import torch
from fit_server import FitServer

from catpose.files import TEMPORARY, read_json
from catpose.run.checkpoint import read_checkpoint

EPOCHS = 4
SECONDS = ("null", "0", "0.5", "1000")  # from one checkpoint to the next
CHECKPOINTS = 3.5  # that the disk has room for: the best, the last, and the one being written


@dataclass
class Undisturbed:
    """A run that nobody disturbed."""

    argv: list[str]  # but for --out
    run: Path
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(server: FitServer, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    run = tmp_path_factory.mktemp("runs") / "whole"
    argv = ["--config", str(tiny), f"--trainer.max_epochs={EPOCHS}", "--wandb.mode=disabled"]
    argv += ["--trainer.callbacks+=held.SlowDisk"]
    for _ in range(2):  # the first fills the cache of pictures
        subprocess.run(["rm", "-rf", str(run)], check=True)
        begin = time.monotonic()
        server.start([*argv, f"--out={run}"])
        assert server.wait() == 0, server.output.read_text()
    return Undisturbed(argv, run, time.monotonic() - begin)


@pytest.fixture
def disk(undisturbed: Undisturbed, tmp_path: Path) -> Iterator[Path]:
    """A small disk, another than the one for temporary files; without the right to mount one, shared memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = int(CHECKPOINTS * (undisturbed.run / "last.ckpt").stat().st_size)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode == 0:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
    elif os.path.isdir("/dev/shm"):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
            yield Path(shared)
    else:
        pytest.skip("no second file system: mount isn't allowed, and there is no /dev/shm")


def numbers(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if "second" not in key} for row in csv.DictReader(file)]


def is_same(run: Path, whole: Path) -> bool:
    for name in ("best.ckpt", "last.ckpt"):
        states = [read_checkpoint(folder / name)["state_dict"] for folder in (run, whole)]
        if not all(torch.equal(states[0][key], states[1][key]) for key in states[1]):
            return False
    return numbers(run) == numbers(whole)


@dataclass
class Tally:
    kills: int = 0
    full: int = 0  # starts that met a full disk
    runs: int = 0
    during: Counter[str] = field(default_factory=Counter)  # what a kill left half-written


def torment(server: FitServer, whole: Undisturbed, disk: Path, kills: int, seed: int) -> Tally:
    """Runs that are killed at random moments, many while a file is written; AssertionError where one is lost."""
    drawn, tally = random.Random(seed), Tally()
    while tally.kills < kills:
        out = disk / f"run{tally.runs}"
        code = None
        while code != 0:
            kill = tally.kills < kills and drawn.random() < 0.85
            fill = tally.kills < kills and drawn.random() < 0.1 and disk.is_mount()
            if fill:
                _fill(disk)
            pid = server.start([*whole.argv, f"--out={out}", f"--checkpoint_seconds={drawn.choice(SECONDS)}"])
            if kill:
                _wait(out, drawn, whole.seconds)
                os.kill(pid, signal.SIGKILL)
            code = server.wait()
            said = server.output.read_text()
            assert "Traceback" not in said
            assert code in (0, -signal.SIGKILL, *([2] if fill else [])), said
            if code == -signal.SIGKILL:
                tally.kills += 1
                left = [file.name for file in out.glob(".*")] if out.exists() else []
                tally.during.update(name.split(".")[1] for name in left if TEMPORARY.fullmatch(name))
            if code == 2:
                tally.full += 1
                assert "No space left on device" in said.splitlines()[-1], said
            (disk / "filler").unlink(missing_ok=True)
            _require_whole(out)
        tally.runs += 1
        assert is_same(out, whole.run), out
        assert not list(out.glob(".*")), "leftovers"
        subprocess.run(["rm", "-rf", str(out)], check=True)
    return tally


def _wait(out: Path, drawn: random.Random, seconds: float) -> None:
    """Wait for a random moment of a run; every other time until a checkpoint, or another file, is being written."""
    until = time.monotonic() + drawn.uniform(0.05, 0.9) * seconds
    if drawn.random() < 0.5:
        time.sleep(max(0.0, until - time.monotonic()))
        return
    name = drawn.choice(["last.ckpt", "best.ckpt", "*"])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not (time.monotonic() > until and _is_written(out, name)):
        pass


def _is_written(out: Path, name: str) -> bool:
    with suppress(FileNotFoundError):  # a run that finds no room takes its new folder away again
        return any(out.glob(f".{name}.*.tmp"))
    return False


def _fill(disk: Path) -> None:
    """Leave little room on a disk."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            file.truncate(max(0, file.tell() - 131072))


def _require_whole(out: Path) -> None:
    """Every file of a run can be read whatever happened."""
    for name in ("last.ckpt", "best.ckpt"):
        if (out / name).exists():
            read_checkpoint(out / name)
    for name in ("run.json", "val_results.json", "val_score.json"):
        if (out / name).exists():
            read_json(out / name)


@pytest.mark.slow
def test_five_kills_lose_nothing(server: FitServer, undisturbed: Undisturbed, disk: Path) -> None:
    tally = torment(server, undisturbed, disk, kills=5, seed=0)
    assert tally.kills == 5


def kill_writing(server: FitServer, whole: Undisturbed, folder: Path, kills: int, seed: int) -> Tally:
    """Runs that are killed while a checkpoint is written, at any of its bytes; AssertionError where one is lost."""
    drawn, tally = random.Random(seed), Tally()
    code = None
    while tally.kills < kills or code != 0:
        out = folder / f"run{tally.runs}"
        options = [f"--out={out}", f"--checkpoint_seconds={drawn.choice(SECONDS)}"]
        moment = f"{drawn.choice([1, 2])} {drawn.randint(0, held.PIECES)}" if tally.kills < kills else ""
        server.start([*whole.argv, *options], {"KILLED": moment})
        code, said = server.wait(), server.output.read_text()
        assert code in (0, -signal.SIGKILL), said  # 0: its last epoch's was the first that it wrote
        _require_whole(out)
        if code == 0:
            tally.runs += 1
            assert is_same(out, whole.run), out
            assert not list(out.glob(".*.tmp")), "leftovers"
        else:
            tally.kills += 1
            left = [file.name.split(".")[1] for file in out.glob(".*.tmp")]
            assert left, "nothing was half-written"
            tally.during.update(left)  # two files, where the thread writes one and the training another
    return tally


@pytest.mark.slow
def test_five_kills_within_a_write_lose_nothing(server: FitServer, undisturbed: Undisturbed, tmp_path: Path) -> None:
    assert kill_writing(server, undisturbed, tmp_path, kills=5, seed=0).kills == 5


@pytest.mark.long
def test_fifty_kills_within_a_write_lose_nothing(server: FitServer, undisturbed: Undisturbed, tmp_path: Path) -> None:
    tally = kill_writing(server, undisturbed, tmp_path, kills=50, seed=1)
    print(f"\n{tally.kills} kills in {tally.runs} runs; half-written: {dict(tally.during)}")
    assert tally.kills == 50


@pytest.mark.long
def test_two_hundred_kills_lose_nothing(server: FitServer, undisturbed: Undisturbed, disk: Path) -> None:
    kills = int(os.environ.get("CATPOSE_KILLS", "200"))
    tally = torment(server, undisturbed, disk, kills, seed=int(os.environ.get("CATPOSE_KILLS_SEED", "1")))
    print(f"\n{tally.kills} kills, {tally.full} full disks, {tally.runs} runs; half-written: {dict(tally.during)}")
    assert tally.kills == kills
    assert tally.during["last"] + tally.during["best"] > 0
