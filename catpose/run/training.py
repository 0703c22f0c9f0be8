"""The body of `fit`: settings and data checked, the run's directory opened or taken up again, trained, summed up."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from catpose.data.checks import quick_findings
from catpose.data.coco import split_file
from catpose.errors import INTERRUPTED, InputError
from catpose.run.callbacks import BestAndLast, History, Overlays, Score, StopWhenAsked
from catpose.run.checkpoint import require_resumable
from catpose.run.cli import FitCLI, input_error
from catpose.run.directory import RunDirectory
from catpose.run.figures import FinalFigures
from catpose.run.wandb import closed_wandb

TERMINATED = 143  # 128 + SIGTERM, as a shell says it


@dataclass(frozen=True)
class Trained:
    """What a finished run came to."""

    run: RunDirectory
    metrics: dict[str, float]  # the last epoch's, by name
    best_ap: float
    best_epoch: int


def train(argv: list[str]) -> Trained:
    """Train as `fit`'s command line says; go on where the run's directory holds a checkpoint.

    Args:
        argv: the words after `python -m catpose.fit`.

    Raises:
        InputError: settings, data or a run's directory that can't be used.
        SystemExit: interrupted by Ctrl-C (130) or SIGTERM (143); the same command goes on.
    """
    cli = FitCLI(argv)
    run, settings = RunDirectory(cli.out, cli.config.wandb.id), cli.resolved()
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    if first:
        run.check(settings)
    refuse_broken_data(Path(cli.config.data.root))
    resume = run.last.exists()
    best = BestAndLast(run, yaml.safe_dump(settings, sort_keys=False))
    callbacks = [Score(run), Overlays(), History(run), best, StopWhenAsked(run), FinalFigures(run)]
    cli.build(run, callbacks, resume)
    if resume:
        require_resumable(run.last, cli.model)
    try:
        if first:
            run.open(settings, argv)
        with logged_to(run.log if first else None), closed_wandb():
            for logger in cli.trainer.loggers:
                logger.log_hyperparams(settings)
            fit(cli, run, resume)
            log.info("finished: best val/AP %.4f in epoch %d", best.best_ap, best.best_epoch)
    except InputError:
        if first:
            run.discard()
        raise
    metrics = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    return Trained(run, metrics, best.best_ap, best.best_epoch)


def fit(cli: FitCLI, run: RunDirectory, resume: bool) -> None:
    """Lightning's `fit`, its ways to end told apart; raises as `train`."""
    log.info("%s %s", "resumed in" if resume else "started in", run.path)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=run.last if resume else None, weights_only=True)
    except SIGTERMException:
        raise SystemExit(stopped(run, "terminated", TERMINATED)) from None
    except SystemExit:  # Lightning's way to leave after Ctrl-C
        if cli.trainer.interrupted:
            raise SystemExit(stopped(run, "interrupted", INTERRUPTED)) from None
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            f"the GPU's memory is too small: {str(error).splitlines()[0]} Lower data.batch_size"
            f" ({cli.config.data.batch_size}), data.input_size or set trainer.precision to 16-mixed"
        ) from error
    except MisconfigurationException as error:
        raise input_error(error, cli.config.trainer) from error


def refuse_broken_data(root: Path) -> None:
    """InputError with the first error that the quick part of `catpose.check` finds in a data folder."""
    errors = [finding for finding in quick_findings(root) if finding.severity == "error"]
    if errors:
        first = errors[0]
        where = "" if first.kind == "unreadable file" else f"{root}: {first.split}: {first.where}: "
        more = f" (and {len(errors) - 1} more errors: python -m catpose.check --data {root})" if len(errors) > 1 else ""
        raise InputError(f"{where}{first.message}{more}")
    for split in ("train", "val"):
        split_file(root, split)


def stopped(run: RunDirectory, how: str, code: int) -> int:
    log.info("%s", how)
    remedy = "the same command goes on after its last finished epoch" if run.last.exists() else "no epoch was finished"
    print(f"catpose.fit: {how}; {remedy} ({run.path})", file=sys.stderr)
    return code


log = logging.getLogger("catpose")


@contextlib.contextmanager
def logged_to(file: Path | None) -> Iterator[None]:
    """Send catpose's and Lightning's log lines, and warnings, to a file as well (to none where it is None)."""
    log.setLevel(logging.INFO)
    log.propagate = False
    if file is None:
        yield
        return
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.captureWarnings(True)
    loggers = [logging.getLogger(name) for name in ("catpose", "lightning.pytorch", "py.warnings")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
        logging.captureWarnings(False)
