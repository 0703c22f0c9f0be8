"""Results as plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from catpose.errors import printable
from catpose.score.protocol import Score
from catpose.text import ends, metric, table

#: The metrics that are shown, in this order.
FAMILY = (
    *("AP", "AP50", "AP75", "AP_M", "AP_L", "AR"),
    *(
        "PCK@0.05",
        "PCK@0.1",
        "PCK@0.2",
        "mPCK@0.05",
        "mPCK@0.1",
        "mPCK@0.2",
        "PCK_eyes@0.05",
        "PCK_eyes@0.1",
        "PCK_eyes@0.2",
        "PCK_eyes@0.5",
    ),
    *("AUC", "NME", "NME_eyes", "EPE", "ECE"),
)


def score_table(values: Mapping[str, float | None], intervals: Mapping[str, tuple[float, float]] | None = None) -> str:
    """AP and its family, what rests on distances, then the AP of each keypoint; `values` by the names of the score.

    Args:
        intervals: 95 %, by the same names; they have a column of their own, and keypoints are left out.
    """
    rows = [(name, metric(values.get(name))) for name in FAMILY if name in values]
    if intervals is not None:
        spans = [ends(*intervals.get(name, (math.nan, math.nan)), metric) for name, _ in rows]
        return table([(*row, ends) for row, ends in zip(rows, spans, strict=True)], ("", "value", "95 % interval"))
    rows += [(f"  {key.removeprefix('AP/')}", metric(value)) for key, value in values.items() if key.startswith("AP/")]
    return table(rows, ("", "value"))


def closing_table(score: Score | None, steps: int, best: str, folder: Path) -> str:
    """What `fit` ends with: the last validation's score, the best one, and every file that was written.

    Args:
        score: None where nothing was validated.
        steps: of the run; the last validation may have been earlier.
        best: the model in best.ckpt, in words.
    """
    files = sorted(file for file in folder.glob("[!.]*") if file.is_file())  # not the lock of another process
    offline = sorted((folder / "wandb").glob("offline-run-*"))
    lines = [
        *(["", score_table(score.values), "", *_validation(score, steps)] if score else ["", "nothing was validated"]),
        f"best.ckpt: {best}",
        "files:",
        *(f"  {printable(file)}  {size(file)}" for file in files),
        *(f"  {run}  (W&B, offline; `wandb sync {run}` sends it)" for run in offline),
    ]
    return "\n".join(lines)


def _validation(score: Score, steps: int) -> list[str]:
    """What the last validation's AP is one of."""
    protocol, at = score.protocol, score.checkpoint
    moment = f"epoch {at['epoch']}, step {at['step']} of {steps}" if at else "an epoch that isn't known"
    count = f"{protocol.seen} of {protocol.instances} instances"
    if protocol.is_partial:
        return [f"AP {metric(score.values.get('AP'))} on {count} ({moment}): a part of the split, whose AP isn't known"]
    return [f"validation AP: last {metric(score.values.get('AP'))} on {count} ({moment})"]


def size(file: Path) -> str:
    """A file's size in MB or kB, 10⁶ or 10³ bytes."""
    n = file.stat().st_size
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{n / 1e3:.1f} kB"
