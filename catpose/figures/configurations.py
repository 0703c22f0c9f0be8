"""The figure of a comparison: each configuration's AP with its interval."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catpose.figures.canvas import (
    BLUE,
    GREY,
    GRID,
    HEIGHT,
    PAPER,
    VERMILION,
    WIDTH,
    Drawing,
    canvas,
    encoded,
    limits,
    plain,
)

AXIS = "validation AP"
LINE = 28  # characters of a label's line


@dataclass(frozen=True)
class Mark:
    """A configuration as it is drawn; nan where a number isn't known."""

    label: str
    value: float  # mean AP
    low: float  # of its interval
    high: float
    points: tuple[float, ...] = ()  # the AP of each seed
    published: float = math.nan
    cost: float = math.nan
    reference: bool = False
    front: bool = False


def draw_configurations(marks: Sequence[Mark], title: str = "", width: float = WIDTH) -> Drawing:
    """Mean and interval of each configuration, each seed as a dot, a published value as a hollow mark.

    Returns:
        "png" and "svg": the files' contents.
    """
    with plain():
        labels = [wrapped(mark.label + (" (reference)" if mark.reference else "")) for mark in marks]
        figure, axes = canvas(height(labels, gap=0.08), title, width)
        size = 8.0 if len(marks) <= 8 else 7.0
        handles: dict[str, Any] = {}
        for y, mark in enumerate(marks):
            if mark.reference and not math.isnan(mark.value):
                handles["the reference's mean"] = axes.axvline(mark.value, color=GREY, lw=0.8, ls="--", zorder=0)
            if not math.isnan(mark.published):
                (handles["published elsewhere"],) = axes.plot(
                    mark.published, y, "D", ms=5.5, mfc="none", mec=VERMILION, mew=1.2, ls="none", zorder=4
                )
            if len(mark.points) > 1:
                below = [y + 0.24] * len(mark.points)
                (handles["one seed"],) = axes.plot(
                    mark.points, below, "o", ms=3, color=GREY, mew=0, alpha=0.8, ls="none"
                )
            if math.isnan(mark.value):
                axes.text(
                    0.01, y, "no complete trial", transform=axes.get_yaxis_transform(), va="center", color=GREY,
                    fontsize=size - 1, style="italic", bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
                )  # fmt: skip
                continue
            if not math.isnan(mark.low):
                axes.plot([mark.low, mark.high], [y, y], "-", color=BLUE, lw=1.6, solid_capstyle="butt", zorder=2)
                axes.plot([mark.low, mark.high], [y, y], "|", color=BLUE, ms=6, mew=1.6, ls="none", zorder=2)
            name = "mean, 95 % interval" if not math.isnan(mark.low) else "mean"
            (dot,) = axes.plot(mark.value, y, "o", ms=5, color=BLUE, ls="none", zorder=3)
            handles.setdefault(name, dot)
        axes.set_yticks(range(len(marks)), labels, fontsize=size, parse_math=False)
        axes.set_ylim(max(len(marks), 1) - 0.5, -0.5)
        axes.set_xlim(*limits([v for m in marks for v in (m.value, m.low, m.high, m.published, *m.points)]))
        axes.set_xlabel(AXIS)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.tick_params(axis="y", length=0)
        order = ("mean, 95 % interval", "mean", "one seed", "published elsewhere", "the reference's mean")
        entries = [(handles[name], name) for name in order if name in handles]
        if entries:
            figure.legend(*zip(*entries, strict=True), loc="outside lower center", ncols=4, frameon=False, fontsize=7.5)
        return encoded(figure)


def wrapped(label: str, indent: str = "") -> str:
    """A label in at most four lines; of a longer one the end stays too."""
    lines = textwrap.wrap(label, LINE, subsequent_indent=indent)
    return "\n".join(lines if len(lines) <= 4 else [*lines[:2], f"{indent}…", lines[-1]])


def height(labels: Sequence[str], gap: float = 0.0) -> float:
    """Inches that a figure with these beside it needs."""
    return max(HEIGHT, 1.1 + sum(gap + 0.13 * (label.count("\n") + 1) for label in labels))
