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
    from catpose.cost.record import Cost
    from catpose.cost.runtime import RunTime

MOST_THREADS = 1024
OVERRIDES = ("--model", "--data", "--trainer", "--wandb", "--seed_everything", "--checkpoint_seconds", "--config")


@command
def main(argv: list[str] | None = None) -> None:
    args = sys.argv[1:] if argv is None else list(argv)
    options_parser = parser()
    options, settings = options_parser.parse_known_args(args)
    for arg in settings:
        if arg.startswith("--") and not arg.startswith(OVERRIDES):
            options_parser.error(f"unrecognized arguments: {arg}")
    from catpose.cost.runtime import run_time
    from catpose.files import require_writable

    if options.out:
        require_writable(options.out, "--out", folder=True)
    imports = [f"--import={module}" for module in options.imports]
    settings = [*(arg for file in options.config for arg in ("--config", file)), *settings]
    runs = [run_time(folder) for folder in options.run]
    cost = measured(options, [*imports, *settings]) if settings or not runs else None
    _conclude(args, cost, runs, options.out)


def parser() -> Parser:
    """The command line's parser."""
    options = Parser(
        prog="catpose profile",
        description="What a configuration costs, on this machine.",
        examples=("catpose profile --config hrnet", "catpose profile --run runs/mobilenet --out cost/"),
        epilog="Any setting of fit may follow: --model.depth 152, --data.batch_size 8, --trainer.precision 16-mixed, …",
    )
    options.add_argument("--config", action="append", default=[], metavar="FILE", help="an experiment (fit's defaults)")
    options.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE",
                      help="a module of your own that you trust (my_net); may come again")  # fmt: skip
    options.add_argument("--run", action="append", default=[], type=Path, metavar="DIR",
                      help="tell a run's time from its log; may come again; alone, nothing is measured")  # fmt: skip
    options.add_argument("--out", type=Path, metavar="DIR", help="folder for profile.json and the figures")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (%(default)s)")
    options.add_argument(
        "--threads", type=natural, metavar="N", help="on the CPU ($OMP_NUM_THREADS, else all free cores)"
    )
    options.add_argument("--batch-sizes", type=naturals, metavar="N,N,…",
                      help="of the predictions (1,2,4,… while a batch takes less than --seconds)")  # fmt: skip
    options.add_argument("--seconds", type=budget, default=0.5, metavar="S",
                      help="for each measurement, training steps have four times as much (%(default)s)")  # fmt: skip
    options.add_argument("--half", action="store_true", help="predict in half precision, too")
    options.add_argument("--compile", action="store_true", help="predict with torch.compile, too (takes minutes)")
    options.add_argument("--skip", action="append", default=[], choices=["training", "predictions"],
                      help="leave out; both, and parameters and multiply–adds are left")  # fmt: skip
    return options


def naturals(text: str) -> list[int]:
    """1,2,4 as numbers, each once, rising."""
    return sorted({natural(part.strip()) for part in text.split(",")})


def budget(text: str) -> float:
    """A positive time budget in seconds, parsed from an option."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 to 3600")
    return seconds


def measured(options: argparse.Namespace, settings: list[str]) -> Cost:
    """Measure what `settings` come to; each step and each result is told as it comes, on a terminal in one line."""
    from tqdm import tqdm

    with tqdm(bar_format="{desc} [{elapsed}]", leave=False, disable=None) as bar:

        def found(line: str) -> None:
            bar.write(f"catpose.profile: {line}")

        progress = found if bar.disable else bar.set_description_str
        progress("loading torch")
        import torch

        from catpose.cost.profiling import measure
        from catpose.machine import usable_cores
        from catpose.run.network import find_device

        device = find_device(options.device)
        threads = options.threads or (None if "OMP_NUM_THREADS" in os.environ else usable_cores())
        if threads:
            torch.set_num_threads(min(threads, MOST_THREADS))
        return measure(
            settings,
            device,
            options.batch_sizes,
            options.seconds,
            compiled=options.compile,
            half=options.half,
            skip=options.skip,
            progress=progress,
            found=found,
        )


def _conclude(args: list[str], cost: Cost | None, runs: list[RunTime], out: Path | None) -> None:
    """Print the profile; write it with its figures where a folder is asked for."""
    from catpose.cost.figure import figures
    from catpose.cost.record import Profile
    from catpose.cost.table import profile_text
    from catpose.files import atomic_write
    from catpose.run.provenance import provenance

    profile = Profile(provenance(args), cost, tuple(runs))
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
