"""What commands cost, work and start-up together, in CPU seconds of all their processes: the table for RESULTS.md.

    python tests/benchmarks/startup.py RUN DATA [--times 3]

RUN is a finished run on the folder DATA (the quickstart's, say). Each command is a process of its own, the best of so
many times stands in the table, beside it the ratio to importing torch and Lightning. A `fit` is ended after its first
step; it is cold where it has no decoded pictures of earlier runs. A `profile` is ended after its first line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from catpose.files import read_json, write_json

PYTHON = (sys.executable, "-c")
CATPOSE = (sys.executable, "-m", "catpose")
REFERENCE = "import torch, lightning.pytorch"
FIRST_STEP = """
import os
from lightning.pytorch.callbacks import Callback


class FirstStep(Callback):
    def on_train_batch_end(self, *_):
        os._exit(0)
"""


def cpu_seconds(command: tuple[str, ...], folder: Path, first_line: bool = False) -> float:
    """Of a process and its children, until its end or the first line that it prints.

    Raises:
        RuntimeError: it failed.
    """
    with (
        (folder / "errors").open("w+") as errors,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        before, printed = os.times(), process.stdout.readline()
        if first_line and printed:
            seconds = sum(psutil.Process(process.pid).cpu_times()[:4])
            process.kill()
            return seconds
        process.stdout.read()
        if process.wait():
            raise RuntimeError(f"{' '.join(command)}: {(folder / 'errors').read_text()[-500:]}")
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def commands(run: Path, data: Path, folder: Path) -> dict[str, tuple[tuple[str, ...], bool]]:
    """What is timed, by its name in the table, and whether its first line is its end."""
    results, truth = str(run / "val_results.json"), str(data / "annotations" / "val.json")
    write_json(folder / "other.json", read_json(Path(results))[1:])
    (folder / "first_step.py").write_text(FIRST_STEP)
    fit = (*CATPOSE, "fit", "--import", "first_step", "--config", str(run / "config.yaml"), "--data.root", str(data))
    fit += ("--trainer.callbacks", "first_step.FirstStep", "--wandb.mode", "disabled", "--data.cache_dir")
    profile = (*CATPOSE, "profile", "--config", "hrnet", "--data.root", str(data), "--model.weights", "null")
    return {
        REFERENCE: ((*PYTHON, REFERENCE), False),
        f"{REFERENCE}, timm": ((*PYTHON, f"{REFERENCE}, timm"), False),
        "import catpose": ((*PYTHON, "import catpose"), False),
        "import numpy, scipy.stats": ((*PYTHON, "import numpy, scipy.stats"), False),
        "compare of two results files": ((*CATPOSE, "compare", results, "other.json", "--truth", truth), False),
        "report of the run": ((*CATPOSE, "report", str(run), "--data", str(data), "--out", "page"), False),
        "test --predictions": ((*CATPOSE, "test", "--predictions", results, "--data", str(data)), False),
        "fit to its first step, cold": ((*fit, "cold", "--out", "cold-run"), False),
        "fit to its first step, warm": ((*fit, "warm", "--out", "warm-run"), False),
        "fit --help": ((*CATPOSE, "fit", "--help"), False),
        "profile of HRNet-w32 to its first line": (profile, True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    print("| command | CPU seconds | to importing torch and Lightning |\n|---|---:|---:|")
    reference = 0.0
    with tempfile.TemporaryDirectory() as place:
        for name, (command, first_line) in commands(
            arguments.run.resolve(), arguments.data.resolve(), Path(place)
        ).items():
            found = []
            for i in range(arguments.times + (name.endswith("warm"))):  # the first of which fills the cache
                own = tuple(f"{i}-{part}" if part == "cold" or part.endswith("-run") else part for part in command)
                found.append(cpu_seconds(own, Path(place), first_line))
            reference = reference or min(found)
            print(f"| {name} | {min(found):.2f} | {min(found) / reference:.2f} |", flush=True)


if __name__ == "__main__":
    main()
