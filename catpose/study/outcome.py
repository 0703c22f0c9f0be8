"""What a trial's `fit` came to, read from the files that it left."""

from __future__ import annotations

import math
import os
import signal
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from catpose.errors import BAD_INPUT, LONGEST_REASON, InputError, one_line
from catpose.files import LARGEST_RECORD, read_json
from catpose.run.directory import RunDirectory, lacking
from catpose.score.protocol import Score
from catpose.study.stored import Outcome

#: Of a log, the bytes at its end that are looked at.
TAIL = 100_000


@dataclass(frozen=True)
class Ended:
    """How a trial's process ended, and what came of it."""

    how: Literal["complete", "pruned", "early", "failed", "vanished", "stopped", "fenced"]
    outcome: Outcome
    results: bytes | None = None
    is_refused: bool = False  # `fit` took it for bad input


def failure(code: int, reason: str, outcome: Outcome) -> Ended:
    """How a process ended whose exit code isn't 0.

    Args:
        reason: why, as it was written down.
        outcome: what is known of it beside.
    """
    if code == BAD_INPUT:
        return Ended("failed", outcome.model_copy(update={"reason": reason}), is_refused=True)
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        name = signal.Signals(number).name if number in {*map(int, signal.Signals)} else f"signal {number}"
        return Ended("vanished", outcome.model_copy(update={"reason": f"its process was ended by {name}"}))
    return Ended("failed", outcome.model_copy(update={"reason": f"exit code {code}: {reason}"}))


def result(run: RunDirectory, metric: str, outcome: Outcome, is_pruned: bool) -> Ended:
    """What a run that ended well came to.

    Args:
        metric: the one that judges it (`val/AP`).
        outcome: what is known of it beside.
        is_pruned: it was asked to end.
    """
    try:
        if run.lineages > 1:
            raise InputError("it went on under other settings with --new-lineage, so that it is no trial of this study")
        history = run.history()
        short = lacking(run.settings, history)
        protocol = Score.read(run.val_score).protocol
        if protocol.is_partial:
            raise InputError(f"its validation looked at {protocol.seen} of {protocol.instances} instances")
        if short is None and not history[-1].get(metric):
            raise InputError("its last epoch wasn't validated; see trainer.val_check_interval, check_val_every_n_epoch")
        rows = [row for row in history if row.get(metric)]
        last = rows[-1]
        aps = [(float(row["val/AP"]), row["epoch"]) for row in run.rows() if row.get("val/AP")]  # within epochs, too
        best = max((each for each in aps if not math.isnan(each[0])), key=lambda each: each[0], default=None)
        found = {
            "values": {key: float(v) for key, v in last.items() if key.startswith(("val/", "train/")) and v},
            "best_ap": best[0] if best else None,
            "best_epoch": int(best[1]) if best else None,
            "epochs": int(last["epoch"]) + 1,
            "seconds": round(sum(float(row["epoch_seconds"]) for row in history), 1),
            "protocol": asdict(protocol),
            "wandb_id": run.wandb_id,
            "versions": run.versions,
        }
        results = zlib.compress(run.val_results.read_bytes())
    except (InputError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{run.path}: no {metric} was left behind ({one_line(error)[:120]})"
        return Ended("failed", outcome.model_copy(update={"reason": reason}))
    if short is None:  # one that was to be pruned with its last epoch too
        return Ended("complete", outcome.model_copy(update=found), results)
    reason = f"pruned after epoch {last['epoch']}" if is_pruned else short
    return Ended("pruned" if is_pruned else "early", outcome.model_copy(update={**found, "reason": reason}), results)


def epochs(folder: Path, metric: str, after: int) -> list[tuple[int, float]]:
    """Epoch and metric of a run's finished epochs after one, as far as they were validated."""
    try:
        rows = RunDirectory(folder).history()
    except InputError:
        return []
    found = [(int(row["epoch"]), float(row[metric])) for row in rows if row.get(metric)]
    return [(epoch, value) for epoch, value in found if epoch > after]


def reason_of(file: Path) -> str | None:
    """Why a command failed, as it wrote down by itself; None where it didn't live to."""
    try:
        return one_line(read_json(file, LARGEST_RECORD)["error"])[:LONGEST_REASON] or None
    except (InputError, LookupError, TypeError):
        return None


def last_words(log: Path, start: int) -> str:
    """What stands in the place of a reason that nobody wrote down: the last whole line that a process printed.

    Lines that were written over, as a progress bar's, are none of them.

    Args:
        start: the byte of the log at which the process began.
    """
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - TAIL))
        printed = file.read().decode("utf-8", "replace")
    lines = [one_line(text) for text in printed.split("\n") if "\r" not in text.rstrip("\r")]
    last = next((text for text in reversed(lines) if text), None)
    return f"it gave no reason; its last line: {last[:500]}" if last else "it gave no reason, and printed nothing"
