"""The figures of a comparison: each configuration's AP with its interval, one beneath the other or against a number,
AP against cost with the Pareto front, and learning curves."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catpose.figures.canvas import (
    BLUE,
    GREY,
    GRID,
    HEIGHT,
    INK,
    NARROW,
    PAPER,
    SERIES,
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
MARKERS = "os^Dv*"  # of lines, one for each of SERIES


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


def draw_trends(
    trends: Mapping[str, Sequence[tuple[float, Mark]]], axis: str, title: str = "", width: float = WIDTH
) -> Drawing:
    """Mean and interval of configurations against a number, a line for each of what else they differ in, seeds as dots.

    Lines stand a little beside one another, so that no interval hides another's.

    Args:
        trends: for each line, (number, configuration) pairs by the number; at most as many lines as `SERIES`.
        axis: the number's name.

    Returns:
        "png" and "svg": the files' contents.
    """
    with plain():
        figure, axes = canvas(HEIGHT + 0.4, title, width)
        ticks = sorted({number for line in trends.values() for number, _ in line})
        low, high = ticks[0], ticks[-1]
        log = _is_wide(low, high)
        for i, (label, line) in enumerate(trends.items()):
            colour, aside = SERIES[i], 0.01 * (i - (len(trends) - 1) / 2)
            known = [(number, mark) for number, mark in line if not math.isnan(mark.value)]
            places = [x * (high / low) ** aside if log else x + (high - low) * aside for x, _ in known]
            for x, (_, mark) in zip(places, known, strict=True):
                axes.plot([x] * len(mark.points), mark.points, "o", ms=2.5, color=colour, mew=0, alpha=0.5, zorder=2)
                axes.plot([x, x], [mark.low, mark.high], "-", color=colour, lw=1.0, alpha=0.8, zorder=1)
            values = [mark.value for _, mark in known]
            axes.plot(
                places, values, "-", marker=MARKERS[i], ms=5, color=colour, lw=1.4, zorder=3, label=wrapped(label)
            )
        if log:
            axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(*limits([v for line in trends.values() for _, m in line for v in (m.low, m.high, *m.points)]))
        axes.set_xlabel(axis, parse_math=False)
        axes.set_ylabel(f"{AXIS}: mean, 95 % interval, seeds")
        axes.grid(color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        longest = max(min(len(label), LINE) for label in trends)
        columns = max(1, min(4, int(width / (0.6 + 0.06 * longest))))  # a mark's inches, and a character's
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=7.5)
        return encoded(figure)


def _is_wide(low: float, high: float) -> bool:
    """Whether an axis from the one to the other is better logarithmic."""
    return 0 < 20 * low < high


def wrapped(label: str, indent: str = "") -> str:
    """A label in at most four lines; of a longer one the end stays too."""
    lines = textwrap.wrap(label, LINE, subsequent_indent=indent)
    return "\n".join(lines if len(lines) <= 4 else [*lines[:2], f"{indent}…", lines[-1]])


def height(labels: Sequence[str], gap: float = 0.0) -> float:
    """Inches that a figure with these beside it needs."""
    return max(HEIGHT, 1.1 + sum(gap + 0.13 * (label.count("\n") + 1) for label in labels))


def draw_pareto(marks: Sequence[Mark], cost: str, title: str = "") -> Drawing:
    """Accuracy against cost, the front joined by a dotted line; configurations are numbered, and listed beside.

    Args:
        cost: the axis' name.

    Returns:
        "png" and "svg": the files' contents.
    """
    with plain():
        numbered = list(enumerate(marks, 1))
        known = [(i, m) for i, m in numbered if not math.isnan(m.value) and not math.isnan(m.cost)]
        missing = {i: "" if (i, m) in known else "(no value) " for i, m in numbered}
        key = [wrapped(f"{i}  {missing[i]}{m.label}", "      ") for i, m in numbered]
        figure, axes = canvas(height(key), title)
        best = sorted(((m.cost, m.value) for _, m in known if m.front), key=lambda point: point[0])
        if best:
            axes.plot(*zip(*best, strict=True), ":", color=BLUE, lw=1.2, zorder=1)
        for i, mark in known:
            colour = BLUE if mark.front else GREY
            if not math.isnan(mark.low):
                axes.plot([mark.cost] * 2, [mark.low, mark.high], "-", color=colour, lw=1.2, zorder=2)
            axes.plot(mark.cost, mark.value, "o", ms=5, color=colour, mfc=colour if mark.front else PAPER, zorder=3)
            axes.annotate(
                str(i), (mark.cost, mark.value), (4, 3), textcoords="offset points", fontsize=8, color=INK, zorder=4
            )
        each = [m.cost for _, m in known]
        if each and _is_wide(min(each), max(each)):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.1)
        axes.set_ylim(*limits([v for _, m in known for v in (m.value, m.low, m.high)]))
        axes.set_xlabel(cost)
        axes.set_ylabel(AXIS)
        axes.grid(color=GRID, lw=0.6)
        place: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "fontsize": 7.0, "linespacing": 1.35}
        axes.text(1.03, 1.0, "\n".join(key), parse_math=False, **place)
        return encoded(figure)


#: Lines of more models than this are thin and grey but for the last.
MOST = len(SERIES)

Curves = Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]


def draw_curves(curves: Curves, what: str, log: bool = False) -> Drawing:
    """One quantity by epoch.

    Args:
        curves: for each model, a (epochs, values) pair a seed, nan where a value is unknown.
        what: the quantity.
        log: whether its axis is logarithmic, as learning rates need it.

    Returns:
        "png" and "svg": the files' contents.
    """
    import matplotlib as mpl

    with plain():
        figure, axes = canvas(2.9 + 0.16 * ((len(curves) + 1) // 2), width=NARROW)
        for i, (label, seeds) in enumerate(curves.items()):
            colour, dashes = SERIES[i % MOST], "-" if i < MOST else "--"
            for j, (epochs, values) in enumerate(seeds):
                marker = "o" if len(epochs) < 2 else ""
                axes.plot(
                    epochs, values, dashes, color=colour, lw=1.3, alpha=0.9 if len(seeds) == 1 else 0.65,
                    marker=marker, ms=4, label=label if j == 0 else None,
                )  # fmt: skip
        if log:
            axes.set_yscale("log")
        axes.set_xlabel("epoch", fontsize=8.5)
        axes.set_ylabel(what, fontsize=8.5)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        axes.grid(color=GRID, lw=0.6)
        if len(curves) > 1:
            figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7.5)
        return encoded(figure)
