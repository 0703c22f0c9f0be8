"""The script that measures trainings on a GPU runs on a CPU too, in small sizes, and fills its tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_its_tables_are_whole_on_a_cpu() -> None:
    command = [sys.executable, SCRIPT, "--tiny", "--device", "cpu", "--seconds", "0.1", "--epochs", "1"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    _, *tables, seconds = done.stdout.split("\n\n")
    assert seconds.endswith("s in all\n")
    steps, counts, parity = ([line.split(" | ") for line in table.splitlines()[2:]] for table in tables)
    assert [row[1] for row in steps] == [row[0].removeprefix("| ") for row in parity] == ["32-true", "bf16-mixed"]
    for row in steps:  # speeds, parts of a step and memory
        assert all(float(cell.removesuffix(" |")) >= 0 for cell in row[2:]), row
        assert min(float(cell) for cell in row[3:5]) > 0
    ((_, operators, launches, waits, copies, values),) = counts
    assert float(operators) > 100 > float(values.removesuffix(" |")) >= 0
    assert {float(each) for each in (launches, waits, copies)} == {0}
    assert all(0 <= float(row[1]) <= 1 for row in parity)
