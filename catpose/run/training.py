"""The body of `fit`: settings and data checked, the run's directory opened or taken up again, trained, summed up."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch._dynamo.exc import TorchDynamoException

from catpose.data.checks import examine_folder
from catpose.data.coco_split import CocoSplit
from catpose.data.finding import refuse_errors
from catpose.data.layout import split_file
from catpose.data.turned import turned_findings
from catpose.errors import INTERRUPTED, TERMINATED, InputError, one_line, printable
from catpose.fence import Superseded
from catpose.instances import AreaRule
from catpose.model.pose import PoseModel
from catpose.plain_yaml import dump_yaml
from catpose.run.callbacks import BestAndLast, History, NewLineage, Overlays, ResumedAtEpochEnd, Validation
from catpose.run.checkpoint import require_resumable
from catpose.run.cli import FitCLI, input_error
from catpose.run.directory import RunDirectory
from catpose.run.divergence import Divergence
from catpose.run.ending import EndedBySIGTERM, WholeEpochs
from catpose.run.figures import FinalFigures
from catpose.run.outlook import BatchOfOne, Outlook
from catpose.run.wandb import closed_wandb
from catpose.run.wandb_logger import GuardedWandbLogger
from catpose.score.protocol import Score
from catpose.skeleton import AP10K
from catpose.text import counted


@dataclass(frozen=True)
class Trained:
    """What a finished run came to."""

    run: RunDirectory
    score: Score | None  # the last validation's; None where there was none
    steps: int
    best: BestAndLast
    model: PoseModel
    input_size: tuple[int, int]  # width and height of its crops, px
    is_first: bool  # of the run's processes: the one that writes


def train(args: list[str]) -> Trained:
    """Train as `fit`'s command line says; go on where the run's directory holds a checkpoint.

    Args:
        args: those after `python -m catpose.fit`.

    Raises:
        InputError: settings, data or a run's directory that can't be used.
        SystemExit: interrupted by Ctrl-C (130) or SIGTERM (143); the same command goes on.
    """
    cli = FitCLI(args)
    run, settings = RunDirectory(cli.out, cli.config.wandb.id), cli.resolved()
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    if first:
        run.check(settings, cli.config.new_lineage)
    cli.splits, about_data = sound_data(Path(cli.config.data.root), cli.config.data.area)
    if first:
        print(*map(printable, about_data), sep="\n")
    with run.locked() if first else contextlib.nullcontext():
        return _train_in(run, cli, settings, args, first)


def _train_in(run: RunDirectory, cli: FitCLI, settings: dict[str, Any], args: list[str], first: bool) -> Trained:
    """`train` in a directory where nobody else does.

    Args:
        first: whether this is the first of the run's processes, which writes to its directory.
    """
    renewed = first and run.check(settings, cli.config.new_lineage)
    resume = run.last.exists()
    best = BestAndLast(run, dump_yaml(settings))
    callbacks = [
        Validation(run),
        Overlays(),
        History(run),
        best,
        WholeEpochs(run, renewed),
        FinalFigures(run),
        ResumedAtEpochEnd(),
        NewLineage(renewed),  # after it, so that it knows the run's end
        EndedBySIGTERM(),
        BatchOfOne(),
        Outlook(),
        Divergence(run),  # before `best`, which Lightning calls last
    ]
    cli.build(run, callbacks, resume)
    if resume:
        cli.datamodule.first_epoch = require_resumable(run.last, cli.model)
    try:
        if first:
            run.open(settings, args, cli.config.new_lineage, cli.datamodule.first_epoch, str(cli.trainer.precision))
        with _logged_to(run.log if first else None), closed_wandb():
            for logger in cli.trainer.loggers:
                if isinstance(logger, GuardedWandbLogger):
                    logger.begin()
                logger.log_hyperparams(settings)
            fit(cli, run, resume)
            log.info("finished; best.ckpt: %s", best)
    except InputError:
        if first:
            run.discard()
        raise
    score = Score.read(run.val_score) if run.val_score.exists() else None
    return Trained(run, score, cli.trainer.global_step, best, cli.model, cli.datamodule.input_size, first)


def fit(cli: FitCLI, run: RunDirectory, resume: bool) -> None:
    """Lightning's `fit`, its ways to end told apart; raises as `train`."""
    log.info("%s %s, %s", "resumed in" if resume else "started in", run.path, cli.trainer.precision)
    if cli.model.freeze_norm_statistics:
        warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # which is what was asked for
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=run.last if resume else None, weights_only=True)
    except SIGTERMException:
        raise SystemExit(stopped(run, "terminated", TERMINATED)) from None
    except Superseded:
        raise
    except SystemExit:  # Lightning's way to leave after Ctrl-C
        if cli.trainer.interrupted:
            raise SystemExit(stopped(run, "interrupted", INTERRUPTED)) from None
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            f"the GPU's memory is too small: {str(error).splitlines()[0]} Lower data.batch_size"
            f" ({cli.config.data.batch_size}) or data.input_size"
        ) from error
    except TorchDynamoException as error:  # no compiler, or a network that it can't take
        raise InputError(f"model.compile: {one_line(error)[:160]}; set it to false") from error
    except MisconfigurationException as error:
        raise input_error(error, cli.config.trainer) from error
    except ValueError as error:  # Lightning's, once it knows how many batches an epoch has
        if "`val_check_interval`" not in str(error):
            raise
        raise InputError(
            f"trainer.val_check_interval: {cli.config.trainer.val_check_interval} batches are more than an epoch has;"
            " give fewer, or set trainer.check_val_every_n_epoch to null, which counts them across epochs"
        ) from error


def sound_data(root: Path, area: AreaRule) -> tuple[dict[str, CocoSplit], list[str]]:
    """The splits "train", "val" and, if there, "test" of a data folder; as lines, how much is used, how many warnings.

    Raises:
        InputError: the first error that the quick part of `catpose.check` finds.
    """
    splits, findings, _ = examine_folder(root, area)
    findings += turned_findings(splits)
    refuse_errors(findings, root, listed_by=f"python -m catpose.check --data {root}")
    for split in ("train", "val"):
        split_file(root, split)
    summary = f"{counted(len(findings), 'warning')} about the data; python -m catpose.check --data {root} lists them"
    lines = [f"catpose.fit: {name}: {splits[name].count()}" for name in ("train", "val")]
    skeleton = splits["train"].skeleton
    lines += [] if skeleton == AP10K else [f"catpose.fit: {skeleton.summary()}"]
    used = {name: split for name, split in splits.items() if name in ("train", "val", "test")}
    return used, [*lines, *([f"catpose.fit: {summary}"] if findings else [])]


def stopped(run: RunDirectory, how: str, code: int) -> int:
    """Say how a training was stopped and how it goes on; returns the exit code."""
    log.info("%s", how)
    remedy = "the same command goes on from its last checkpoint" if run.last.exists() else "no epoch was finished"
    print(f"catpose.fit: {how}; {remedy} ({run.path})", file=sys.stderr)
    return code


log = logging.getLogger("catpose")


class _Line(logging.Formatter):
    """A log line with nothing in it that steers a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextlib.contextmanager
def _logged_to(file: Path | None) -> Iterator[None]:
    """Send catpose's and Lightning's log lines, and warnings, to a file as well (to none where it is None)."""
    log.setLevel(logging.INFO)
    if file is None:
        yield
        return
    try:
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); choose another place with --out") from None
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk is the checkpoint's to tell
    handler.setFormatter(_Line("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.captureWarnings(True)
    loggers = [logging.getLogger(name) for name in ("catpose", "lightning.pytorch", "py.warnings")]
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)  # an evaluation may have silenced it
    for logger in loggers:
        logger.addHandler(handler)
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = before
        for logger in loggers:
            logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
        logging.captureWarnings(False)
