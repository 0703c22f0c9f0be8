"""The figure of accuracy against cost, with its Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from catpose.figures.canvas import BLUE, GREY, GRID, INK, PAPER, Drawing, canvas, encoded, limits, plain
from catpose.figures.configurations import AXIS, Mark, height, wrapped


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
        if each and min(each) > 0 and max(each) > 20 * min(each):
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
