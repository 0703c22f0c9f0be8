"""A checkpoint is whole at every moment, on any file system: processes are killed and disks fill up here."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from catpose.errors import InputError
from catpose.run.checkpoint_io import AtomicCheckpointIO


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than the one for temporary files."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        if os.stat(folder).st_dev == os.stat(tempfile.gettempdir()).st_dev:
            pytest.skip("no second file system at /dev/shm")
        yield Path(folder)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a disk can't be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def checkpoint(n: int, size: int = 1000) -> dict[str, torch.Tensor]:
    return {"n": torch.tensor(n), "weights": torch.full((size,), float(n))}


def number(file: Path) -> int:
    """Of a whole checkpoint; an error for a damaged one."""
    content = torch.load(file, weights_only=True)
    assert (content["weights"] == content["n"]).all()
    return int(content["n"])


def write(file: Path, written: Connection) -> None:
    """Checkpoint after checkpoint, each told once it is there."""
    for n in itertools.count(1):
        AtomicCheckpointIO().save_checkpoint(checkpoint(n, size=3_000_000), file)
        written.send(n)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(elsewhere: Path) -> None:
    file, context = elsewhere / "last.ckpt", multiprocessing.get_context("fork")
    for seed in range(5):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=write, args=(file, writer), daemon=True)
        process.start()
        writer.close()
        last = reader.recv()
        time.sleep(random.Random(seed).uniform(0, 0.2))
        process.kill()
        process.join()
        with contextlib.suppress(EOFError):
            while True:
                last = reader.recv()
        assert number(file) in (last, last + 1)


def test_nothing_is_staged_on_another_file_system(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # where Lightning's own writes first
    moved = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append((Path(a).parent, Path(b).parent)), replace(a, b)))
    AtomicCheckpointIO().save_checkpoint(checkpoint(1), elsewhere / "last.ckpt")
    assert moved == [(elsewhere, elsewhere)]
    assert number(elsewhere / "last.ckpt") == 1
    assert [file.name for file in elsewhere.iterdir()] == ["last.ckpt"]


def test_a_full_disk_costs_no_checkpoint_and_is_one_line(small: Path) -> None:
    file = small / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint(checkpoint(1), file)
    with pytest.raises(
        InputError, match=r"last\.ckpt: cannot be written \(No space left on device\); make room"
    ) as raised:
        writer.save_checkpoint(checkpoint(2, size=1_000_000), file)
    assert "\n" not in str(raised.value)
    assert number(file) == 1
    assert [left.name for left in small.iterdir()] == ["last.ckpt"]
    writer.save_checkpoint(checkpoint(3), file)
    assert number(file) == 3


def test_the_content_is_on_the_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    AtomicCheckpointIO().save_checkpoint(checkpoint(1), tmp_path / "last.ckpt")
    assert done[0].startswith(".last.ckpt.")
    assert done[1:] == ["replace", tmp_path.name]
