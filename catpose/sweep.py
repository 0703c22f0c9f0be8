"""Run a study: `python -m catpose.sweep --config sweeps/learning_rate.yaml`.

Creates the study or goes on with it, and ends with its report. The same command on other machines with the same
--storage helps. Any setting of the experiment can be overridden for all arms, as with fit: --trainer.max_epochs 8.
A storage URL with a password is better given as CATPOSE_STORAGE in the environment than as an option.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.errors import InputError, Parser, command, natural
from catpose.study.url import STORAGE, masked

if TYPE_CHECKING:
    from catpose.study.file import Study
    from catpose.study.running import Opened

#: The exit code where a known study's server can't be reached (EX_TEMPFAIL of sysexits.h): no bad input, come again.
AWAY_CODE = 75
OVERRIDES = re.compile(r"--(model|data|trainer|wandb)\b")


@command
def main(argv: list[str] | None = None) -> None:
    words = hide_password(sys.argv[1:] if argv is None else list(argv), again=argv is None)
    options, rest = parser().parse_known_args(words)
    slurm, overrides = sort_out(rest)
    from catpose.study.file import read_study

    study = read_study(options.config, options.experiment, overrides, options.name)
    out = options.out or Path("runs") / study.name
    url = storage_url(options.storage, out)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if options.launch:
        for name in ("report", "final", "wandb_report", "retry_failed"):
            if getattr(options, name):
                raise InputError(f"--{name.replace('_', '-')}: is not for jobs; give it without --launch")
        launch(study, words, out, options.workers, slurm)
        return
    if slurm:
        raise InputError(f"--slurm.{next(iter(slurm))}: is for --launch slurm; add that, or leave it out")
    from catpose.study.running import open_ledger, run
    from catpose.study.storage import AwayError, refusals

    try:
        with refusals(url):
            if options.report or options.final or options.wandb_report:
                opened = open_ledger(study, url, create=False)
            else:
                opened = run(study, url, out, options.workers, options.retry_failed, words)
            finish(study, opened, out, options)
    except AwayError as error:
        if not (out / "study.yaml").exists():
            raise  # on a first start the URL may well be wrong
        print(f"catpose.sweep: error: {error}", file=sys.stderr)
        sys.exit(AWAY_CODE)


def parser() -> Parser:
    made = Parser(
        prog="python -m catpose.sweep",
        description="Run a study, or help with one, and report what it shows.",
        epilog="Settings of the experiment (--model.lr, --data.root, --trainer.max_epochs, …) hold for all arms.",
    )
    made.add_argument("--config", type=Path, required=True, metavar="FILE", help="the study, one of sweeps/")
    made.add_argument("--experiment", type=Path, metavar="FILE", help="vary this experiment in place of the study's")
    made.add_argument("--name", help="the study's name (the file's, with --experiment's)")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the trials and the report (runs/NAME)")
    made.add_argument("--storage", metavar="URL", help="postgresql://… or mysql://…; else study.db in the folder")
    made.add_argument("--workers", type=natural, default=1, metavar="N",
                      help="trials at once on this machine, or jobs with --launch (%(default)s)")  # fmt: skip
    made.add_argument("--retry-failed", action="store_true", help="run failed trials once more")
    made.add_argument("--report", action="store_true", help="report what is there; run nothing")
    made.add_argument("--final", action="store_true", help="the winner on the test split, once")
    made.add_argument("--wandb-report", action="store_true", help="save a W&B report that compares the arms")
    made.add_argument("--launch", choices=["slurm"], help="submit the workers as a job array (with --slurm.KEY VALUE)")
    return made


def sort_out(rest: list[str]) -> tuple[dict[str, str], list[str]]:
    """What argparse left over: {KEY: VALUE} of --slurm.KEY, and settings for all arms, a word each.

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


def storage_url(given: str | None, out: Path) -> str:
    """The URL asked for: the option's, with the password that the environment keeps; else a file in the folder."""
    kept = os.environ.get(STORAGE)
    if given and kept and "***" in given:
        return kept
    import sqlalchemy

    here = sqlalchemy.URL.create("sqlite", database=str(out / "study.db"))
    return given or kept or here.render_as_string(hide_password=False)


def launch(study: Study, words: list[str], out: Path, workers: int, slurm: dict[str, str]) -> None:
    """Submit workers to SLURM, each of which runs this command without --launch."""
    from catpose.files import require_writable
    from catpose.study import slurm as cluster
    from catpose.study.running import facts_of

    kept, skip = [], False
    for word in words:
        own = word.split("=")[0] in ("--launch", "--workers") or word.startswith("--slurm.")
        if not own and not skip:
            kept.append(word)
        skip = own and "=" not in word
    require_writable(out / "slurm", "--out", folder=True)
    facts_of(study)  # a misspelt setting is said here rather than by every job
    jobs = cluster.launch(study, kept, out / "slurm", workers, slurm)
    print(f"submitted {len(jobs)} jobs ({jobs[0]} …): their output is in {out / 'slurm'}")
    print(f"the table so far: python -m catpose.sweep {shlex.join(kept)} --report")


def finish(study: Study, opened: Opened, out: Path, options: Any) -> None:
    """Print, write and log the study's report, and do what else was asked for."""
    from catpose.data.coco import read_split
    from catpose.study.report import arms, report

    trials = opened.ledger.trials()
    made = report(study, arms(study, trials, opened.ledger.results, read_split(opened.root, "val")))
    print(f"\n{made.terminal()}\n\nfiles: {', '.join(map(str, made.write(out)))}")
    if not any(trial.state == "complete" for trial in trials):
        print("catpose.sweep: no trial was completed", file=sys.stderr)
        sys.exit(1)
    if options.final:
        from catpose.study.final import final

        print(final(study, trials, out, opened.root).text())
    from catpose.study.wandb_summary import log_summary, save_report

    to = {key: opened.wandb[key] for key in ("project", "entity", "mode")}
    try:
        seen = log_summary(made, opened.id, out, tags=opened.wandb["tags"] or (), **to)
        print(f"W&B summary: {seen}" if seen else "W&B is disabled: no summary")
    except InputError as error:  # the study is done, and its report written
        print(f"no W&B summary: {error}", file=sys.stderr)
    if options.wandb_report:
        print(f"W&B report: {save_report(made, **to)}")


if __name__ == "__main__":
    main()
