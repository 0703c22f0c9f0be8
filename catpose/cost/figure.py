"""Figures of what a model costs: its parts, its speed by batch size, its training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from catpose.cost.table import milliseconds, place, quantity, variant
from catpose.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    HEIGHT,
    NARROW,
    ORANGE,
    PURPLE,
    SERIES,
    VERMILION,
    Drawing,
    canvas,
    encoded,
    plain,
)

if TYPE_CHECKING:
    from catpose.cost.record import Complexity, Cost, Timing, TrainingStep

PHASE_COLOURS = {
    "waiting for data": GREY,
    "moving to the device": PURPLE,
    "forward": BLUE,
    "backward": ORANGE,
    "optimiser": GREEN,
    "in between": GRID,
}
AXES = {"latency": "time of a batch, ms (median; whisker: 95th percentile)", "throughput": "images a second"}
LABEL: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 6.5}
LINES = ("-", "--", ":", "-.")


def figures(cost: Cost) -> dict[str, Drawing]:
    """All figures of a model by their names, those left out for which nothing was measured."""
    size = f"{cost.complexity.width_px} × {cost.complexity.height_px} px"
    pictures = {"parts": draw_parts(cost.complexity, f"{cost.model}, {size}")}
    if cost.predictions:
        pictures["latency"] = draw_speed(cost.predictions, "latency", f"{cost.model}, {size}, {place(cost)}")
        pictures["throughput"] = draw_speed(cost.predictions, "throughput", f"{cost.model}, {size}, {place(cost)}")
    if cost.training:
        pictures["training_step"] = draw_training({cost.model: cost.training}, f"Training step, {size}, {place(cost)}")
    return pictures


def draw_parts(complexity: Complexity, title: str = "") -> Drawing:
    """Each part's share of parameters and of multiply–adds, with the figures beside the bars.

    Returns:
        "png" and "svg": the files' contents.
    """
    with plain():
        parts = complexity.parts
        figure, axes = canvas(max(HEIGHT, 1.2 + 0.36 * len(parts)), title, NARROW)
        most = 0.0
        for offset, colour, name, values, whole in (
            (-0.2, BLUE, "multiply–adds", [part.macs for part in parts], complexity.macs),
            (0.2, ORANGE, "parameters", [part.params for part in parts], complexity.params),
        ):
            shares = [100 * value / max(whole, 1) for value in values]
            places = [i + offset for i in range(len(parts))]
            axes.barh(places, shares, height=0.36, color=colour, label=f"{name}, {quantity(whole)} in all")
            for place, share, value in zip(places, shares, values, strict=True):
                axes.annotate(quantity(value), (share, place), (3, 0), **LABEL)
            most = max([most, *shares])
        axes.set_yticks(range(len(parts)), [part.name for part in parts], fontsize=7.5, parse_math=False)
        axes.set_ylim(len(parts) - 0.4, -0.6)
        axes.set_xlim(0, 1.18 * max(most, 1e-9))
        axes.set_xlabel("share, %", fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=7.5)
        return encoded(figure)


def draw_speed(timings: Sequence[Timing], what: Literal["latency", "throughput"], title: str = "") -> Drawing:
    """Time of a batch, or images a second, by batch size; a line for each kind and way of predicting.

    Returns:
        "png" and "svg": the files' contents.
    """
    with plain():
        lines: dict[tuple[str, str], list[Timing]] = {}
        for timing in timings:
            lines.setdefault((timing.kind, variant(timing)), []).append(timing)
        kinds = list(dict.fromkeys(kind for kind, _ in lines))
        variants = list(dict.fromkeys(way for _, way in lines))
        figure, axes = canvas(HEIGHT + 0.16 * len(lines), title, NARROW)
        for (kind, way), points in lines.items():
            points = sorted(points, key=lambda point: point.batch_size)
            look: dict[str, Any] = {
                "color": SERIES[kinds.index(kind) % len(SERIES)],
                "ls": LINES[variants.index(way) % len(LINES)],
                "marker": "osD^v"[kinds.index(kind) % 5],
                "ms": 4,
                "lw": 1.4,
                "label": f"{kind}, {way}",
            }
            x = [point.batch_size for point in points]
            if what == "latency":
                above = [max(0.0, point.p95_ms - point.p50_ms) for point in points]
                middle, whiskers = [point.p50_ms for point in points], [[0.0] * len(x), above]
                bars = axes.errorbar(x, middle, yerr=whiskers, capsize=2, elinewidth=0.8, **look)
                bars[2][0].set_linestyle("-")
            else:
                axes.plot(x, [point.images_per_s for point in points], **look)
        sizes = sorted({timing.batch_size for timing in timings})
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xticks([], minor=True)
        axes.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
        if what == "latency":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(0, None)
        axes.set_xlabel("batch size", fontsize=8)
        axes.set_ylabel(AXES[what], fontsize=8)
        axes.grid(color=GRID, lw=0.6)
        figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=7.5)
        return encoded(figure)


def draw_training(steps: Mapping[str, TrainingStep], title: str = "") -> Drawing:
    """A training step of each model as a bar, made of its phases' medians, ms an image.

    Returns:
        "png" and "svg": the files' contents.
    """
    with plain():
        figure, axes = canvas(1.5 + 0.5 * len(steps), title, NARROW)
        names = list(dict.fromkeys(phase.name for step in steps.values() for phase in step.phases))
        ends = [0.0] * len(steps)
        for name in names:
            widths = [
                sum(phase.median_ms for phase in step.phases if phase.name == name) / step.batch_size
                for step in steps.values()
            ]
            axes.barh(range(len(steps)), widths, 0.6, ends, color=PHASE_COLOURS.get(name, VERMILION), label=name)
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
        for y, end in enumerate(ends):
            axes.annotate(f"{milliseconds(end)} ms", (end, y), (3, 0), **LABEL)
        axes.set_yticks(
            range(len(steps)), [f"{name}\nbatch {step.batch_size}" for name, step in steps.items()], fontsize=7.5,
            parse_math=False,
        )  # fmt: skip
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.set_xlim(0, 1.15 * max([*ends, 1e-9]))
        axes.set_xlabel("ms an image", fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=7.5)
        return encoded(figure)
