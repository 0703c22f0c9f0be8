"""What a configuration costs: `python -m catpose.profile --config experiments/hrnet.yaml`.

Counts parameters and multiply–adds part by part, takes a training step apart, times predictions, and tells the run time
of runs that are there (--run). Settings are those of fit. Times depend on the machine, and on what else it does.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from catpose.errors import Parser, command, natural

if TYPE_CHECKING:
    from catpose.run.profiling import Cost
    from catpose.run.runtime import RunTime

MOST_THREADS = 1024
OVERRIDES = ("--model", "--data", "--trainer", "--wandb", "--seed_everything", "--config")


@command
def main(argv: list[str] | None = None) -> None:
    words = sys.argv[1:] if argv is None else list(argv)
    made = parser()
    options, settings = made.parse_known_args(words)
    for word in settings:
        if word.startswith("--") and not word.startswith(OVERRIDES):
            made.error(f"unrecognized arguments: {word}")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from catpose.files import require_writable
    from catpose.run.runtime import run_time

    if options.out:
        require_writable(options.out, "--out", folder=True)
    settings = [*(word for file in options.config for word in ("--config", file)), *settings]
    runs = [run_time(folder) for folder in options.run]
    cost = measured(options, settings) if settings or not runs else None
    conclude(words, cost, runs, options.out)


def parser() -> Parser:
    made = Parser(
        prog="python -m catpose.profile",
        description="What a configuration costs, on this machine.",
        epilog="Any setting of fit may follow: --model.depth 152, --data.batch_size 8, --trainer.precision 16-mixed, …",
    )
    made.add_argument("--config", action="append", default=[], metavar="FILE", help="an experiment (fit's defaults)")
    made.add_argument("--run", action="append", default=[], type=Path, metavar="DIR",
                      help="tell a run's time from its log; may come again; alone, nothing is measured")  # fmt: skip
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for profile.json and the figures")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (%(default)s)")
    made.add_argument("--threads", type=natural, metavar="N", help="on the CPU ($OMP_NUM_THREADS, else all free cores)")
    made.add_argument("--batch-sizes", type=naturals, metavar="N,N,…",
                      help="of the predictions (1,2,4,… while a batch takes less than --seconds)")  # fmt: skip
    made.add_argument("--seconds", type=budget, default=0.5, metavar="S",
                      help="for each measurement, training steps have four times as much (%(default)s)")  # fmt: skip
    made.add_argument("--half", action="store_true", help="predict in half precision, too")
    made.add_argument("--compile", action="store_true", help="predict with torch.compile, too (takes minutes)")
    made.add_argument("--skip", action="append", default=[], choices=["training", "predictions"],
                      help="leave out; both, and parameters and multiply–adds are left")  # fmt: skip
    return made


def naturals(text: str) -> list[int]:
    """1,2,4 as numbers, each once, rising."""
    return sorted({natural(word.strip()) for word in text.split(",")})


def budget(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 to 3600")
    return seconds


def measured(options: argparse.Namespace, settings: list[str]) -> Cost:
    """Measure what `settings` come to, with progress on a terminal."""
    import torch
    from tqdm import tqdm

    from catpose.data.images import usable_cores
    from catpose.run.profiling import measure
    from catpose.run.timing import find_device

    device = find_device(options.device)
    asked = options.threads or (None if "OMP_NUM_THREADS" in os.environ else usable_cores())
    if asked:
        torch.set_num_threads(min(asked, MOST_THREADS))
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False, disable=None) as progress:
        return measure(
            settings,
            device,
            options.batch_sizes,
            options.seconds,
            compiled=options.compile,
            half=options.half,
            skip=options.skip,
            say=progress.set_description_str,
        )


def conclude(words: list[str], cost: Cost | None, runs: list[RunTime], out: Path | None) -> None:
    """Print the profile; write it with its figures where a folder is asked for."""
    from catpose.files import atomic_write
    from catpose.run.directory import provenance
    from catpose.run.profiling import Profile
    from catpose.show.cost_figure import figures
    from catpose.show.cost_table import profile_text

    profile = Profile(provenance(words), cost, tuple(runs))
    print(profile_text(profile))
    if out is None:
        return
    written = [profile.write(out)]
    for name, files in figures(cost).items() if cost else ():
        for kind, content in files.items():
            with atomic_write(out / f"{name}.{kind}") as temporary:
                temporary.write_bytes(content)
            written.append(out / f"{name}.{kind}")
    print(f"\nwritten: {', '.join(map(str, written))}")


if __name__ == "__main__":
    main()
