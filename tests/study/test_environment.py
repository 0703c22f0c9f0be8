"""What a trial's process is given: a share of the machine, and no secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from catpose import machine
from catpose.data.datamodule import MOST_WORKERS, default_workers
from catpose.machine import CORES, usable_cores
from catpose.study.environment import environment, share


def test_nothing_private_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CATPOSE_STORAGE", "PGPASSWORD", "SLURM_NTASKS", "SUBMITIT_EXECUTOR"):
        monkeypatch.setenv(name, "postgresql://cat:secret@host/db")
    assert "secret" not in str(environment(2, 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert environment(2, 1)["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert environment(1, 0)["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"


@pytest.mark.parametrize(("gpus", "workers"), [(8, 1), (8, 2), (8, 3), (8, 8), (3, 2), (1, 4), (4, 6)])
def test_gpus_are_shared_out(gpus: int, workers: int) -> None:
    names = [str(i) for i in range(gpus)]
    shares = [share(names, workers, index) for index in range(workers)]
    assert all(shares)
    assert {gpu for part in shares for gpu in part} == set(names)
    if workers <= gpus:
        assert sorted(gpu for part in shares for gpu in part) == names
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("workers", "each"), [(1, MOST_WORKERS), (2, 8), (3, 5), (4, 4), (16, 1), (40, 1)])
def test_cores_are_shared_out_and_with_them_the_loading_processes(
    workers: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CORES, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "_QUOTA", Path("nowhere"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(16)}, raising=False)
    for index in range(workers):
        given = environment(workers, index)
        assert given[CORES] == given["OMP_NUM_THREADS"] == str(max(1, 16 // workers))
    monkeypatch.setenv(CORES, given[CORES])  # as the trial has it
    assert default_workers("cuda") == each
    assert default_workers("cuda", local_devices=2) == max(1, min(MOST_WORKERS, 16 // workers // 2))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert usable_cores() == 1  # a share is no more than there are


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 16),
        ("400000 100000", 4),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("6400000 100000", 16),
        ("", 16),
    ],
)
def test_a_containers_limit_of_processor_time_counts(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker run --cpus 4`, or Kubernetes' limits: the container sees all cores of its machine."""
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.delenv(CORES, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(16)}, raising=False)
    assert usable_cores() == cores
