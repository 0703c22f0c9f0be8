"""Run a study: `python -m catpose.sweep --config sweeps/learning_rate.yaml`.

Creates the study or goes on with it, and ends with its report. The same command on other machines with the same
--storage helps. Several files, experiments as they stand among them, are run in their order. Any setting of the
experiment can be overridden for all of them, as with fit: --trainer.max_epochs 8. A storage URL with a password is
better given as CATPOSE_STORAGE in the environment than as an option.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.errors import BAD_INPUT, InputError, Parser, command, natural, one_line, printable
from catpose.shipped import find_config
from catpose.study.environment import STORAGE, masked
from catpose.text import counted

if TYPE_CHECKING:
    from catpose.study.file import Study
    from catpose.study.opening import Opened

#: The exit code where a known study's server can't be reached (EX_TEMPFAIL of sysexits.h): no bad input, come again.
AWAY_CODE = 75
INCOMPLETE = 1  # no trial of a study was completed
OVERRIDES = re.compile(r"--(model|data|trainer|wandb|checkpoint_seconds)\b")


EPILOG = f"""\
Settings of the experiment (--model.lr, --trainer.max_epochs, …) hold for all configurations.

The study's file has the keys experiment and space; and, where they are wanted, name, settings, seeds, metric,
reference, published, trials, splits, test_copies, sampler, pruner, time_limit, grace, imports and slurm; see
catpose/study/file.py.

{STORAGE} in the environment is the storage where --storage isn't given: a URL with a password is seen by other users on
a command line, but not there."""


@command
def main(argv: list[str] | None = None) -> None:
    words = hide_password(sys.argv[1:] if argv is None else list(argv), again=argv is None)
    options, rest = parsed(words)
    if sys.platform == "win32":
        raise InputError(
            "a study needs signals and process groups, which Windows hasn't; use WSL, or catpose.fit alone"
        )
    slurm, overrides = sort_out(rest)
    if slurm and not options.launch:
        raise InputError(f"--slurm.{next(iter(slurm))}: is for --launch slurm; add that, or leave it out")
    if len(options.config) > 1 and (options.name or options.launch):
        raise InputError(f"--{'name' if options.name else 'launch'}: is for one study; give one --config")
    from catpose.files import require_writable
    from catpose.study.alone import is_experiment
    from catpose.study.file import read_study

    until = None if options.time_limit is None else began() + options.time_limit
    if options.results:
        require_writable(options.results, "--results", folder=True)
    entries: dict[str, Path | Study] = {}
    experiment = find_config(options.experiment, "experiments") if options.experiment else None
    for config in options.config:  # all are read before the first is run
        file = find_config(find_config(config, "sweeps"), "experiments")
        entry: Path | Study = file
        if not is_experiment(file):
            entry = read_study(file, experiment, overrides, options.name, options.imports)
        name = entry.stem if isinstance(entry, Path) else entry.name
        if name in entries:
            raise InputError(f"--config {file}: another is called {name}, too; give it in a command of its own")
        entries[name] = entry
    if len(entries) == 1:
        _run_entry(entry, options.out or Path("runs") / name, words, overrides, options, slurm, until)
        return
    codes = [0]
    for name, entry in entries.items():
        try:
            _run_entry(entry, (options.out or Path("runs")) / name, words, overrides, options, slurm, until)
        except InputError as error:  # the others may well be in order
            print(one_line(f"catpose.sweep: error: {name}: {error}"), file=sys.stderr)
            codes.append(BAD_INPUT)
        except SystemExit as stop:
            if stop.code != INCOMPLETE:
                raise
            codes.append(INCOMPLETE)
    if max(codes):
        sys.exit(max(codes))


def _run_entry(
    entry: Path | Study,
    out: Path,
    words: list[str],
    overrides: list[str],
    options: argparse.Namespace,
    slurm: dict[str, str],
    until: float | None,
) -> None:
    """Do with a study, or with the experiment of a file, what the options ask.

    Args:
        out: its folder.
        words: the command line.
        overrides: settings in it.
        until: when all has to be over, by `time.monotonic()`.
    """
    from catpose.study.alone import run_experiment

    if until is not None and time.monotonic() >= until:
        print(f"{out.name}: not begun, since the time is over")
    elif not isinstance(entry, Path):
        _run_study(entry, out, words, options, slurm, until)
    elif options.launch:
        raise InputError(f"--launch: is for studies; train {entry} with catpose.fit")
    elif not (options.report or options.final or options.wandb_report):
        run_experiment(entry, overrides, out, options, until)
    else:
        print(f"experiment {entry.stem}: left out, since only studies have a report; python -m catpose.report {out}")


def _run_study(
    study: Study, out: Path, words: list[str], options: argparse.Namespace, slurm: dict[str, str], until: float | None
) -> None:
    """Do with a study what the options ask.

    Args:
        out: its folder. words: the command line.
        until: when all has to be over, by `time.monotonic()`.
    """
    from catpose.study.directory import StudyDirectory
    from catpose.study.record import require_own

    directory = StudyDirectory(out)
    require_own(directory, study.name)
    url = storage_url(options.storage, directory.database)
    if options.launch:
        for name in ("report", "final", "wandb_report", "retry_failed", "dry_run", "time_limit", "results"):
            if getattr(options, name):
                raise InputError(f"--{name.replace('_', '-')}: is not for jobs; give it without --launch")
        launch(study, words, directory.slurm, options.workers, slurm)
        return
    from catpose.study.opening import facts_of, open_ledger
    from catpose.study.rehearsing import forecast
    from catpose.study.running import kept_labels, pruner_of, rehearsed, run, sampler_of
    from catpose.study.storage import AwayError, refusals
    from catpose.study.wandb_summary import require_report

    if options.dry_run:
        sampler_of(study), pruner_of(study)
        facts_of(study)
        print(forecast(study, rehearsed(study, options.workers, kept_labels(study, options.results)), options.workers))
        return
    if options.wandb_report:
        require_report()
    try:
        with refusals(url):
            if options.report or options.final or options.wandb_report:
                opened = open_ledger(study, url, create=False)
            else:
                opened = run(
                    study,
                    url,
                    directory,
                    options.workers,
                    options.retry_failed,
                    words,
                    options.mixed_versions,
                    options.results,
                    until,
                )
            left = 0 if until is None else opened.ledger.unfinished()
            if left:
                print(f"study {study.name}: {counted(left, 'trial')} to come; --report reports what is there")
            else:
                finish(study, opened, out, options)
    except AwayError as error:
        if not directory.was_run:
            raise  # on a first start the URL may well be wrong
        print(one_line(f"catpose.sweep: error: {error}"), file=sys.stderr)
        sys.exit(AWAY_CODE)


def began() -> float:
    """When this process began, by `time.monotonic()`: what it imported counts too."""
    import psutil

    return time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())


def parser() -> Parser:
    """The command line's parser."""
    cli = Parser(
        prog="catpose sweep",
        description="Run a study, or help with one, and report what it shows.",
        epilog=EPILOG,
        examples=(
            "catpose sweep --config quick",
            "catpose sweep --config my.yaml --workers 4 --trainer.max_epochs 50",
        ),
    )
    cli.add_argument("--config", type=Path, required=True, nargs="+", metavar="FILE",
                     help="studies, or experiments as they stand, in the order in which they are run: one of sweeps/"
                     " or experiments/ by its name, or a file")  # fmt: skip
    cli.add_argument("--experiment", type=Path, metavar="FILE", help="vary this experiment in place of the study's")
    cli.add_argument("--name", help="the study's name (the file's, with --experiment's)")
    cli.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE",
                     help="a module of your own that you trust (my_net); may come again")  # fmt: skip
    cli.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the trials and the report, or of several such (runs/NAME)"
    )
    cli.add_argument("--storage", metavar="URL", help="postgresql://… or mysql://…; else study.db in the folder")
    cli.add_argument("--workers", type=natural, default=1, metavar="N",
                     help="trials at once on this machine, or jobs with --launch (%(default)s)")  # fmt: skip
    cli.add_argument("--dry-run", action="store_true",
                     help="try each configuration's first steps, and say how long all will take")  # fmt: skip
    cli.add_argument("--time-limit", type=limit, metavar="TIME",
                     help="end by then (12m, 8h): what can't end isn't begun, what runs goes on later")  # fmt: skip
    cli.add_argument("--results", type=Path, metavar="DIR",
                     help="keep finished trainings there, without checkpoints; those there count as done")  # fmt: skip
    cli.add_argument("--retry-failed", action="store_true", help="run trials that failed or ended early once more")
    cli.add_argument("--mixed-versions", action="store_true",
                     help="help a study that was begun with other versions of catpose or its libraries")  # fmt: skip
    cli.add_argument("--report", action="store_true", help="report what is there; run nothing")
    cli.add_argument("--final", action="store_true", help="the winner and the reference on the test split, once")
    cli.add_argument("--wandb-report", action="store_true", help="save a W&B report that compares the configurations")
    cli.add_argument("--launch", choices=["slurm"], help="submit the workers as a job array (with --slurm.KEY VALUE)")
    return cli


def parsed(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of a command line, and what else is on it, settings for example."""
    # argparse takes a word with a space in it for a value, and so for one of --config's: --data.input_size=[64, 64].
    spaced = [word for word in words if OVERRIDES.match(word) and " " in word]
    options, rest = parser().parse_known_args([word for word in words if word not in spaced])
    return options, rest + spaced


def limit(text: str) -> float:
    """A time as an option's `type`, in seconds."""
    from catpose.study.file import seconds_of

    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def sort_out(rest: list[str]) -> tuple[dict[str, str], list[str]]:
    """What argparse left over: {KEY: VALUE} of --slurm.KEY, and settings for all configurations, an argument each.

    Raises:
        InputError: something else.
    """
    slurm: dict[str, str] = {}
    overrides: list[str] = []
    left = list(rest)
    while left:
        option = left.pop(0)
        if not option.startswith("--"):
            parser().error(f"unrecognized arguments: {option}")
        key, equals, value = option.partition("=")
        if not equals:
            if not left or left[0].startswith("--"):
                raise InputError(f"{key}: expected one value (see --help)")
            value = left.pop(0)
        if key.startswith("--slurm."):
            slurm[key.removeprefix("--slurm.")] = value
        elif OVERRIDES.match(key) or key == "--seed_everything":
            overrides.append(f"{key}={value}")
        else:
            parser().error(f"unrecognized arguments: {key}")
    return slurm, overrides


def hide_password(words: list[str], again: bool) -> list[str]:
    """The command line without the password of --storage, which goes into the environment.

    Args:
        words: the command line.
        again: start this program anew without it, since others can read a process's command line.
    """
    shown, found = list(words), False
    for i, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option != "--storage" or (not equals and i + 1 == len(words)):
            continue
        url = value if equals else words[i + 1]
        hidden = masked(url)
        if hidden != url:
            os.environ[STORAGE] = url
            shown[i if equals else i + 1] = f"--storage={hidden}" if equals else hidden
            found = True
    if found and again:
        os.execv(sys.executable, [sys.executable, "-m", "catpose.sweep", *shown])
    return shown


def storage_url(option: str | None, file: Path) -> str:
    """The option's URL, with the password that the environment holds; else the environment's; else a file."""
    stored = os.environ.get(STORAGE)
    if option and stored and "***" in option:
        return stored
    import sqlalchemy

    return option or stored or sqlalchemy.URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def launch(study: Study, words: list[str], folder: Path, workers: int, slurm: dict[str, str]) -> None:
    """Submit workers to SLURM, each of which runs this command without --launch."""
    from catpose.files import require_writable
    from catpose.study import slurm as cluster
    from catpose.study.opening import facts_of

    command_line, skip = [], False
    for word in words:
        own = word.split("=")[0] in ("--launch", "--workers") or word.startswith("--slurm.")
        if not own and not skip:
            command_line.append(word)
        skip = own and "=" not in word
    require_writable(folder, "--out", folder=True)
    facts_of(study)  # a misspelt setting is refused here rather than by every job
    jobs = cluster.launch(study, command_line, folder, workers, slurm)
    print(f"submitted {len(jobs)} jobs ({jobs[0]} …): their output is in {folder}")
    print(f"the table so far: python -m catpose.sweep {shlex.join(command_line)} --report")


def finish(study: Study, opened: Opened, out: Path, options: Any) -> None:
    """Print, write and log the study's report, and do what else was asked for."""
    from catpose.analysis.rendering import terminal, write
    from catpose.analysis.report import report
    from catpose.data.coco import read_split
    from catpose.data.resplit import resplit
    from catpose.study.directory import StudyDirectory
    from catpose.study.record import write_record
    from catpose.study.results import design_of, resampled, truths_of

    if options.final:
        read_split(opened.root, "test", opened.area)  # a split that is missing is named before the report is computed
    trials = opened.ledger.trials()
    design = design_of(study, opened.reference)
    directory = StudyDirectory(out)
    folders = resplit(opened.root, study.splits, directory.divisions) if study.splits else [opened.root]
    truths = truths_of(folders, opened.area)
    write_record(directory.summary, design, trials, opened.notes)
    outcome = report(design, resampled(design, trials, opened.ledger.results, truths), opened.notes)
    print(f"\n{printable(terminal(outcome))}\n\nfiles: {', '.join(map(str, write(outcome, out)))}")
    if not any(trial.state == "complete" for trial in trials):
        print("catpose.sweep: no trial was completed", file=sys.stderr)
        sys.exit(INCOMPLETE)
    if options.final:
        from catpose.study.final import final

        print(final(study, trials, outcome, out, opened.root, opened.area, trusted=study.imports).text())
    from catpose.study.wandb_summary import log_summary, save_report

    to = {key: opened.wandb[key] for key in ("project", "entity", "mode")}
    try:
        place = log_summary(outcome, opened.id, out, tags=opened.wandb["tags"] or (), **to)
        print(f"W&B summary: {place}" if place else "W&B is disabled: no summary")
    except InputError as error:  # the study is done, and its report written
        print(f"no W&B summary: {error}", file=sys.stderr)
    if options.wandb_report:
        print(f"W&B report: {save_report(outcome, **to)}")


if __name__ == "__main__":
    main()
