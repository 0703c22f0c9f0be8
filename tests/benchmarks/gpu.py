"""What trainings cost on a GPU, in under eight minutes: the tables for RESULTS.md.

    python tests/benchmarks/gpu.py [--models resnet50 hrnet vit] [--device auto] [--seconds 8] [--epochs 8]

Of each model and precision, on drawn cats at the experiment's own crops and batch, from random weights: images a second
of bare training steps (made-up crops, nothing waited for) and of `fit`'s loop with its loader, the milliseconds of each
part of a step, the peak memory; how often a step launches, waits, copies and reads values; and the quickstart's AP in
each precision, from one seed. `--tiny` is the same in small sizes, of the quickstart where no models are named, which a
CPU does in a minute: nothing is launched then, and torch's operators are what is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile

from catpose import fit, prepare
from catpose.cost.profiling import build
from catpose.cost.record import TrainingStep
from catpose.cost.timing import name_of
from catpose.cost.training_step import PHASES, quiet, time_training, trainer_of
from catpose.run.cli import FitCLI
from catpose.run.network import find_device
from catpose.version import __version__

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
#: What the profiler calls them: kernels or graphs sent to the device, waits for it, copies to and from it; and single
#: values that Python asks for, each of which is a wait where its tensor is on the device.
COUNTED = {
    "launches": ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch"),
    "waits": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    "copies": ("cudaMemcpyAsync", "cudaMemcpy"),
    "values read": ("aten::_local_scalar_dense",),
}
WARM, PROFILED = 3, 2  # steps


class Counting(Callback):
    """Counts what a few warm training steps ask of the device."""

    def __init__(self) -> None:
        on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self.profiler = profile(activities=[ProfilerActivity.CPU, *on_gpu])
        self.counts: Counter[str] = Counter()

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        if trainer.global_step == WARM:
            self.profiler.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == WARM + PROFILED:
            self.profiler.stop()
            for event in self.profiler.events() or ():
                self.counts.update(what for what, names in COUNTED.items() if event.name in names)
                self.counts["operators"] += _is_operator(event) and not _is_operator(event.cpu_parent)
            trainer.should_stop = True


def _is_operator(event: Any) -> bool:
    return event is not None and event.name.startswith("aten::")


def step_counts(args: Sequence[str], device: torch.device) -> dict[str, float]:
    """Of one training step: the operators that Python and autograd call, and each of `COUNTED`."""
    cli, counting = FitCLI([*args]), Counting()
    model, datamodule = build(cli)
    with quiet():
        trainer_of(device, cli.config.trainer.as_dict(), callbacks=[counting]).fit(model, datamodule=datamodule)
    return {what: counting.counts[what] / PROFILED for what in ("operators", *COUNTED)}


def timed(args: Sequence[str], root: str, device: torch.device, seconds: float) -> TrainingStep:
    """Training steps on a data folder; bare where it isn't there."""
    cli = FitCLI([*args, f"--data.root={root}"])
    model, datamodule = build(cli)
    return time_training(model, datamodule, device, seconds, cli.config.trainer.as_dict())


def table(header: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    """Markdown, each row as it is measured."""
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def steps(
    models: Sequence[tuple[str, Sequence[str]]],
    precisions: Sequence[str],
    root: str,
    device: torch.device,
    seconds: float,
) -> Iterator[Sequence[object]]:
    for name, args in models:
        for precision in precisions:
            own = [*args, f"--trainer.precision={precision}"]
            bare = timed(own, f"{root}/absent", device, seconds)
            whole = timed(own, root, device, seconds)
            parts = {each.name: f"{each.median_ms:.1f}" for each in whole.phases}
            peak = "" if whole.peak_mb is None else f"{whole.peak_mb:.0f}"
            speeds = (f"{bare.images_per_s:.0f}", f"{whole.images_per_s:.0f}")
            yield name, precision, whole.batch_size, *speeds, *(parts.get(phase, "") for phase in PHASES), peak


def parity(args: Sequence[str], precisions: Sequence[str], out: Path) -> Iterator[Sequence[object]]:
    """The quickstart's AP in each precision, the same seed, and what an epoch took beside its training."""
    first = None
    for precision in precisions:
        start = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            fit.main([*args, f"--trainer.precision={precision}", f"--out={out / precision}", "--wandb.mode=disabled"])
        with (out / precision / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        ap = float(rows[-1]["val/AP"])
        first = ap if first is None else first
        beside = sum(float(row["epoch_seconds"]) - float(row["train_seconds"]) for row in rows) / len(rows)
        speed = float(rows[-1]["images_per_second"])
        whole = time.perf_counter() - start
        yield precision, f"{ap:.4f}", f"{ap - first:+.4f}", f"{speed:.0f}", f"{beside:.2f}", f"{whole:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", help="experiments (resnet50 hrnet vit; of --tiny, quickstart)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=8.0, help="for the steps of a row (%(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="of the quickstart (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a CPU")
    options = parser.parse_args()
    device = find_device(options.device)
    precisions = ("32-true", "bf16-mixed") if device.type != "cpu" or options.tiny else ("32-true",)
    tiny = ["--data.input_size=[64, 64]", "--data.batch_size=4", "--data.num_workers=0"] if options.tiny else []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(folder) / "drawn")
        with contextlib.redirect_stdout(sys.stderr):
            prepare.main(["drawn", "--out", root, *(("--sizes", "24", "8", "8") if options.tiny else ())])
        common = [f"--data.cache_dir={folder}/cache", "--trainer.enable_progress_bar=false", *tiny]
        names = options.models or (["quickstart"] if options.tiny else ["resnet50", "hrnet", "vit"])
        files = {name: str(EXPERIMENTS / f"{name}.yaml") for name in ("quickstart", *names)}
        models = [(name, ["--config", files[name], "--model.weights=null", *common]) for name in names]
        print(f"catpose {__version__}, torch {torch.__version__}, {name_of(device)}, {os.cpu_count()} cores")
        speeds = ("bare, images/s", "with loader, images/s")
        parts = [f"{phase}, ms" for phase in PHASES]
        table(
            ("model", "precision", "batch", *speeds, *parts, "peak, MB"),
            steps(models, precisions, root, device, options.seconds),
        )
        counts = ((name, step_counts([*args, f"--data.root={root}"], device)) for name, args in models)
        table(
            ("model, a step's", "operators", *COUNTED),
            ((name, *(f"{value:g}" for value in found.values())) for name, found in counts),
        )
        short = ["--config", files["quickstart"], f"--data.root={root}", f"--trainer.max_epochs={options.epochs}"]
        table(
            ("quickstart's precision", "AP", "difference", "images/s", "beside training, s an epoch", "whole, s"),
            parity([*short, *common, f"--trainer.accelerator={device.type}"], precisions, Path(folder)),
        )
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
