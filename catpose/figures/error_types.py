"""Figures of errors: the error types of each keypoint, the ΔAP of each type, and AP by slice."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from catpose.figures.canvas import (
    GREY,
    GRID,
    INK,
    NARROW,
    ORANGE,
    PAPER,
    PURPLE,
    SERIES,
    SKY,
    VERMILION,
    Drawing,
    canvas,
    encoded,
    limits,
    plain,
)
from catpose.score.error_types import ERROR_TYPES
from catpose.skeleton import Skeleton

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Left beside right, from head to tail.
GROUPS = {
    "face": ("left_eye", "right_eye", "nose"),
    "trunk": ("neck", "root_of_tail"),
    "front legs": (
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_front_paw", "right_front_paw"),
    ),
    "hind legs": (*("left_hip", "right_hip", "left_knee", "right_knee", "left_back_paw", "right_back_paw"),),
}
COLOURS = dict(zip(ERROR_TYPES, (GRID, SKY, ORANGE, PURPLE, VERMILION), strict=True))
#: In words, below the name.
MEANING = {
    "miss": "near nothing",
    "swap": "on another animal",
    "inversion": "left for right",
    "jitter": "near, not good",
    "score": "wrongly ranked",
    "false positives": "animals that are none",
    "false negatives": "animals not found",
}
MARKERS = "osD^v<"
ROW, SIZE = 0.19, 8.0  # inches of a row, points of its text
DOT: dict[str, Any] = {"ms": 4.5, "mec": PAPER, "mew": 0.4}
LINE: dict[str, Any] = {"lw": 1.4}


class Estimate(Protocol):
    """A number and its interval; nan where not known."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Row:
    """A slice of the instances."""

    label: str
    n: int  # instances
    estimates: tuple[Estimate, ...]  # one for each model


def groups_of(skeleton: Skeleton) -> dict[str, tuple[str, ...]]:
    """The keypoints' names by part of the body: those of `GROUPS` that the skeleton has, then all others."""
    known = {heading: tuple(name for name in names if name in skeleton.names) for heading, names in GROUPS.items()}
    others = tuple(name for name in skeleton.names if not any(name in names for names in known.values()))
    return {heading: names for heading, names in {**known, "others": others}.items() if names}


def draw_error_types(error_types: np.ndarray, skeleton: Skeleton) -> Drawing:
    """What part of each keypoint's predictions is good, jitter, inversion, swap, miss, as bars; their number beside.

    Args:
        error_types: (N, K) int8, as of `catpose.score.error_types`.

    Returns:
        "png" and "svg": the files' contents.
    """
    columns = {"": np.arange(len(skeleton))} | {name: np.array([k]) for k, name in enumerate(skeleton.names)}
    each = {name: error_types[:, at] for name, at in columns.items()}
    counts = {name: np.bincount(types[types >= 0], minlength=len(ERROR_TYPES)) for name, types in each.items()}
    with plain():
        blocks = {"": ("",), **groups_of(skeleton)}
        places = _places({heading: len(names) for heading, names in blocks.items()})
        figure, axes = canvas(ROW * (places.rows + 4), width=NARROW)
        order = [name for names in blocks.values() for name in names]
        for y, name in zip(places.at, order, strict=True):
            total = max(1, counts[name].sum())
            left = 0.0
            for kind, count in zip(ERROR_TYPES, counts[name].tolist(), strict=True):
                share = 100 * count / total
                axes.barh(y, share, 0.78, left, color=COLOURS[kind], edgecolor=PAPER, linewidth=0.6)
                left += share
        for kind in ERROR_TYPES:
            axes.barh(math.nan, 0, color=COLOURS[kind], label=kind)
        labels = [f"{name.replace('_', ' ') or 'all'} ({counts[name].sum()})" for name in order]
        _rows(axes, places, labels)
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the labelled keypoints", fontsize=SIZE)
        figure.legend(
            loc="outside lower center", ncols=len(ERROR_TYPES), frameon=False, fontsize=SIZE, handlelength=1.0,
            columnspacing=1.0, handletextpad=0.4,
        )  # fmt: skip
        return encoded(figure)


def draw_delta_ap(models: Sequence[str], errors: Mapping[str, Sequence[Estimate]]) -> Drawing:
    """ΔAP of each error type: dots with intervals.

    Args:
        errors: by `catpose.score.error_types.ERRORS`, or those of them to show: one estimate for each model.

    Returns:
        "png" and "svg": the files' contents.
    """
    rows = [(f"{error}\n({MEANING[error]})", tuple(estimates)) for error, estimates in errors.items()]
    return _dots(models, {"": rows}, "ΔAP, were this error type corrected", zero=True)


def draw_slices(models: Sequence[str], slices: Mapping[str, Sequence[Row]]) -> Drawing:
    """AP on each slice of the instances: dots with intervals, the number of instances beside.

    Args:
        slices: by what they are slices of, which stands above its rows; "" for none.

    Returns:
        "png" and "svg": the files' contents.
    """
    blocks = {name: [(f"{row.label} ({row.n})", row.estimates) for row in rows] for name, rows in slices.items()}
    return _dots(models, blocks, "AP")


def _dots(
    models: Sequence[str],
    blocks: Mapping[str, Sequence[tuple[str, tuple[Estimate, ...]]]],
    axis: str,
    zero: bool = False,
) -> Drawing:
    with plain():
        places = _places({heading: len(rows) for heading, rows in blocks.items()})
        rows = [row for block in blocks.values() for row in block]
        thick = max(1.0, 0.55 * len(models), 0.9 * max((label.count("\n") + 1 for label, _ in rows), default=1))
        named = len(models) > 1
        figure, axes = canvas(ROW * (thick * places.rows + 4 + 0.8 * named * len(models)), width=NARROW)
        if zero:
            axes.axvline(0, color=GREY, lw=0.8, zorder=0)
        known = [0.0] if zero else []
        for y, (_, estimates) in zip(places.at, rows, strict=True):
            for i, estimate in enumerate(estimates):
                at = y + 0.7 * ((i + 0.5) / len(models) - 0.5)
                axes.plot([estimate.low, estimate.high], [at, at], "-", zorder=2, **LINE, color=_colour(i))
                axes.plot(estimate.value, at, _marker(i), zorder=3, **DOT, color=_colour(i))
                known += [estimate.value, estimate.low, estimate.high]
        for i, model in enumerate(models):
            axes.plot(
                [], [], _marker(i) + "-", **DOT, **LINE, color=_colour(i), label="\n".join(textwrap.wrap(model, 46)[:2])
            )
        _rows(axes, places, [label for label, _ in rows])
        axes.set_xlim(*limits(known))
        axes.set_xlabel(axis, fontsize=SIZE)
        axes.grid(axis="x", color=GRID, lw=0.6)
        if named:
            legend = figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=SIZE)
            for text in legend.get_texts():
                text.set_parse_math(False)
        return encoded(figure)


@dataclass(frozen=True)
class _Places:
    at: list[float]  # y of each row
    headings: dict[str, float]  # y of each heading
    rows: float  # height of all


def _places(blocks: Mapping[str, int]) -> _Places:
    """Rows below each other, those of a block under its heading."""
    at: list[float] = []
    headings: dict[str, float] = {}
    y = 0.0
    for heading, n in blocks.items():
        if heading:
            headings[heading] = y + 0.15
            y += 1.0
        at += [y + i for i in range(n)]
        y += n
    return _Places(at, headings, y)


def _rows(axes: Axes, places: _Places, labels: Sequence[str]) -> None:
    at = [*places.at, *places.headings.values()]
    axes.set_yticks(at, [*labels, *places.headings], fontsize=SIZE, parse_math=False)
    for label in axes.get_yticklabels()[len(labels) :]:
        label.set_fontweight("bold")
        label.set_color(INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(places.rows - 0.4, -0.6)
    axes.spines["left"].set_visible(False)


def _colour(i: int) -> str:
    return SERIES[i % len(SERIES)]


def _marker(i: int) -> str:
    return MARKERS[i % len(MARKERS)]
