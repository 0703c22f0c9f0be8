"""Results as plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from catpose.skeleton import KEYPOINTS

#: The figures that are shown, in this order.
FAMILY = (
    *("AP", "AP50", "AP75", "AP_M", "AP_L", "AR"),
    *(
        "PCK@0.05",
        "PCK@0.1",
        "PCK@0.2",
        "mPCK@0.05",
        "mPCK@0.1",
        "mPCK@0.2",
        "PCKh@0.05",
        "PCKh@0.1",
        "PCKh@0.2",
        "PCKh@0.5",
    ),
    *("AUC", "NME", "NMEh", "EPE", "ECE"),
)


def figure(value: float | None) -> str:
    """A number of a table; blank where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:.4f}" if abs(value) <= 1 else f"{value:.4g}"


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Rows of text under a header, columns aligned, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(n) for cell, n in zip(row[1:], widths[1:], strict=True))])
        for row in [header, tuple("-" * width for width in widths), *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def score_table(
    values: Mapping[str, float | None], prefix: str = "", intervals: Mapping[str, tuple[float, float]] | None = None
) -> str:
    """AP and its family, what rests on distances, then the AP of each keypoint; `values` by the names of the score.

    Args:
        intervals: 95 %, by the same names; they have a column of their own, and keypoints are left out.
    """
    rows = [(name, figure(values.get(prefix + name))) for name in FAMILY if prefix + name in values]
    if intervals is not None:
        spans = [span(intervals.get(prefix + name)) for name, _ in rows]
        return table([(*row, ends) for row, ends in zip(rows, spans, strict=True)], ("", "value", "95 % interval"))
    per_keypoint = {name: values.get(f"{prefix}AP/{name}") for name in KEYPOINTS if f"{prefix}AP/{name}" in values}
    rows += [(f"  {name}", figure(value)) for name, value in per_keypoint.items()]
    return table(rows, ("", "value"))


def span(ends: tuple[float, float] | None) -> str:
    """An interval of a table; blank where there is none."""
    return "" if ends is None or any(map(math.isnan, ends)) else f"[{figure(ends[0])}, {figure(ends[1])}]"


def closing_table(metrics: Mapping[str, float], best_ap: float, best_epoch: int, folder: Path) -> str:
    """What `fit` ends with: the last epoch's score, the best epoch, and every file that was written."""
    files = sorted(file for file in folder.glob("*") if file.is_file())
    offline = sorted((folder / "wandb").glob("offline-run-*"))
    lines = [
        "",
        score_table(metrics, "val/"),
        "",
        f"validation AP: last epoch {figure(metrics.get('val/AP'))}, best {figure(best_ap)} in epoch {best_epoch}",
        "files:",
        *(f"  {file}  {size(file)}" for file in files),
        *(f"  {run}  (W&B, offline; `wandb sync {run}` sends it)" for run in offline),
    ]
    return "\n".join(lines)


def size(file: Path) -> str:
    n = file.stat().st_size
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{n / 1e3:.1f} kB"
